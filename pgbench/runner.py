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
from pgbench.backends import Backend, Engine
from pgbench.errors import (
    DataError,
    PgbenchError,
    ResumeError,
    RunStopped,
    SampleError,
    StoreError,
    UsageError,
)
from pgbench.keys import image_key
from pgbench.plan import batches, order
from pgbench.records import Data, RunRecord, SampleLine, Score
from pgbench.tally import Groups, Tally
from pgbench.types import Dataset, Prepared, Reply, Request, RunSpec, Sample, Task

REHASHED = 50  # finished images looked at again before a run is resumed
_WORKERS = 4  # threads that read and decode images


@dataclass(frozen=True, slots=True)
class Cell:
    """All that one run needs, found and checked, nothing loaded."""

    spec: RunSpec
    task: Task
    task_digest: str  # sha256 of the task's source: its version may have been forgotten
    dataset: Dataset
    engine: Engine


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
        store.begin(folder, cell.spec, data, record.started)  # refuses other annotations
        return Outcome(record, folder, already_done=True)
    planned = batches(positions, cell.spec.batch)
    with store.Samples(folder, [len(batch) for batch in planned]) as samples:
        started = store.begin(folder, cell.spec, data, _now())
        if (record := store.read_record(folder)) is not None:  # by a process that has just let go
            return Outcome(record, folder, already_done=True)
        record = _fill(cell, folder, samples, planned, data, started, progress)
        _finish(folder, record)
    return Outcome(record, folder, already_done=False)


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
        primary=next(
            (metric.name for metric in cell.task.metrics if metric.primary), cell.task.metrics[0].name
        ),
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
                f"cannot resume: the image of sample {sample.id} is gone ({error.strerror})"
            ) from error
        if found != known:
            raise ResumeError(
                f"cannot resume: the image of sample {sample.id} has changed since it was answered"
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
                batch = [cell.dataset.samples[position] for position in planned[number]]
                before = time.perf_counter()
                prepared = list(workers.map(lambda sample: _prepare(cell, backend, sample), batch))
                if number == first:
                    warmup = _warm_up(backend, prepared)
                    before += warmup
                lines = _answer(cell, backend, batch, prepared, number, before)
                samples.append(lines)
                for sample, line in zip(batch, lines, strict=True):
                    tally.add(sample, line)
                done += len(batch)
                progress(done, total)
    except PgbenchError as error:
        if not done:
            raise
        raise RunStopped(f"{error}; {done} of {total} answers are kept, the same command goes on") from error
    return warmup


def _prepare(cell: Cell, backend: Backend, sample: Sample) -> Prepared | tuple[Request, str]:
    """A prepared request, or the request with the reason why it cannot be one."""
    spec, task = cell.spec, cell.task
    request = Request(
        sample_id=sample.id,
        images=sample.images,
        prompt=task.prompt(sample, spec.checkpoint.profile, spec.variant),
        max_new_tokens=spec.max_new_tokens,
        gold=task.gold(sample) if sample.target is not None else None,
    )
    if sample.id in cell.dataset.missing:
        return request, "the image is missing"
    try:
        return backend.prepare(request)
    except SampleError as error:
        return request, str(error)


def _warm_up(backend: Backend, prepared: Sequence[Prepared | tuple[Request, str]]) -> float:
    """Answer the first batch once for nothing: kernels are chosen and buffers allocated at first use."""
    ready = [item for item in prepared if isinstance(item, Prepared)]
    before = time.perf_counter()
    if ready:
        backend.generate(ready)
    return time.perf_counter() - before


def _answer(
    cell: Cell,
    backend: Backend,
    batch: Sequence[Sample],
    prepared: Sequence[Prepared | tuple[Request, str]],
    number: int,
    before: float,
) -> list[SampleLine]:
    """The lines of one batch, failed samples among them."""
    ready = [item for item in prepared if isinstance(item, Prepared)]
    given = backend.generate(ready) if ready else []
    if len(given) != len(ready):
        raise UsageError(
            f"the backend gave {len(given)} replies to {len(ready)} requests; it has to be mended"
        )
    replies = iter(given)
    pairs = [
        (item, next(replies)) if isinstance(item, Prepared) else (item[0], Reply(text="", error=item[1]))
        for item in prepared
    ]
    seconds = time.perf_counter() - before
    return [
        _line(cell, sample, asked, replace(reply, batch_id=number, batch_size=len(batch), seconds=seconds))
        for sample, (asked, reply) in zip(batch, pairs, strict=True)
    ]


def _line(cell: Cell, sample: Sample, asked: Prepared | Request, reply: Reply) -> SampleLine:
    request = asked.request if isinstance(asked, Prepared) else asked
    return SampleLine(
        id=sample.id,
        prompt=request.prompt,
        request_key=asked.request_key if isinstance(asked, Prepared) else "",
        image=asked.image_key if isinstance(asked, Prepared) else "",
        batch=reply.batch_id,
        batch_size=reply.batch_size,
        output=reply.text,
        tokens=len(reply.token_ids),
        n_prompt=reply.n_prompt,
        seconds=reply.seconds,
        finite=reply.finite,
        stats=Tally.stats(cell.task, sample, None if reply.error else reply.text),
        target=sample.target,
        error=reply.error,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
