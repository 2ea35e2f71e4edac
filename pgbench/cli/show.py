"""`pgbench show`: a stored run again, and its worst answers."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import StoreError

if TYPE_CHECKING:
    from pgbench.records import RunRecord, SampleLine
    from pgbench.report.table import Table


def show(
    run: Annotated[Path, typer.Argument(help="A run folder, or a file in it.")],
    wrong: Annotated[int, typer.Option(min=0, help="Also the N answers that scored lowest.")] = 0,
    by: Annotated[str | None, typer.Option(help="Every metric of one breakdown, answer_type say.")] = None,
    as_json: flags.Json = False,
) -> None:
    """Show the record of a run, with --wrong its worst answers, with --by one breakdown in full."""
    from pgbench import store
    from pgbench.report.table import by_group, of_record

    folder = run.parent if run.is_file() else run
    record = store.read_record(folder)
    if record is None:
        raise StoreError(_unfinished(folder))
    table = of_record(record) if by is None else by_group(record, by)
    worst = _worst(folder, record.primary, wrong) if wrong else []
    if as_json:
        answers = [store.plain(line) for line in worst]
        document = {"run": str(folder), "record": store.plain(record), "wrong": answers}
        streams.print_json(document)
    else:
        _print(table, record, worst)


def _unfinished(folder: Path) -> str:
    from pgbench.store import read_lines

    if not (folder / "spec.json").is_file():
        return f"{folder} is no run folder: it has no spec.json and no record.json"
    kept = sum(1 for _ in read_lines(folder))
    return f"{folder} is not finished: {kept:,} answers so far; run the same command again"


def _worst(folder: Path, metric: str, count: int) -> list[SampleLine]:
    """The answers below full marks that scored lowest, failures first, then in the order of the run."""
    from pgbench.store import read_lines

    scored = [line for line in read_lines(folder) if _share(line, metric) is not None]
    below = [line for line in scored if line.error is not None or (_share(line, metric) or 0.0) < 1.0]
    return heapq.nsmallest(count, below, key=lambda line: (line.error is None, _share(line, metric)))


def _share(line: SampleLine, metric: str) -> float | None:
    sums = line.stats.get(metric, {})
    return sums["sum"] / sums["n"] if sums.get("n") else None


def _print(table: Table, record: RunRecord, worst: list[SampleLine]) -> None:
    from pgbench.report.render import printable, terminal

    print(terminal(table))
    for line in worst:
        target = line.target if isinstance(line.target, str) else " | ".join(dict.fromkeys(line.target or ()))
        said = f"failed: {line.error}" if line.error else f"answered: {line.output}"
        share = _share(line, record.primary)
        print(f"\n{printable(line.id)}  {record.primary} {100 * (share or 0.0):.0f}")
        print(f"  asked: {printable(line.prompt)}\n  {printable(said)}\n  references: {printable(target)}")
