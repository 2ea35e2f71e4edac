"""`pgbench status`: how far a sweep is, while it runs and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import OK


def status(
    folder: Annotated[Path, typer.Argument(help="The --out of a sweep or of runs.")] = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Cells done, running, stopped, failed and waiting, samples a second, time left. Writes nothing."""
    from pgbench.report.render import printable, terminal
    from pgbench.report.sweep_json import of_status as as_document
    from pgbench.report.sweep_table import of_status
    from pgbench.sweeping.status import read_status

    found = read_status(folder)
    if as_json:
        streams.print_json(as_document(found))
    elif found.cells:
        print(terminal(of_status(found)))
    else:
        print(f"no runs below {printable(str(folder))}")
    return OK
