"""`pgbench worker`: what `--engine local` starts; nobody types it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pgbench.cli import stopping, streams
from pgbench.errors import OK

Pipe = Annotated[int, typer.Argument(help="The file descriptor that reports are written to.", min=3)]


def worker(reports: Pipe) -> int:
    """Run the cells that come on stdin; started by a sweep, for the devices of this machine."""
    with streams.stdout_on_stderr(), stopping.at_batch_end() as stop:
        from pgbench.engines.serving import serve

        jobs = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # a task that reads stdin shall not take a cell away
        os.close(nothing)
        serve(jobs, reports, stop)
    return OK
