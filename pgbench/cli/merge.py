"""`pgbench merge`: shards made into records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import INCOMPLETE, OK, DataError

if TYPE_CHECKING:
    from pgbench.merging import Merged


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders that shards were written to (--out).")],
    out: Annotated[
        Path | None, typer.Option(help="Where the records go. [default: the first folder]")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Folder of original data; may be given again for more.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="The file of a task that is not installed.")
    ] = None,
    as_json: flags.Json = False,
) -> int:
    """Make the record of every run whose shards (pgbench run --shard i/n) are all there."""
    from pgbench.merging import merge as merge_all

    with streams.stdout_on_stderr():
        found = merge_all(folders, out, data=data or (), task_files=task or ())
    if not found:
        raise DataError(f"no run below {', '.join(map(str, folders))}; name what pgbench run had as --out")
    bad = [one for one in found if one.state not in ("merged", "done")]
    _tell(found, as_json)
    return INCOMPLETE if bad else OK


def _tell(found: Sequence[Merged], as_json: bool) -> None:
    from pgbench.report.render import printable, terminal
    from pgbench.report.table import of_record
    from pgbench.store import plain

    if as_json:
        runs = [
            {
                "run": str(one.folder),
                "state": one.state,
                "reason": one.reason,
                "record": plain(one.record) if one.record else None,
            }
            for one in found
        ]
        streams.print_json({"runs": runs})
        return
    for one in found:
        if one.record is not None:
            print(terminal(of_record(one.record)))
            print(f"{'merged' if one.state == 'merged' else 'already done'}: {printable(str(one.folder))}\n")
        else:
            print(f"pgbench: {printable(f'{one.folder}: {one.reason}')}", file=sys.stderr)
