"""`pgbench baseline`: runs kept in one file that a gate compares with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pgbench.cli import bars, streams
from pgbench.cli.flags import Json
from pgbench.errors import OK, StoreError, UsageError

if TYPE_CHECKING:
    from pgbench.paired.evidence import Evidence
    from pgbench.paired.folders import Run
    from pgbench.report.table import Table

app = typer.Typer(help="Keep runs in one file that a gate compares with.")


@app.callback()
def root() -> None:
    """Keep runs in one file that a gate compares with."""


@app.command("save")
def save(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Run folders, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The file, to be committed: baseline.json say.")],
    metric: Annotated[
        Literal["all", "primary"], typer.Option(help="Which metrics can be compared later.")
    ] = "all",
    task: Annotated[
        list[str] | None, typer.Option(help="The file of a task that is not installed; may be given again.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write the records of runs and the statistics of each sample, without their answers, to one file."""
    from pgbench.paired import baseline
    from pgbench.sweeping.reopening import named_files

    files = named_files(task or ())
    _require_ours(out)
    found = _finished(runs, files)
    evidences = []
    with bars.of_sweep(len(found)) as bar:
        for run in found:
            evidences.append(_narrowed(run.read(files), metric))
            bar.update()
    baseline.save(evidences, out)
    if as_json:
        cells = [{"cell": baseline.cell_of(one.record), "metrics": list(one.units)} for one in evidences]
        streams.print_json({"file": str(out), "bytes": out.stat().st_size, "runs": cells})
    else:
        from pgbench.report.render import terminal

        print(terminal(_table(out, evidences)))
    return OK


def _require_ours(out: Path) -> None:
    """A file that is no baseline is not written over, and nothing is written into a run."""
    from pgbench.durable import require_outside_runs
    from pgbench.paired.baseline import is_baseline

    require_outside_runs(out)
    if out.is_dir() or (out.exists() and not is_baseline(out)):
        raise UsageError(f"{out} is there and is no baseline file; choose another --out")


def _finished(paths: Sequence[Path], files: dict[str, str]) -> list[Run]:
    from pgbench.paired.folders import runs_of

    found = [runs_of(path, files) for path in paths]
    unfinished = [place for one in found for place in one.unfinished]
    if unfinished:
        raise StoreError(f"{unfinished[0]} is not finished; give its command again, or name other runs")
    return [run for one in found for run in one.runs]


def _narrowed(run: Evidence, metric: str) -> Evidence:
    if metric == "all":
        return run
    name = run.record.primary
    kept = [one for one in run.units if one == name]
    return replace(
        run,
        units={one: run.units[one] for one in kept},
        members={one: members for one, members in run.members.items() if one in kept},
    )


def _table(out: Path, evidences: Sequence[Evidence]) -> Table:
    from pgbench.paired.baseline import cell_of
    from pgbench.report.table import Table, by_mark, caveats, row_of

    rows = []
    marks: dict[str, list[str]] = {}
    for run in evidences:
        record = run.record
        _, value, interval, n, _, _, failed = row_of(record.primary, record.scores[record.primary])
        cell = cell_of(record)
        rows.append((cell, record.primary, value, interval, n, failed, f"{len(run.units):,}"))
        marks[cell] = caveats(record)
    size = out.stat().st_size
    return Table(
        title=(f"{out}: {len(rows):,} run{'s' if len(rows) != 1 else ''}, {size / 1000:,.0f} kB",),
        columns=("run", "metric", "score", "95 % interval", "n", "failed", "metrics kept"),
        rows=tuple(rows),
        notes=tuple(by_mark(marks)),
        left=2,
    )
