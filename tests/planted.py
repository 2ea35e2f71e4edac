"""Records with planted answers: run folders of any checkpoint, by the real runner without a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fakes import Fake, make_cell

from pgbench import runner
from pgbench.batch import Cell
from pgbench.records import Stack
from pgbench.registry import load_task, task_digest
from pgbench.types import Checkpoint, DataSource, Image, Profile, RunSpec, Sample, Task

VERSIONS = {"pgbench": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"}


def checkpoint(id: str = "google/paligemma-3b-mix-224", **more: object) -> Checkpoint:  # noqa: A002
    """A checkpoint as its name says it (224 px by default)."""
    resolution = next((px for px in (896, 448, 224) if f"-{px}" in id), 224)
    family = "paligemma2" if "paligemma2" in id else "paligemma"
    kind = "mix" if "mix" in id else "pt" if "-pt-" in id else "ft"
    tuned = "textvqa" if kind == "ft" else None
    point = Checkpoint(id, "0" * 40, Profile(kind, family, tuned), resolution, backend="paligemma")  # type: ignore[arg-type]
    return replace(point, **more)  # type: ignore[arg-type]


@dataclass
class Planted(Fake):
    stack: Stack = field(default_factory=lambda: Stack("paligemma", VERSIONS, device="cpu"))

    def describe(self) -> Stack:
        return self.stack


def textvqa(count: int, per_image: int = 2) -> tuple[Sample, ...]:
    """Questions with ten answers that agree; `per_image` of them share a picture."""
    return tuple(
        Sample(
            id=str(34_602 + number),
            images=(Image(f"{number // per_image}.jpg", f"picture {number // per_image}".encode),),
            question=f"what is word {number}?",
            target=(f"word {number}",) * 10,
            cluster=f"picture {number // per_image}",
        )
        for number in range(count)
    )


def pope(count: int) -> tuple[Sample, ...]:
    """Yes-no questions in three settings, six to a picture."""
    return tuple(
        Sample(
            id=f"{('random', 'popular', 'adversarial')[number % 3]}-{number // 3}",
            images=(Image(f"{number // 6}.jpg", f"picture {number // 6}".encode),),
            question=f"is there a {number}?",
            target=("yes", "no")[number // 3 % 2],
            groups={"setting": ("random", "popular", "adversarial")[number % 3]},
            cluster=f"picture {number // 6}",
        )
        for number in range(count)
    )


def mmvp(count: int) -> tuple[Sample, ...]:
    """Two questions to a pair."""
    return tuple(
        Sample(
            id=str(number + 1),
            images=(Image(f"{number}.jpg", f"picture {number}".encode),),
            question=f"open or closed, {number}?",
            target=("a", "b")[number % 2],
            options=("Open", "Closed"),
            fields={"options": "(a) Open (b) Closed"},
            cluster=f"pair {number // 2}",
        )
        for number in range(count)
    )


def gold(task: str, samples: Sequence[Sample]) -> dict[str, str]:
    """What the oracle answers: right on every sample."""
    found = load_task(task)
    return {sample.id: found.gold(sample) for sample in samples}


def spoiled(answers: Mapping[str, str], lost: int, seed: int = 0, text: str = "unlike") -> dict[str, str]:
    """The same answers with so many of them wrong, drawn by the seed."""
    wrong = set(random.Random(seed).sample(sorted(answers), lost))
    return {name: text if name in wrong else answer for name, answer in answers.items()}


def flipped(
    answers: Mapping[str, str], flips: int, drop: int, seed: int = 0, text: str = "unlike"
) -> tuple[dict[str, str], dict[str, str]]:
    """Two sets of answers that disagree on `flips` samples, the second right on `drop` fewer."""
    chosen = random.Random(seed).sample(sorted(answers), flips)
    lost = (flips + drop) // 2
    before, after = dict(answers), dict(answers)
    before.update(dict.fromkeys(chosen[lost:], text))
    after.update(dict.fromkeys(chosen[:lost], text))
    return before, after


def cell(
    samples: Sequence[Sample],
    answers: Mapping[str, str] | Callable[[str], str],
    point: Checkpoint | None = None,
    *,
    task: str | Task = "textvqa",
    split: str | None = None,
    failed: Mapping[str, str] | None = None,
    stack: Stack | None = None,
    demo: bool = False,
    **spec: object,
) -> Cell:
    """A cell that answers as planted; `failed`: id -> why there is no answer; more goes into the spec."""
    found = load_task(task) if isinstance(task, str) else task
    digest = task_digest(task) if isinstance(task, str) else "d16e57"
    answer = answers if callable(answers) else answers.__getitem__
    backend = Planted(answer=answer, broken=failed or {}, **({"stack": stack} if stack else {}))  # type: ignore[arg-type]
    chosen = point or checkpoint()
    asked = RunSpec(
        found.name,
        found.version,
        found.variants[0],
        "generate",
        split or next(iter(found.splits)),
        DataSource("files", "planted.json"),
        chosen,
        batch=64,
        max_new_tokens=found.max_new_tokens,
    )
    asked = replace(asked, **spec)  # type: ignore[arg-type]
    return make_cell(samples, backend, task=found, task_digest=digest, demo=demo, spec=asked)


def plant(out: Path, *arguments: object, **more: object) -> runner.Outcome:
    """Write a run folder below `out`; the arguments are those of `cell`."""
    return runner.run(cell(*arguments, **more), out)  # type: ignore[arg-type]
