"""TextVQA of drawings: what the sign says in large characters, and the label in small ones."""

from __future__ import annotations

from pgbench.demo.benchmarks.drawn import Drawn, ask_all, check, picture, scenes
from pgbench.demo.benchmarks.people import answers
from pgbench.demo.questions import WRITTEN, Question
from pgbench.demo.world import SIDE, Scene
from pgbench.types import DataRequest

SPLITS = ("val",)
IMAGES = 300


def drawn(request: DataRequest) -> list[Drawn]:
    """Two questions a scene. Raises DataError for a request of other data, or of another split."""
    check(request, SPLITS)
    return [row for number, scene in scenes("textvqa", IMAGES) for row in _rows(number, scene)]


def _rows(number: int, scene: Scene) -> list[Drawn]:
    image_id = f"{number:016x}"
    image = picture(scene, image_id)
    return [
        Drawn(_record(2 * number + place, image_id, one), image, one.kind, f"{scene.name} {one.kind}")
        for place, one in enumerate(ask_all(scene, WRITTEN, "textvqa"))
    ]


def _record(question_id: int, image_id: str, question: Question) -> dict[str, object]:
    return {
        "question": question.text,
        "image_id": image_id,
        "image_classes": [question.kind.capitalize()],
        "image_width": SIDE,
        "image_height": SIDE,
        "answers": list(answers(question, f"textvqa/{question_id}")),
        "question_tokens": question.text.rstrip("?").split(),
        "question_id": question_id,
        "set_name": "val",
    }
