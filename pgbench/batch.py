"""One batch of one cell: from samples to the lines that are stored."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pgbench.backends import Backend, Engine
from pgbench.errors import SampleError, UsageError, task_code
from pgbench.fitting import Fitting
from pgbench.records import SampleLine
from pgbench.reuse import Given
from pgbench.tally import Tally
from pgbench.types import Dataset, Prepared, Reply, Request, RunSpec, Sample, Task, cluster_of

LINTED = 3  # prompts of a run whose tokens are kept, so that a wrong layout can be seen


@dataclass(frozen=True, slots=True)
class Cell:
    """All that one run needs, found and checked, nothing loaded."""

    spec: RunSpec
    task: Task
    task_digest: str  # sha256 of the task's source: its version may have been forgotten
    dataset: Dataset
    engine: Engine
    reuse: bool = True  # take over what other cells were answered, where the engine allows it


def prepare(
    cell: Cell, backend: Backend, sample: Sample, alone: bool = False
) -> Prepared | tuple[Request, str]:
    """A prepared request, or the request with the reason why it cannot be one; `alone`: see `Request`."""
    spec, task = cell.spec, cell.task
    shown = not getattr(backend, "opens_images", True)  # the oracle: a model never sees it, and it takes time
    with task_code(f"task {task.name}, sample {sample.id}"):
        request = Request(
            sample_id=sample.id,
            images=sample.images,
            prompt=prefix(spec, task, sample),
            max_new_tokens=spec.max_new_tokens,
            gold=task.gold(sample) if shown and sample.target is not None else None,
            pixels=task.pixels,
            alone=alone,
        )
        if spec.mode == "likelihood":
            request = _with_continuations(request, cell, sample)
    if sample.id in cell.dataset.missing:
        return request, "the image is missing"
    try:
        return backend.prepare(request)
    except SampleError as error:
        return request, str(error)


def _with_continuations(request: Request, cell: Cell, sample: Sample) -> Request:
    """What is scored behind the prompt; the oracle finds the right text likeliest."""
    asked, point = cell.task.likelihood, cell.spec.checkpoint
    if asked is None:
        raise UsageError(f"{cell.task.name} has no mode likelihood")
    texts = tuple(asked.continuations(sample, point.profile, cell.spec.variant))
    right = asked.right(sample) if texts and sample.target is not None else ()
    gold = texts[right[0]] if right else None
    return replace(request, continuations=texts, gold=gold)


def prefix(spec: RunSpec, task: Task, sample: Sample) -> str:
    """The prompt, without white space at its end where the newline behind it is tokenized with it: it
    would give other tokens than big_vision, which tokenizes the newline by itself."""
    point = spec.checkpoint
    prompt = task.prompt(sample, point.profile, spec.variant)
    return prompt if point.protocol == "paper" else prompt.rstrip()


@dataclass(frozen=True, slots=True)
class Ready:
    """One batch that can be answered; `given`: what is known of each prepared request, in their order."""

    number: int
    samples: Sequence[Sample]
    prepared: Sequence[Prepared | tuple[Request, str]]
    given: Sequence[Given | None]
    before: int = 0  # samples of the run that stand before this batch

    @property
    def asked(self) -> list[Prepared]:
        """The requests that are left to generate."""
        return [one for one, known in zip(askable(self.prepared), self.given, strict=True) if known is None]


def askable(prepared: Sequence[Prepared | tuple[Request, str]]) -> list[Prepared]:
    """Those that can be asked."""
    return [item for item in prepared if isinstance(item, Prepared)]


def ask(cell: Cell, backend: Backend, asked: Sequence[Prepared]) -> Sequence[Reply]:
    """What the backend says in the run's mode. Raises PgbenchError."""
    if cell.spec.mode == "likelihood":
        return backend.score(asked, [one.request.continuations or () for one in asked])
    return backend.generate(asked)


def warm_up(fitting: Fitting, asked: Sequence[Prepared]) -> float:
    """Answer the first batch once for nothing: kernels are chosen and buffers allocated at first use, and
    what does not fit into memory is found out."""
    before = time.perf_counter()
    fitting.ask(asked)
    return time.perf_counter() - before


def answer(cell: Cell, fitting: Fitting, batch: Ready, before: float) -> list[SampleLine]:
    """The lines of one batch, failed samples among them. `before`: the instant from which it is timed."""
    answers = _merged(fitting.ask(batch.asked), batch.given)
    pairs = [
        (item, next(answers) if isinstance(item, Prepared) else _Answer(Reply("", error=item[1])))
        for item in batch.prepared
    ]
    seconds = time.perf_counter() - before
    lines = [
        _line(cell, batch, sample, item, answer, seconds)
        for sample, (item, answer) in zip(batch.samples, pairs, strict=True)
    ]
    linted = max(0, LINTED - batch.before)
    return [*map(_with_ids, lines[:linted], batch.prepared), *lines[linted:]]


def _with_ids(line: SampleLine, item: Prepared | tuple[Request, str]) -> SampleLine:
    ids = item.ids if isinstance(item, Prepared) else ()
    runs = ((len(list(run)), token) for token, run in itertools.groupby(ids))
    return replace(line, prompt_ids=" ".join(f"{n}*{token}" if n > 1 else str(token) for n, token in runs))


@dataclass(frozen=True, slots=True)
class _Answer:
    """A reply, or what takes its place: `tokens` are counted where they are not there."""

    reply: Reply
    tokens: int = 0
    run: str = ""  # key of the run that generated it; "": this one
    halved: int = 0  # see SampleLine


def _merged(replies: Sequence[tuple[Reply, int]], given: Sequence[Given | None]) -> Iterator[_Answer]:
    generated = iter(replies)
    for known in given:
        if known is None:
            reply, together = next(generated)
            halved = together if together < len(replies) else 0
            yield _Answer(reply, len(reply.token_ids), halved=halved)
        else:
            taken = Reply(known.output, n_prompt=known.n_prompt, likelihoods=known.likelihoods)
            yield _Answer(taken, known.tokens, known.run)


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
    answered = reply.likelihoods if cell.spec.mode == "likelihood" else reply.text
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
        stats=Tally.stats(cell.task, sample, None if reply.error else answered),
        target=sample.target,
        error=reply.error,
        cluster=cluster_of(sample),
        groups=sample.groups,
        reused=answer.run,
        likelihoods=reply.likelihoods,
        halved=answer.halved,
    )
