"""One cell: ask every sample, keep every answer, score what was kept.

The runner is blind: it knows no benchmark and no model, only a Task, a Dataset and a Backend.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgbench import reuse, store
from pgbench.backends import Backend
from pgbench.batch import Cell, Ready, answer, askable, prepare, warm_up
from pgbench.concluding import conclude, data_of, now, require_same, require_same_judges
from pgbench.errors import PgbenchError, ResumeError, RunStopped
from pgbench.keys import image_key
from pgbench.plan import WHOLE, Shard, batches, select
from pgbench.records import Data, RunRecord, SampleLine, Session, Stack
from pgbench.samples import Answers, Samples
from pgbench.types import Prepared, Request, Sample
from pgbench.witness import Witness

REHASHED = 50  # finished images looked at again before a run is resumed
_WORKERS = 4  # threads that read and decode images


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished record, where it lies, and whether it was there already."""

    record: RunRecord
    folder: Path
    already_done: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard of a run came to; `missing` batches of other shards are nowhere yet."""

    folder: Path
    shard: Shard
    answers: int  # samples of this shard, all answered
    missing: int
    record: RunRecord | None = None  # where the whole run had ended before


Progress = Callable[[int, int], None]  # samples finished, samples in all


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cell comes down to: its folder, its batches of positions, and its data."""

    folder: Path
    planned: Sequence[Sequence[int]]
    data: Data
    ids: Sequence[Sequence[int]]  # hash() of the ids of each batch

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.planned]


def plan_of(cell: Cell, runs: Path) -> Plan:
    """Raises DataError for data that cannot be run."""
    chosen = select(cell.dataset.samples, seed=cell.spec.seed, limit=cell.spec.limit)
    data = data_of(cell, chosen)
    planned = batches(chosen.positions, cell.spec.batch)
    return Plan(store.folder_of(runs, cell.spec), planned, data, batches(chosen.ids, cell.spec.batch))


def run(cell: Cell, runs: Path, progress: Progress = lambda done, total: None) -> Outcome:
    """Run a cell to its record, or go on where an earlier run of the same spec stopped.

    Raises PgbenchError before the first sample, RunStopped (the run can be resumed) after it;
    KeyboardInterrupt passes through and leaves the run resumable.
    """
    plan = plan_of(cell, runs)
    if (record := finished(cell, plan)) is not None:
        return Outcome(record, plan.folder, already_done=True)
    with opened(cell, plan, WHOLE) as (samples, started):
        if (record := finished(cell, plan)) is not None:  # by a process that has just let go
            return Outcome(record, plan.folder, already_done=True)
        _fill(cell, plan, samples, WHOLE, progress)
        record = conclude(cell, plan.folder, plan.planned, samples.answers, plan.data, started)
    return Outcome(record, plan.folder, already_done=False)


def answer_part(cell: Cell, runs: Path, shard: Shard, progress: Progress = lambda done, total: None) -> Part:
    """Answer one shard, or go on with it; the record is made when all shards are there (merging).

    Raises as `run` does.
    """
    plan = plan_of(cell, runs)
    own = shard.of(len(plan.planned))
    count = sum(len(plan.planned[batch]) for batch in own)
    if (record := finished(cell, plan)) is not None:
        return Part(plan.folder, shard, count, 0, record)
    with opened(cell, plan, shard) as (samples, _):
        _fill(cell, plan, samples, shard, progress)
        missing = len(plan.planned) - samples.answers.done
    return Part(plan.folder, shard, count, missing)


def finished(cell: Cell, plan: Plan) -> RunRecord | None:
    """A finished run's record, if it is of this cell: same spec, annotations and task, same pictures."""
    record = store.read_record(plan.folder)
    if record is None:
        return None
    store.refuse_other(plan.folder, record, cell.spec, plan.data, cell.task_digest)
    look_again(cell, plan, Answers.of(plan.folder, plan.sizes))
    return record


@contextlib.contextmanager
def opened(cell: Cell, plan: Plan, shard: Shard) -> Iterator[tuple[Samples, str]]:
    """The samples file of a shard with all answers found and looked at, and when the run first started.

    A run that ends in an error before its first answer leaves nothing behind.
    """
    with Samples(plan.folder, plan.sizes, shard) as samples:
        started = store.begin(plan.folder, cell.spec, plan.data, now())
        try:
            for batch, ids in samples.recover():
                if list(map(hash, ids)) != list(plan.ids[batch]):  # equal for certain once it is concluded
                    for position, name in zip(plan.planned[batch], ids, strict=True):
                        require_same(cell.dataset.samples[position], name)
            yield samples, started
        except (PgbenchError, KeyboardInterrupt):
            if samples.fresh and not samples.answers.done:
                store.discard(plan.folder, shard)  # a checkpoint that does not load leaves nothing behind
            raise


def _fill(cell: Cell, plan: Plan, samples: Samples, shard: Shard, progress: Progress) -> None:
    """Answer the batches of a shard that are nowhere yet."""
    look_again(cell, plan, samples.answers)
    pending = samples.pending()
    own = [len(plan.planned[batch]) for batch in shard.of(len(plan.planned))]
    total = sum(own)
    done = total - sum(len(plan.planned[batch]) for batch in pending)
    progress(done, total)
    if not pending:
        if samples.answers.done:  # a shard may have no batch at all
            require_same_judges(cell, plan.folder)
        return
    cell.engine.imports()
    kept = cell.engine.kept()
    before = time.perf_counter()
    backend = cell.engine.load()
    load_seconds = time.perf_counter() - before if kept is None else kept
    try:
        stack = stack_of(cell, backend)
        store.keep_stack(plan.folder, stack)
        session = Session(load_seconds, 0.0, backend.peak_memory(), shared_load=kept is not None)
        reusable = cell.reuse and cell.engine.reusable
        known = reuse.known(cell.spec, stack, plan.folder) if reusable else reuse.Known()
        answering = Answering(cell, backend, plan.planned, known)
        try:
            for lines in answering.batches(pending):
                if lines[0].batch == pending[0] or answering.warmup_seconds != session.warmup_seconds:
                    session = replace(session, warmup_seconds=answering.warmup_seconds)
                    store.keep_session(plan.folder, shard, _with_peak(session, backend))
                samples.append(lines)
                done += len(lines)
                progress(done, total)
            samples.sync()
        except (PgbenchError, OSError) as error:
            if not done:
                raise
            raise RunStopped(
                f"{error}; {done} of {total} answers are kept, the same command goes on"
            ) from error
        store.keep_session(plan.folder, shard, _with_peak(session, backend))
    finally:
        backend.close()


def stack_of(cell: Cell, backend: Backend) -> Stack:
    """What answers, the task's source among it."""
    described = backend.describe()
    return replace(described, versions={**described.versions, "task": cell.task_digest})


def _with_peak(session: Session, backend: Backend) -> Session:
    return replace(session, peak_memory=backend.peak_memory())


class Answering:
    """Answers batches of a plan and writes nothing."""

    def __init__(
        self, cell: Cell, backend: Backend, planned: Sequence[Sequence[int]], known: reuse.Known | None = None
    ) -> None:
        """`known`: answers of other cells, which are taken over instead of generated."""
        self._cell, self._backend, self._planned = cell, backend, planned
        self._known = known or reuse.Known()
        self._warm = False
        self.warmup_seconds = 0.0  # known once a batch is generated

    def batches(self, numbers: Sequence[int]) -> Iterator[list[SampleLine]]:
        """The lines of each batch, in this order. Raises PgbenchError, OSError."""
        cell, backend = self._cell, self._backend
        witness = Witness(cell, self._planned)

        def one(sample: Sample) -> Prepared | tuple[Request, str]:
            return prepare(cell, backend, sample)

        with _mapping(backend) as each:
            for number in numbers:
                asked = [cell.dataset.samples[position] for position in self._planned[number]]
                before = time.perf_counter()
                prepared = witness.heard(asked, list(each(one, asked)), one)
                batch = Ready(number, asked, prepared, self._known.given(askable(prepared)))
                if batch.asked and not self._warm:
                    self._warm = True
                    self.warmup_seconds = warm_up(cell, backend, batch.asked)
                    before += self.warmup_seconds
                yield answer(cell, backend, batch, before)


@contextlib.contextmanager
def _mapping(backend: Backend) -> Iterator[Callable[..., Iterator[Any]]]:
    """`map`, in threads where the backend reads images: handing a sample over takes as long as answering
    it where there are none to read."""
    if not getattr(backend, "opens_images", True):
        yield map
        return
    with ThreadPoolExecutor(_WORKERS) as workers:
        yield workers.map


def look_again(cell: Cell, plan: Plan, answers: Answers) -> None:
    """Raises ResumeError where the pictures that were answered are no longer there, or others are."""
    _rehash(_finished_images(cell, plan, answers))


def _finished_images(cell: Cell, plan: Plan, answers: Answers) -> list[tuple[Sample, str]]:
    """Samples that were answered, evenly spread, each with its image's hash."""
    done = [batch for batch in range(len(plan.planned)) if batch in answers]
    count = min(REHASHED, len(done))
    found = []
    for batch in (done[number * len(done) // count] for number in range(count)):
        pairs = zip(plan.planned[batch], answers.read(batch), strict=True)
        found += [(cell.dataset.samples[position], line.image) for position, line in pairs if line.image]
    return found


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
