"""One cell: ask every sample, keep every answer, score what was kept.

The runner is blind: it knows no benchmark and no model, only a Task, a Dataset and a Backend.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import reuse, store
from pgbench.answering import Answering
from pgbench.backends import Backend
from pgbench.batch import Cell
from pgbench.batching import Planned, choose, planned
from pgbench.concluding import conclude, data_of, now, require_same, require_same_judges
from pgbench.errors import PgbenchError, ResumeError, RunStopped
from pgbench.keys import image_key
from pgbench.plan import WHOLE, Shard
from pgbench.records import Data, RunRecord, Session, Stack
from pgbench.samples import Answers, Samples
from pgbench.types import Sample

REHASHED = 50  # finished images looked at again before a run is resumed


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
    batches: Planned
    data: Data

    @property
    def planned(self) -> Sequence[Sequence[int]]:
        """The positions of each batch."""
        return self.batches.positions

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.planned]


def plan_of(cell: Cell, runs: Path) -> Plan:
    """Raises DataError for data that cannot be run, UsageError where the spec cannot be planned."""
    chosen = choose(cell.spec, cell.task, cell.dataset.samples)
    data = data_of(cell, chosen)
    return Plan(store.folder_of(runs, cell.spec), planned(cell.spec, chosen), data)


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
                if list(map(hash, ids)) != list(
                    plan.batches.ids[batch]
                ):  # equal for certain once it is concluded
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
    kept, shared = cell.engine.kept(), cell.engine.shared()
    before = time.perf_counter()
    backend = cell.engine.load()
    load_seconds = time.perf_counter() - before if kept is None else kept
    try:
        stack = _kept_stack(cell, plan, backend)
        session = Session(load_seconds, 0.0, backend.peak_memory(), shared_load=shared)
        reusable = cell.reuse and cell.engine.reusable
        known = reuse.known(cell.spec, stack, plan.folder) if reusable else reuse.Known()
        answering = Answering(cell, backend, plan.batches, known)
        try:
            with contextlib.closing(answering.batches(pending)) as answered:
                for lines in answered:
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


def _kept_stack(cell: Cell, plan: Plan, backend: Backend) -> Stack:
    """What answers, as the run's folder has it: a backend that chose by speed goes on with what was chosen
    when the run began. Raises ResumeError for a stack that differs all the same."""
    try:
        store.keep_stack(plan.folder, stack_of(cell, backend))
    except ResumeError:
        if not callable(go_on := getattr(backend, "go_on_with", None)):
            raise
        go_on(store.read_stack(plan.folder))
        store.keep_stack(plan.folder, stack_of(cell, backend))
    return stack_of(cell, backend)


def stack_of(cell: Cell, backend: Backend) -> Stack:
    """What answers, the task's source among it."""
    described = backend.describe()
    return replace(described, versions={**described.versions, "task": cell.task_digest})


def _with_peak(session: Session, backend: Backend) -> Session:
    return replace(session, peak_memory=backend.peak_memory())


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
