"""`pgbench show`: a stored run again, and its worst answers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgbench.records import RunRecord, SampleLine
    from pgbench.report.table import Table
    from pgbench.rescore.sidecars import Sidecar

_NONE_WRONG = "no answer scored below full marks"
_NONE_SCORED = "nothing was scored: no sample has references; the answers are in samples-*.jsonl"


def show(
    run: Annotated[Path, typer.Argument(help="A run folder, or a file in it.")],
    wrong: Annotated[int, typer.Option(min=0, help="Also the N answers that scored lowest.")] = 0,
    by: Annotated[str | None, typer.Option(help="Every metric of one breakdown, answer_type say.")] = None,
    as_json: flags.Json = False,
) -> None:
    """Show the record of a run, with --wrong its worst answers, with --by one breakdown in full."""
    from pgbench import store
    from pgbench.report.table import by_group, of_record
    from pgbench.rescore.sidecars import sidecars as sidecars_of

    folder = run.parent if run.is_file() else run
    record = store.read_record(folder)
    if record is None:
        raise StoreError(_unfinished(folder))
    table = of_record(record) if by is None else by_group(record, by)
    worst = _worst(folder, record, wrong) if wrong else []
    sidecars, broken = sidecars_of(folder, record)
    if as_json:
        answers = [store.plain(one.line) for one in worst]
        again = [{"file": one.path.name, "fits": one.fits, **store.plain(one.rescored)} for one in sidecars]
        document = {"run": str(folder), "record": store.plain(record), "wrong": answers, "rescored": again}
        streams.print_json(document)
    else:
        _print(replace(table, notes=(*table.notes, *map(_rescored, sidecars), *broken)), worst)
        if wrong and not worst:
            print(f"\n{_NONE_WRONG if record.data.unscored < record.data.selected else _NONE_SCORED}")


def _rescored(one: Sidecar) -> str:
    """A line on scores that were computed again."""
    from pgbench.report.table import row_of

    again = one.rescored
    task = f"{again.task} v{again.version} ({again.task_digest[:8]})"
    if not one.fits:
        return f"RESCORED with {task} from other answers than are here now: pgbench rescore it again"
    value = row_of("", again.scores[again.primary])[1]
    return f"rescored on {again.made[:10]} with {task}: {again.primary} {value}, see {one.path.name}"


def _unfinished(folder: Path) -> str:
    from pgbench.samples import read_lines

    if not (folder / "spec.json").is_file():
        return (
            f"{folder} is no run folder: it has no spec.json and no record.json; "
            "name one as a run prints it, results/runs/TASK/RUN"
        )
    kept = sum(1 for _ in read_lines(folder))
    return f"{folder} is not finished: {kept:,} answers so far; run the same command again"


@dataclass(frozen=True, slots=True)
class _Scored:
    line: SampleLine
    metric: str
    share: float  # of full marks


def _worst(folder: Path, record: RunRecord, count: int) -> list[_Scored]:
    """The answers below full marks that scored lowest, failures first, then in the order of the run."""
    from pgbench.samples import read_lines

    measures = _measures(record)
    scored = [one for line in read_lines(folder) if (one := _scored(line, measures)) is not None]
    below = [one for one in scored if one.line.error is not None or one.share < 1.0]
    return heapq.nsmallest(count, below, key=lambda one: (one.line.error is None, one.share))


def _scored(
    line: SampleLine, measures: Mapping[str, Callable[[Mapping[str, float]], float | None]]
) -> _Scored | None:
    """By the first metric that says something of one sample alone: MMVP's primary is of pairs."""
    for name, measure in measures.items():
        if name in line.stats and (share := measure(line.stats[name])) is not None:
            return _Scored(line, name, share)
    return None


def _measures(record: RunRecord) -> dict[str, Callable[[Mapping[str, float]], float | None]]:
    """What a sample's statistics are worth, the primary metric first. Where the task is at hand its metrics
    say it (POPE counts outcomes, DOCCI n-grams); a mean is read without it."""
    from pgbench.errors import UsageError
    from pgbench.metrics.named import in_mode
    from pgbench.registry import is_path, load_task

    name = record.spec.task
    try:
        # a record chooses no file to be run
        metrics = () if is_path(name) else in_mode(load_task(name), record.spec.mode).metrics
    except UsageError:  # it was a file, or its package is gone
        metrics = ()
    own = {one.name: one.reduce for one in metrics if one.direction == "up" and not one.number}
    names = sorted(dict.fromkeys((record.primary, *own)), key=lambda name: name != record.primary)
    return {name: own.get(name, _mean) for name in names}


def _mean(sums: Mapping[str, float]) -> float | None:
    return sums["sum"] / sums["n"] if sums.get("n") else None


def _print(table: Table, worst: list[_Scored]) -> None:
    from pgbench.report.render import printable, terminal

    print(terminal(table))
    for one in worst:
        line = one.line
        target = line.target if isinstance(line.target, str) else " | ".join(dict.fromkeys(line.target or ()))
        how = "likeliest" if line.likelihoods else "answered"
        said = f"failed: {line.error}" if line.error else f"{how}: {line.output}"
        print(f"\n{printable(line.id)}  {one.metric} {100 * one.share:.0f}")
        print(f"  asked: {printable(line.prompt)}\n  {printable(said)}\n  references: {printable(target)}")
