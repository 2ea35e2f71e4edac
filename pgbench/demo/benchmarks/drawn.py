"""What all drawn benchmarks share: the scenes they show, and the records that they are published as.

Scenes are of the split `test`, which no checkpoint was trained on; each benchmark has scenes of its own.
A picture is drawn whenever it is read, and kept by nobody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from pgbench.demo import world
from pgbench.demo.questions import KINDS, Question
from pgbench.demo.world import Scene
from pgbench.errors import DataError, unknown
from pgbench.types import DataRequest, Dataset, Image

Record: TypeAlias = Mapping[str, object]
Ask: TypeAlias = Callable[[Scene, random.Random], Question | None]

SPLIT = "test"
NAMES = ("world", "demo-world")  # as --data-id names it, as a record does
ID = NAMES[1]
# The first scene of each benchmark, and of each of its splits that shows others.
FIRST: Mapping[str, int] = {
    "vqav2": 0,
    "textvqa": 500,
    "gqa testdev": 1_000,
    "gqa val": 1_500,
    "pope": 2_000,
    "scienceqa": 2_500,
    "mmmu": 3_000,
    "cmmmu": 3_500,
    "docci": 4_000,
    "mmvp": 4_500,
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question about a scene as its benchmark would have published it."""

    record: Record
    image: Image
    asks: str  # the kind of question, see pgbench.demo.questions
    where: str  # for messages


def check(request: DataRequest, splits: Collection[str]) -> None:
    """Raises DataError for what names other data than the world, and for a split that is not drawn."""
    given = {"--data": request.path, "--data-revision": request.revision}
    for flag, value in given.items():
        if value is not None:
            raise DataError(f"the demo source draws its data and cannot take {flag} {value!r}; leave it out")
    if request.id not in (None, *NAMES):
        raise DataError(unknown("drawings", str(request.id), NAMES[:1]))
    if request.split not in splits:
        raise DataError(unknown("split of the demo", request.split, splits))


def scenes(first: str, count: int) -> Iterator[tuple[int, Scene]]:
    """(number, scene) of a benchmark, a key of `FIRST`."""
    for number in range(FIRST[first], FIRST[first] + count):
        yield number, world.scene(SPLIT, number)


def picture(scene: Scene, name: str | None = None) -> Image:
    """A scene as an image, by its own name unless another is given."""
    return Image(name or scene.name, partial(world.draw, scene))


def ask(scene: Scene, kind: str, seed: str) -> Question | None:
    """A question of this kind about the scene; None where it lacks what is asked about."""
    return KINDS[kind](scene, random.Random(f"{seed}/{scene.name}/{kind}"))


def ask_all(scene: Scene, kinds: Sequence[str], seed: str) -> list[Question]:
    """One question of each of these kinds that can be asked of the scene, in their order."""
    found = (ask(scene, kind, seed) for kind in kinds)
    return [one for one in found if one is not None]


def shown(dataset: Dataset, rows: Sequence[Drawn]) -> Dataset:
    """What a task made of the rows, in their order: marked as drawn, each with its kind of question.

    Raises ValueError where there are not as many samples as rows.
    """
    kinds = zip(dataset.samples, rows, strict=True)
    samples = tuple(replace(one, groups={**one.groups, "asks": row.asks}) for one, row in kinds)
    return replace(dataset, samples=samples, demo=True)
