"""One side of a check from disk: every run of a folder or a baseline file, broken ones with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pgbench import store
from pgbench.check import asking, gate
from pgbench.check.findings import Check
from pgbench.check.sides import Run, Side
from pgbench.errors import DataError, StoreError, UsageError
from pgbench.frame.folders import Reading
from pgbench.paired import baseline
from pgbench.paired.reading import read as read_run
from pgbench.records import Cost, PeakMemory, RunRecord, Stack


def read(place: Path, files: Mapping[str, str] = {}, step: Callable[[], object] = lambda: None) -> Side:
    """A folder of runs, a run folder or a baseline file. `files`: names of tasks that are files -> paths;
    `step` is called once a run.

    Raises UsageError for nothing there or a task that is not at hand, StoreError for a file that is no
    baseline.
    """
    if place.is_file() and not _is_of_run(place):
        return Side(tuple(Run(one.record, one) for one in baseline.load(place, files)))
    if not place.exists():
        raise UsageError(
            f"there is no {place}; name a run folder, one that holds run folders, or a baseline file"
        )
    reading = Reading.of(place, "skip")
    runs = []
    for name, folder in reading.each(lambda folder: folder):
        runs.append(_run(name, folder, files))
        step()
    broken = [(one["folder"], one["reason"].replace(str(place), place.name)) for one in reading.skipped]
    found = [one for one in runs if isinstance(one, Run)]
    return Side(tuple(found), (*(one for one in runs if isinstance(one, tuple)), *broken))


def count(place: Path) -> int:
    """Runs that `read` will step through; 0 for what is no folder."""
    return sum(1 for _ in Reading.of(place, "skip").each(lambda folder: folder)) if place.is_dir() else 0


def _is_of_run(file: Path) -> bool:
    return (file.parent / "spec.json").is_file() or file.name == "record.json"


def _run(name: str, folder: Path, files: Mapping[str, str]) -> Run | tuple[str, str]:
    """A run, or its name and why not even its spec can be read."""
    try:
        evidence = read_run(folder, files)
        return Run(evidence.record, evidence)
    except (StoreError, DataError) as error:
        reason = str(error).replace(str(folder), folder.name)
    try:
        return Run(_begun(folder), None, reason)
    except StoreError:
        return folder.name if name == "." else name, reason


def _begun(folder: Path) -> RunRecord:
    spec, data = store.read_begun(folder)
    nothing = Cost(0.0, 0.0, 0, PeakMemory(0, "process resident"), 0, None, spec.batch, None, None, 0)
    return RunRecord(
        store.SCHEMA, spec.key, spec, Stack("", {}), data, {}, {}, nothing, "", "", "failures", ""
    )


def check_folders(
    baseline: Path,
    candidate: Path,
    rules: Path | None = None,
    *,
    strict: bool = False,
    files: Mapping[str, str] = {},
) -> Check:
    """A check from what lies on disk. Raises UsageError, StoreError, Mistakes."""
    asked = asking.read(rules)
    ours, theirs = read(baseline, files), read(candidate, files)
    require_runs(ours, baseline)
    return gate.check(ours, theirs, asked, strict=strict)


def require_runs(side: Side, place: Path) -> None:
    """Raises UsageError for a baseline without a run, against which anything would pass."""
    if not (side.runs or side.unreadable):
        raise UsageError(f"there is no run below {place}; a baseline holds one or more")
