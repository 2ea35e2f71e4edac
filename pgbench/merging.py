"""Shards of a run, answered by several processes or machines, made into its record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pgbench import store
from pgbench.backends import Backend, Engine
from pgbench.batch import Cell
from pgbench.concluding import conclude, now, require_same_judges
from pgbench.durable import exists, write_pieces
from pgbench.errors import DataError, PgbenchError, StoreError, UsageError
from pgbench.holders import lock_of
from pgbench.locks import Lock
from pgbench.plan import WHOLE
from pgbench.records import RunRecord
from pgbench.runner import Plan, plan_of
from pgbench.samples import Answers, files_of, shard_of
from pgbench.sweeping import reopening
from pgbench.types import RunSpec
from pgbench.units import UNITS

# merged: its record was written; done: it had one; missing: not all shards are there; refused: see the reason
State: TypeAlias = Literal["merged", "done", "missing", "refused"]
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one run."""

    folder: Path
    state: State
    reason: str = ""
    record: RunRecord | None = None


def merge(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    data: Sequence[str] = (),
    task_files: Sequence[str] = (),
    told: Callable[[Merged], None] = lambda one: None,
) -> tuple[Merged, ...]:
    """Gather the shards of every run below `folders` into `out` (where the first one lies); write records.

    `data`: where original files lie; `task_files`: of runs whose task is not installed. Runs that cannot be
    merged are refused one by one. Raises UsageError for a task file that cannot be used.
    """
    files = reopening.named_files(task_files)
    found: dict[str, list[Path]] = {}
    for key, folder in _runs(folders):
        found.setdefault(key, []).append(folder)
    results = []
    for parts in found.values():
        results.append(_merge(parts, out or parts[0].parent.parent, data, files))
        told(results[-1])
    return tuple(results)


def _runs(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    for top in folders:
        if not top.is_dir():
            raise DataError(f"there is no folder {top}; name folders that runs were written to")
        for path in sorted(top.rglob("spec.json")):
            yield store.read_begun(path.parent)[0].key, path.parent


def _merge(parts: Sequence[Path], out: Path, data: Sequence[str], files: Mapping[str, str]) -> Merged:
    folder = parts[0]
    try:
        spec, _ = store.read_begun(folder)
        folder = store.folder_of(out, spec)
        others = [part for part in parts if not (folder.exists() and part.samefile(folder))]
        if not others and (record := store.read_record(folder)) is not None:
            return Merged(folder, "done", record=record)
        with contextlib.ExitStack() as held:
            held.enter_context(Lock(folder / lock_of(WHOLE)))  # against another merge, and a run of it all
            for part in others:
                _gather(part, folder)
            if (record := store.read_record(folder)) is not None:
                return Merged(folder, "done", record=record)
            return _concluded(*_reopened(spec, out, data, files), held)
    except PgbenchError as error:
        return Merged(folder, "refused", str(error))
    except OSError as error:
        return Merged(folder, "refused", f"{error.strerror}: {error.filename or folder}")


def _concluded(cell: Cell, plan: Plan, held: contextlib.ExitStack) -> Merged:
    started = store.begin(plan.folder, cell.spec, plan.data, now())
    answers = Answers.of(plan.folder, plan.sizes)
    if missing := answers.missing(range(len(plan.planned))):
        return Merged(plan.folder, "missing", _lacking(missing, len(plan.planned), plan.folder))
    for path in files_of(plan.folder):  # a shard's last word is what it cost, after its last answer
        if (shard := shard_of(path)) != WHOLE:
            held.enter_context(Lock(plan.folder / lock_of(shard)))
    require_same_judges(cell, plan.folder)
    record = conclude(cell, plan.folder, plan.planned, answers, plan.data, started)
    return Merged(plan.folder, "merged", record=record)


def _lacking(missing: Sequence[int], planned: int, folder: Path) -> str:
    there = ", ".join(path.stem.removeprefix("samples-") for path in files_of(folder)) or "none"
    return (
        f"{len(missing):,} of {planned:,} batches are not answered, first: {missing[0]:,} "
        f"(shards there: {there}); run the missing shards, or name the folders that hold them"
    )


def _reopened(spec: RunSpec, out: Path, data: Sequence[str], files: Mapping[str, str]) -> tuple[Cell, Plan]:
    """The run as a cell that nothing can load; with the first of the data that it may be of."""
    task, digest = reopening.task_of(spec, files)
    reasons: list[PgbenchError] = []
    for path in reopening.candidates(spec, data):
        try:
            dataset = reopening.data_of(spec, task, path)
            cell = Cell(spec, task, digest, dataset, Engine(spec.checkpoint, _nothing_loads))
            plan = plan_of(cell, out)
            store.begin(plan.folder, spec, plan.data, now())  # refuses other data
        except PgbenchError as error:
            reasons.append(error)
        else:
            return cell, plan
    raise reasons[0]


def _nothing_loads() -> Backend:
    raise UsageError("answers are merged, none is generated")


def _gather(part: Path, folder: Path) -> None:
    """Copy what is not there yet, the record last. Raises ResumeError, StoreError for parts at odds."""
    if exists(folder / "spec.json"):
        store.require_same_stack(folder, part)
    names = [path.name for path in files_of(part)]
    own = {path.name for path in files_of(folder)}.difference(names)
    names += sorted(path.name for path in part.glob("session-*-of-*.json"))
    names += [] if own else [UNITS, "record.json"]  # a record is of the answers that lie beside it
    done = exists(folder / "record.json")
    for name in ("spec.json", "stack.json", *names):
        source, target = part / name, folder / name
        if exists(source) and not _holds(target, source) and not done:
            with _unwritten(target):
                write_pieces(target, _pieces(source))


def _unwritten(target: Path) -> contextlib.AbstractContextManager[object]:
    """Around what takes the place of a file: nobody else may be writing that. Raises RunLocked."""
    if not target.name.startswith("samples-") or (shard := shard_of(target)) == WHOLE:
        return contextlib.nullcontext()  # the lock of the whole run is held
    return Lock(target.with_name(lock_of(shard)))


def _holds(target: Path, source: Path) -> bool:
    """Whether the target is the source or goes on from it; False where the source goes on from the target.

    Raises StoreError where each holds what the other does not.
    """
    if not exists(target):
        return False
    shorter = min(target.stat().st_size, source.stat().st_size)
    pairs = zip(_pieces(target, shorter), _pieces(source, shorter), strict=True)
    if any(one != other for one, other in pairs) and target.name.startswith(("samples-", "record")):
        raise StoreError(f"{target} and {source} hold different answers to one shard; keep one of them")
    return target.stat().st_size >= source.stat().st_size


def _pieces(path: Path, size: int | None = None) -> Iterator[bytes]:
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(_CHUNK, left))):
            left -= len(piece)
            yield piece
