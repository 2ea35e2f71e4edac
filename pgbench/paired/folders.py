"""The runs that a path stands for: a run folder, a folder of run folders, or a baseline file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgbench import store
from pgbench.durable import exists
from pgbench.errors import StoreError, UsageError
from pgbench.frame.folders import Reading
from pgbench.paired import baseline, reading
from pgbench.paired.evidence import Evidence
from pgbench.records import RunRecord

_OF_A_RUN = ("spec.json", "record.json")


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its record; what it was asked and how it was judged is read when it is needed."""

    place: str
    record: RunRecord
    evidence: Evidence | None = None  # of a baseline file

    def read(self, files: Mapping[str, str]) -> Evidence:
        """Raises what `reading.read` raises."""
        return self.evidence or reading.read(self.place, files)


@dataclass(frozen=True, slots=True)
class Found:
    runs: tuple[Run, ...]
    unfinished: tuple[str, ...]  # folders without a record
    single: bool  # the path named one run


def runs_of(path: Path, files: Mapping[str, str]) -> Found:
    """Raises UsageError for a path without a run, StoreError for one run that is not finished, or for what
    cannot be read."""
    folder = path.parent if path.is_file() else path
    of_a_run = any(exists(folder / name) for name in _OF_A_RUN)
    if path.is_file() and not (of_a_run and (path.name in _OF_A_RUN or not baseline.is_baseline(path))):
        return _of_baseline(path, files)
    if of_a_run:
        return Found((_finished(folder),), (), single=True)
    runs, unfinished = list[Run](), list[str]()
    for _, below in Reading.of(folder, "raise").each(lambda one: one):
        record = store.read_record(below)
        if record is None:
            unfinished.append(str(below))
        else:
            runs.append(Run(str(below), record))
    if not runs:
        raise UsageError(f"there is no finished run below {path}; name a run folder, or one that holds some")
    return Found(tuple(runs), tuple(unfinished), single=False)


def _of_baseline(path: Path, files: Mapping[str, str]) -> Found:
    found = baseline.load(path, files)
    if not found:
        raise UsageError(f"{path} holds no run; save it anew")
    return Found(tuple(Run(one.place, one.record, one) for one in found), (), len(found) == 1)


def _finished(folder: Path) -> Run:
    record = store.read_record(folder)
    if record is None:
        raise StoreError(f"{folder} is not finished; give its command again, the answers are kept")
    return Run(str(folder), record)
