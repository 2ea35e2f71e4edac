"""A benchmark, a data set and a backend that live in memory: all that the runner sees, without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pgbench.backends import Backend, Engine, TextBackend
from pgbench.batch import Cell
from pgbench.errors import SampleError
from pgbench.keys import image_key
from pgbench.metrics import mean
from pgbench.records import Stack, essence
from pgbench.runner import Outcome
from pgbench.samples import read_lines
from pgbench.types import (
    Checkpoint,
    Dataset,
    DataSource,
    Image,
    Metric,
    Pixels,
    Prepared,
    Profile,
    Reply,
    Request,
    RunSpec,
    Sample,
    Sums,
    Task,
)

POINT = Checkpoint("fake", "f00", Profile("mix", "paligemma2"), resolution=8, dtype="float32", backend="fake")
SPEC = RunSpec("fake", 1, "default", "generate", "val", DataSource("files", "fake.json"), POINT, batch=4)
Unit = Sequence[tuple[Sample, str]]


def right(sample: Sample, text: str) -> bool:
    return text == sample.target


def exact(unit: Unit) -> Sums:
    (sample, text) = unit[0]
    return {"sum": float(right(sample, text)), "n": 1.0, "invalid": float(not text)}


def both(unit: Unit) -> Sums:
    """A pair is right when all of it is."""
    return {"sum": float(all(right(*row) for row in unit)), "n": 1.0, "invalid": 0.0}


def counts(unit: Unit) -> Sums:
    (sample, text) = unit[0]
    said, true = text == "yes", sample.target == "yes"
    return {"tp": float(said and true), "fp": float(said and not true), "fn": float(true and not said)}


def missed(unit: Sequence[Sample]) -> Sums:
    return {"tp": 0.0, "fp": 0.0, "fn": float(unit[0].target == "yes")}


def f1(sums: Sums) -> float | None:
    parts = 2 * sums["tp"] + sums["fp"] + sums["fn"]
    return 2 * sums["tp"] / parts if parts else None


def pair_of(sample: Sample) -> str:
    return str(sample.fields["pair"])


ACCURACY = Metric("accuracy", exact, mean, "tests", primary=True)
PAIRS = Metric("pairs", both, mean, "tests", unit_of=pair_of)
F1 = Metric("f1", counts, f1, "tests", failed=missed)


def no_data(request: object) -> Dataset:
    raise AssertionError("the runner gets its data ready")


TASK = Task(
    name="fake",
    version=1,
    title="A benchmark in memory",
    sources={"files": no_data},
    splits={"val": 24},
    prompt=lambda sample, profile, variant: f"{variant} {sample.question}",
    gold=lambda sample: str(sample.target),
    metrics=(ACCURACY, PAIRS, F1),
    pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens=4,
    cite="",
    licence="",
)


def make_samples(count: int, *, unscored: frozenset[int] = frozenset()) -> tuple[Sample, ...]:
    """Yes-no questions, two to a pair, each with a picture of its own and a group."""
    return tuple(
        Sample(
            id=f"s{number:03}",
            images=(Image(f"{number}.png", f"pixels of {number}".encode),),
            question=f"question {number}?",
            target=None if number in unscored else ("yes", "no")[number % 3 == 0],
            fields={"pair": number // 2},
            groups={"half": "early" if number < count // 2 else "late"},
            cluster=f"pair {number // 2}",
        )
        for number in range(count)
    )


def digest(samples: Sequence[Sample]) -> str:
    told = [(sample.id, sample.question, sample.target) for sample in samples]
    return hashlib.sha256(repr(told).encode()).hexdigest()


@dataclass
class Fake(TextBackend):
    """Answers from a function, remembers what it was asked, and stops where it is told to."""

    answer: Callable[[str], str] = lambda sample_id: "yes"
    refused: Mapping[str, str] = field(default_factory=dict)  # sample id -> why it cannot be prepared
    broken: Mapping[str, str] = field(default_factory=dict)  # sample id -> why there is no answer
    stop_at: int | None = None  # the call of generate that raises, counted from 0, warm-up included
    error: BaseException = field(default_factory=lambda: RuntimeError("the device is gone"))
    numerics: str = "plain"
    sleep: Callable[[int], None] = lambda size: None
    batches: list[list[str]] = field(default_factory=list)  # ids of each call of generate
    closed: bool = False

    def describe(self) -> Stack:
        return Stack("fake", {"fake": "1"}, numerics={"mode": self.numerics}, weight_bytes=7)

    def prepare(self, request: Request) -> Prepared:
        if request.sample_id in self.refused:
            raise SampleError(self.refused[request.sample_id])
        encoded = [image.read() for image in request.images]
        return Prepared(request, None, 9, image_key(encoded), f"key of {request.sample_id}")

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        ids = [prepared.request.sample_id for prepared in batch]
        if len(self.batches) == self.stop_at:
            raise self.error
        self.batches.append(ids)
        self.sleep(len(ids))
        return [
            Reply("", error=self.broken[name])
            if name in self.broken
            else Reply(self.answer(name), token_ids=(5, 6, 1), n_prompt=9)
            for name in ids
        ]

    def close(self) -> None:
        self.closed = True


def make_cell(
    samples: Sequence[Sample],
    backend: Backend,
    *,
    task: Task = TASK,
    task_digest: str = "d16e57",
    missing: tuple[str, ...] = (),
    demo: bool = False,
    spec: RunSpec = SPEC,
) -> Cell:
    data = Dataset(samples, digest(samples), "fake.json", missing=missing, demo=demo)
    return Cell(replace(spec, task=task.name), task, task_digest, data, Engine(POINT, lambda: backend))


def result(outcome: Outcome) -> dict[str, object]:
    """What has to be equal in two runs of one cell."""
    return essence(outcome.record, read_lines(outcome.folder))
