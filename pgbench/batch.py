"""One batch of one cell: from samples to the lines that are stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgbench.backends import Backend, Engine
from pgbench.errors import SampleError, UsageError, task_code
from pgbench.records import SampleLine
from pgbench.reuse import Given
from pgbench.tally import Tally
from pgbench.types import Dataset, Prepared, Reply, Request, RunSpec, Sample, Task, cluster_of


@dataclass(frozen=True, slots=True)
class Cell:
    """All that one run needs, found and checked, nothing loaded."""

    spec: RunSpec
    task: Task
    task_digest: str  # sha256 of the task's source: its version may have been forgotten
    dataset: Dataset
    engine: Engine
    reuse: bool = True  # take over what other cells were answered, where the engine allows it


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


@dataclass(frozen=True, slots=True)
class Ready:
    """One batch that can be answered; `given`: what is known of each prepared request, in their order."""

    number: int
    samples: Sequence[Sample]
    prepared: Sequence[Prepared | tuple[Request, str]]
    given: Sequence[Given | None]

    @property
    def asked(self) -> list[Prepared]:
        """The requests that are left to generate."""
        return [one for one, known in zip(askable(self.prepared), self.given, strict=True) if known is None]


def askable(prepared: Sequence[Prepared | tuple[Request, str]]) -> list[Prepared]:
    """Those that can be asked."""
    return [item for item in prepared if isinstance(item, Prepared)]


def warm_up(backend: Backend, asked: Sequence[Prepared]) -> float:
    """Answer the first batch once for nothing: kernels are chosen and buffers allocated at first use."""
    before = time.perf_counter()
    if asked:
        backend.generate(asked)
    return time.perf_counter() - before


def answer(cell: Cell, backend: Backend, batch: Ready, before: float) -> list[SampleLine]:
    """The lines of one batch, failed samples among them."""
    asked = batch.asked
    replies = backend.generate(asked) if asked else []
    if len(replies) != len(asked):
        raise UsageError(
            f"the backend gave {len(replies)} replies to {len(asked)} requests; it has to be mended"
        )
    answers = _merged(replies, batch.given)
    pairs = [
        (item, next(answers) if isinstance(item, Prepared) else _Answer(Reply("", error=item[1])))
        for item in batch.prepared
    ]
    seconds = time.perf_counter() - before
    return [
        _line(cell, batch, sample, item, answer, seconds)
        for sample, (item, answer) in zip(batch.samples, pairs, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply, or what takes its place: `tokens` are counted where they are not there."""

    reply: Reply
    tokens: int = 0
    run: str = ""  # key of the run that generated it; "": this one


def _merged(replies: Sequence[Reply], given: Sequence[Given | None]) -> Iterator[_Answer]:
    generated = iter(replies)
    for known in given:
        if known is None:
            reply = next(generated)
            yield _Answer(reply, len(reply.token_ids))
        else:
            yield _Answer(Reply(known.output, n_prompt=known.n_prompt), known.tokens, known.run)


def _line(
    cell: Cell,
    batch: Ready,
    sample: Sample,
    asked: Prepared | tuple[Request, str],
    answer: _Answer,
    seconds: float,
) -> SampleLine:
    request = asked.request if isinstance(asked, Prepared) else asked[0]
    reply = answer.reply
    return SampleLine(
        id=sample.id,
        prompt=request.prompt,
        request_key=asked.request_key if isinstance(asked, Prepared) else "",
        image=asked.image_key if isinstance(asked, Prepared) else "",
        batch=batch.number,
        batch_size=len(batch.samples),
        output=reply.text,
        tokens=answer.tokens,
        n_prompt=reply.n_prompt,
        seconds=seconds,
        finite=reply.finite,
        stats=Tally.stats(cell.task, sample, None if reply.error else reply.text),
        target=sample.target,
        error=reply.error,
        cluster=cluster_of(sample),
        groups=sample.groups,
        reused=answer.run,
    )
