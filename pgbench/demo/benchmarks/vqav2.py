"""VQAv2 of drawings: three questions a scene, ten answers each, question and annotation in one record."""

from __future__ import annotations

import random
from collections.abc import Mapping

from pgbench.demo.benchmarks.drawn import Drawn, ask_all, check, picture, scenes
from pgbench.demo.benchmarks.people import answers
from pgbench.demo.draws import shuffled
from pgbench.demo.questions import Question
from pgbench.demo.world import Scene
from pgbench.types import DataRequest

SPLITS = ("val",)
IMAGES = 300
A_SCENE = 3  # questions
OTHERS = ("colour", "shape", "count", "where", "both", "either")
# The question types are words of the published list, which a question begins with.
TYPES: Mapping[str, tuple[str, str]] = {  # kind -> answer type, question type
    "exists": ("yes/no", "is there a"),
    "both": ("yes/no", "are there"),
    "either": ("yes/no", "is there"),
    "count": ("number", "how many"),
    "colour": ("other", "what color is the"),
    "shape": ("other", "what"),
    "where": ("other", "where is the"),
}


def drawn(request: DataRequest) -> list[Drawn]:
    """Raises DataError for a request of other data, or of a split that is not drawn."""
    check(request, SPLITS)
    return [row for number, scene in scenes("vqav2", IMAGES) for row in _rows(number, scene)]


def _rows(number: int, scene: Scene) -> list[Drawn]:
    image = picture(scene)
    kinds = shuffled(random.Random(f"vqav2/{scene.name}"), OTHERS)
    asked = ask_all(scene, ("exists", *kinds), "vqav2")[:A_SCENE]
    return [
        Drawn(_record(number, place, one), image, one.kind, f"{scene.name} question {place}")
        for place, one in enumerate(asked)
    ]


def _record(number: int, place: int, question: Question) -> dict[str, object]:
    answer_type, question_type = TYPES[question.kind]
    one = number * 1_000 + place  # as in COCO's: the image's number, then the question's
    given = answers(question, f"vqav2/{one}")
    return {
        "image_id": number,
        "question": question.text,
        "question_id": one,
        "question_type": question_type,
        "answer_type": answer_type,
        "multiple_choice_answer": question.answer,
        "answers": [
            {"answer": said, "answer_confidence": "yes", "answer_id": annotator}
            for annotator, said in enumerate(given, 1)
        ],
    }
