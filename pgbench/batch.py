"""One batch of one cell: from samples to the lines that are stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgbench.backends import Backend, Engine
from pgbench.errors import SampleError, UsageError, task_code
from pgbench.records import SampleLine
from pgbench.tally import Tally
from pgbench.types import Dataset, Prepared, Reply, Request, RunSpec, Sample, Task


@dataclass(frozen=True, slots=True)
class Cell:
    """All that one run needs, found and checked, nothing loaded."""

    spec: RunSpec
    task: Task
    task_digest: str  # sha256 of the task's source: its version may have been forgotten
    dataset: Dataset
    engine: Engine


def prepare(cell: Cell, backend: Backend, sample: Sample) -> Prepared | tuple[Request, str]:
    """A prepared request, or the request with the reason why it cannot be one."""
    spec, task = cell.spec, cell.task
    with task_code(f"task {task.name}, sample {sample.id}"):
        request = Request(
            sample_id=sample.id,
            images=sample.images,
            # the processor tokenizes its newline together with the prompt: white space before it would
            # give other tokens than big_vision, which tokenizes the newline by itself
            prompt=task.prompt(sample, spec.checkpoint.profile, spec.variant).rstrip(),
            max_new_tokens=spec.max_new_tokens,
            gold=task.gold(sample) if sample.target is not None else None,
        )
    if sample.id in cell.dataset.missing:
        return request, "the image is missing"
    try:
        return backend.prepare(request)
    except SampleError as error:
        return request, str(error)


def warm_up(backend: Backend, prepared: Sequence[Prepared | tuple[Request, str]]) -> float:
    """Answer the first batch once for nothing: kernels are chosen and buffers allocated at first use."""
    ready = [item for item in prepared if isinstance(item, Prepared)]
    before = time.perf_counter()
    if ready:
        backend.generate(ready)
    return time.perf_counter() - before


def answer(
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
