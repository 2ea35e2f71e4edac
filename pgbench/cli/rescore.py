"""`pgbench rescore`: stored answers judged again, where a task has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import bars, flags, streams
from pgbench.errors import INCOMPLETE, OK, UsageError

if TYPE_CHECKING:
    from pgbench.records import Score
    from pgbench.report.table import Table
    from pgbench.rescore.judge import Verdict

_MEANT = {
    "rescored": "rescored",
    "already": "rescored before",
    "unchanged": "the task has not changed",
    "unfinished": "not finished",
    "refused": "REFUSED",
}


def rescore(
    runs: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or a folder of run folders.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Where original files lie, as for run; may be given again.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="The file of a task that is not installed; may be given again.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where the task has not changed.")] = False,
    as_json: flags.Json = False,
) -> int:
    """Score the stored answers of runs again where their task has changed since, beside the old record."""
    from pgbench.frame.folders import Reading
    from pgbench.rescore.judge import Judge, Verdict

    reading = Reading.of(runs, "skip")
    folders = [folder for _, folder in reading.each(lambda folder: folder)]
    found = [Verdict(reading.top / one["folder"], "refused", one["reason"]) for one in reading.skipped]
    if not folders and not found:
        raise UsageError(f"there is no run below {runs}; name a run folder, or one that holds run folders")
    with streams.stdout_on_stderr(), bars.of_sweep(len(folders)) as bar:
        judge = Judge(data or (), task or ())
        for folder in folders:
            with bars.of_cell(folder.name, below=1) as cell:
                found.append(judge.rescore(folder, force=force, progress=cell))
            bar.update()
    if as_json:
        streams.print_json({"runs": [_document(one) for one in found]})
    else:
        _print(reading.top, found)
    return INCOMPLETE if any(one.state == "refused" for one in found) else OK


def _document(verdict: Verdict) -> dict[str, object]:
    from pgbench.store import plain

    sidecar = verdict.sidecar
    return {
        "run": str(verdict.folder),
        "state": verdict.state,
        "reason": verdict.reason,
        "sidecar": str(sidecar.path) if sidecar else None,
        "rescored": plain(sidecar.rescored) if sidecar else None,
    }


def _print(runs: Path, found: Sequence[Verdict]) -> None:
    from pgbench.report.render import printable, terminal

    print(terminal(_table(runs, found)))
    for one in found:
        if one.state == "refused":
            print(printable(f"{_named(runs, one.folder)}: {one.reason}"))


def _table(runs: Path, found: Sequence[Verdict]) -> Table:
    from pgbench.report.table import Table

    rows = [(_named(runs, one.folder), _MEANT[one.state], *_change(one)) for one in found]
    counted = _MEANT | {"unchanged": "where the task has not changed"}
    counts = [(sum(one.state == state for one in found), said) for state, said in counted.items()]
    return Table(
        title=("Scores of stored answers under the tasks of today",),
        columns=("run", "result", "task", "metric", "was", "now"),
        rows=tuple(rows),
        notes=(", ".join(f"{count:,} {said}" for count, said in counts if count),),
        left=4,
    )


def _named(runs: Path, folder: Path) -> str:
    return folder.name if folder == runs else folder.relative_to(runs).as_posix()


def _change(verdict: Verdict) -> tuple[str, str, str, str]:
    """Task, metric, value in the record and value now."""
    record, sidecar = verdict.record, verdict.sidecar
    if record is None:
        return "", "", "", ""
    was = f"{record.spec.task} v{record.spec.version}"
    if sidecar is None:
        return was, record.primary, _value(record.scores, record.primary), ""
    now = sidecar.rescored
    task = was if now.version == record.spec.version else f"{was} → v{now.version}"
    return task, now.primary, _value(record.scores, now.primary), _value(now.scores, now.primary)


def _value(scores: Mapping[str, Score], metric: str) -> str:
    from pgbench.report.table import row_of

    return row_of(metric, scores[metric])[1] if metric in scores else "no such metric"
