"""POPE of drawings: six questions a scene and setting, three of them about what is not there.

random: anything absent; popular: the most frequent kinds of object of all scenes shown; adversarial: what
stands most often beside the objects of the scene. As in POPE, scenes have three kinds of object at least.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from pgbench.demo.benchmarks.drawn import Drawn, check, picture, scenes
from pgbench.demo.draws import shuffled
from pgbench.demo.world import COLOURS, SHAPES, Scene
from pgbench.types import DataRequest

SPLITS = ("test",)
SETTINGS = ("random", "popular", "adversarial")
IMAGES = 100
ASKED = 3  # of what is there, and as many of what is not
SEARCHED = 500  # scenes
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def drawn(request: DataRequest) -> dict[str, list[Drawn]]:
    """The rows of each setting. Raises DataError for a request of other data, or of another split."""
    check(request, SPLITS)
    found = list(islice(_crowded(), IMAGES))
    return {setting: _rows(setting, found) for setting in SETTINGS}


def _crowded() -> Iterator[Scene]:
    return (scene for _, scene in scenes("pope", SEARCHED) if len(_there(scene)) >= ASKED)


def _there(scene: Scene) -> list[str]:
    return sorted({one.name for one in scene.things})


def _rows(setting: str, found: Sequence[Scene]) -> list[Drawn]:
    rows: list[Drawn] = []
    popular = Counter(name for scene in found for name in _there(scene))
    beside = Counter((a, b) for scene in found for a in _there(scene) for b in _there(scene) if a != b)
    for scene in found:
        image = picture(scene)
        asked = shuffled(random.Random(f"pope/{scene.name}"), _there(scene))[:ASKED]
        absent = _absent(setting, scene, asked, popular, beside)
        for pair in zip(asked, absent, strict=True):
            for name, label in zip(pair, ("yes", "no"), strict=True):
                record = _record(len(rows) + 1, image.name, name, label)
                rows.append(Drawn(record, image, "exists", f"{setting} question {len(rows) + 1}"))
    return rows


def _absent(
    setting: str, scene: Scene, asked: Sequence[str], popular: Counter[str], beside: Counter[tuple[str, str]]
) -> list[str]:
    """Three kinds of object that the scene lacks, by the rule of the setting."""
    left = [name for name in NAMES if name not in _there(scene)]
    if setting == "random":
        return shuffled(random.Random(f"pope/{scene.name}/absent"), left)[:ASKED]
    if setting == "popular":
        return sorted(left, key=lambda name: -popular[name])[:ASKED]
    found: list[str] = []
    for there in asked:
        free = [name for name in left if name not in found]
        found.append(max(free, key=lambda name: beside[there, name]))
    return found


def _record(number: int, image: str, name: str, label: str) -> dict[str, object]:
    return {
        "question_id": number,
        "image": image,
        "text": f"is there a {name} in the image?",
        "label": label,
    }
