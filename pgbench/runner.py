"""One cell: ask every sample, keep every answer, score what was kept.

The runner is blind: it knows no benchmark and no model, only a Task, a Dataset and a Backend.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import store
from pgbench.backends import Backend
from pgbench.batch import Cell, answer, prepare, warm_up
from pgbench.errors import (
    DataError,
    PgbenchError,
    ResumeError,
    RunStopped,
    StoreError,
    UsageError,
)
from pgbench.keys import image_key
from pgbench.plan import batches, order
from pgbench.records import Data, RunRecord, Score
from pgbench.tally import Groups, Tally
from pgbench.types import Sample

REHASHED = 50  # finished images looked at again before a run is resumed
_WORKERS = 4  # threads that read and decode images


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished record, where it lies, and whether it was there already."""

    record: RunRecord
    folder: Path
    already_done: bool


Progress = Callable[[int, int], None]  # samples finished, samples in all


def run(cell: Cell, runs: Path, progress: Progress = lambda done, total: None) -> Outcome:
    """Run a cell to its record, or go on where an earlier run of the same spec stopped.

    Raises PgbenchError before the first sample, RunStopped (the run can be resumed) after it;
    KeyboardInterrupt passes through and leaves the run resumable.
    """
    folder = store.folder_of(runs, cell.spec)
    positions = order(cell.dataset.samples, seed=cell.spec.seed, limit=cell.spec.limit)
    data = _data(cell, positions)
    if (record := store.read_record(folder)) is not None:
        return _done(cell, folder, record, data)
    planned = batches(positions, cell.spec.batch)
    with store.Samples(folder, [len(batch) for batch in planned]) as samples:
        started = store.begin(folder, cell.spec, data, _now())
        if (record := store.read_record(folder)) is not None:  # by a process that has just let go
            return _done(cell, folder, record, data)
        try:
            record = _fill(cell, folder, samples, planned, data, started, progress)
        except (PgbenchError, KeyboardInterrupt):
            if samples.fresh and not samples.done:
                store.discard(folder)  # a checkpoint that does not load leaves nothing behind
            raise
        _finish(folder, record)
    return Outcome(record, folder, already_done=False)


def _done(cell: Cell, folder: Path, record: RunRecord, data: Data) -> Outcome:
    """A finished run, if it is this one: same spec, annotations and task, and the same pictures."""
    store.refuse_other(folder, record, cell.spec, data, cell.task_digest)
    known = {line.id: line.image for line in store.read_lines(folder) if line.image}
    _rehash([(sample, known[sample.id]) for sample in cell.dataset.samples if sample.id in known])
    return Outcome(record, folder, already_done=True)


def _fill(
    cell: Cell,
    folder: Path,
    samples: store.Samples,
    planned: Sequence[Sequence[int]],
    data: Data,
    started: str,
    progress: Progress,
) -> RunRecord:
    tally = Tally(cell.task)
    _rehash(list(_recovered(cell, samples, planned, tally)))
    progress(sum(map(len, planned[: samples.done])), data.selected)
    cell.engine.imports()
    before = time.perf_counter()
    backend = cell.engine.load()
    load_seconds = time.perf_counter() - before
    try:
        described = backend.describe()
        stack = replace(described, versions={**described.versions, "task": cell.task_digest})
        store.keep_stack(folder, stack)
        warmup_seconds = _answer_all(cell, backend, samples, planned, tally, progress)
        cost = tally.cost(
            load_seconds, warmup_seconds, stack.weight_bytes, backend.peak_memory(), cell.spec.batch
        )
    finally:
        backend.close()
    failures = tuple(tally.failures)
    scores, groups = _judged(tally)
    return RunRecord(
        schema=store.SCHEMA,
        key=cell.spec.key,
        spec=cell.spec,
        stack=stack,
        data=data,
        scores=scores,
        groups=groups,
        cost=cost,
        started=started,
        finished=_now(),
        status="failures" if failures else "complete",
        failures=failures,
        primary=next((m.name for m in cell.task.metrics if m.primary), cell.task.metrics[0].name),
    )


def _judged(tally: Tally) -> tuple[Mapping[str, Score], Groups]:
    try:
        return tally.scores(), tally.groups()
    except UsageError as error:
        raise RunStopped(f"{error}; all answers are kept, mend the task and take another --out") from error


def _finish(folder: Path, record: RunRecord) -> None:
    try:
        store.finish(folder, record)
    except StoreError as error:
        raise RunStopped(f"{error}; all answers are kept, the same command goes on") from error


def _data(cell: Cell, positions: Sequence[int]) -> Data:
    samples = cell.dataset.samples
    chosen = [samples[position] for position in positions]
    ids = {sample.id for sample in chosen}
    if not chosen:
        raise DataError(f"{cell.dataset.id}: split {cell.spec.split} has no samples")
    if len(ids) < len(chosen):
        raise DataError(f"{cell.dataset.id}: {len(chosen) - len(ids)} samples share an id with another one")
    return Data(
        digest=cell.dataset.digest,
        available=len(samples),
        published=None if cell.dataset.demo else cell.task.splits.get(cell.spec.split),
        selected=len(chosen),
        unscored=sum(sample.target is None for sample in chosen),
        demo=cell.dataset.demo,
    )


def _recovered(
    cell: Cell, samples: store.Samples, planned: Sequence[Sequence[int]], tally: Tally
) -> Iterator[tuple[Sample, str]]:
    """Feed stored answers to the tally; yields each sample that was answered with its image's hash."""
    flat = (position for batch in planned for position in batch)
    for line, position in zip(samples.recover(), flat, strict=False):
        sample = cell.dataset.samples[position]
        if line.id != sample.id:
            raise ResumeError(
                f"stored answer {line.id} stands where sample {sample.id} belongs; "
                "start afresh in another --out"
            )
        tally.add(sample, line)
        if line.image:
            yield sample, line.image


def _rehash(finished: Sequence[tuple[Sample, str]]) -> None:
    """Look again at finished images, evenly spread: a resumed run must see the pictures it began with."""
    count = min(REHASHED, len(finished))
    for sample, known in (finished[number * len(finished) // count] for number in range(count)):
        try:
            found = image_key([image.read() for image in sample.images])
        except OSError as error:
            raise ResumeError(
                f"the image of sample {sample.id}, answered before, is gone ({error.strerror or error})"
            ) from error
        if found != known:
            raise ResumeError(
                f"the image of sample {sample.id} has changed since it was answered; "
                "restore it, or start afresh in another --out"
            )


def _answer_all(
    cell: Cell,
    backend: Backend,
    samples: store.Samples,
    planned: Sequence[Sequence[int]],
    tally: Tally,
    progress: Progress,
) -> float:
    """Answer the batches that are missing; returns the seconds of the warm-up."""
    first, warmup = samples.done, 0.0
    done, total = sum(map(len, planned[:first])), sum(map(len, planned))
    try:
        with ThreadPoolExecutor(_WORKERS) as workers:
            for number in range(first, len(planned)):
                asked = [cell.dataset.samples[position] for position in planned[number]]
                before = time.perf_counter()
                prepared = list(workers.map(lambda sample: prepare(cell, backend, sample), asked))
                if number == first:
                    warmup = warm_up(backend, prepared)
                    before += warmup
                lines = answer(cell, backend, asked, prepared, number, before)
                samples.append(lines)
                for sample, line in zip(asked, lines, strict=True):
                    tally.add(sample, line)
                done += len(asked)
                progress(done, total)
    except (PgbenchError, OSError) as error:
        if not done:
            raise
        raise RunStopped(f"{error}; {done} of {total} answers are kept, the same command goes on") from error
    return warmup


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
