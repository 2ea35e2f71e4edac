"""DOCCI of drawings: one paragraph a scene that says all there is, see pgbench.demo.benchmarks.facts."""

from __future__ import annotations

from pgbench.demo.benchmarks.drawn import Drawn, check, picture, scenes
from pgbench.demo.questions import sentences
from pgbench.types import DataRequest

SPLITS = ("test",)
IMAGES = 200


def drawn(request: DataRequest) -> list[Drawn]:
    """Raises DataError for a request of other data, or of a split that is not drawn."""
    check(request, SPLITS)
    rows = []
    for number, scene in scenes("docci", IMAGES):
        example = f"test_{number:05d}"
        record = {
            "example_id": example,
            "split": "test",
            "image_file": example,
            "description": " ".join(sentences(scene)),
        }
        rows.append(Drawn(record, picture(scene, example), "caption", scene.name))
    return rows
