"""ScienceQA of drawings: one question with choices about a scene, filed under a school subject."""

from __future__ import annotations

from collections.abc import Mapping

from pgbench.demo.benchmarks.drawn import Drawn, ask, check, picture, scenes
from pgbench.demo.questions import Question
from pgbench.types import DataRequest

SPLITS = ("test",)
IMAGES = 300
HINT = ""  # so that every context is N/A, the one that the checkpoints were taught
# The first word of a question -> where its like is filed.
FILED: Mapping[str, Mapping[str, str]] = {
    "what": {
        "grade": "grade2",
        "subject": "natural science",
        "topic": "physics",
        "category": "Materials",
        "skill": "Identify properties of an object",
    },
    "which": {
        "grade": "grade4",
        "subject": "language science",
        "topic": "vocabulary",
        "category": "Descriptive details",
        "skill": "Match a picture and its description",
    },
    "how": {
        "grade": "grade7",
        "subject": "social science",
        "topic": "economics",
        "category": "Basic economic principles",
        "skill": "Count what there is",
    },
}


def drawn(request: DataRequest) -> list[Drawn]:
    """A record of problems.json for each scene, its number under `pid`.

    Raises DataError for a request of other data, or of a split that is not drawn.
    """
    check(request, SPLITS)
    rows = []
    for number, scene in scenes("scienceqa", IMAGES):
        question = ask(scene, "choice", "scienceqa")
        if question is not None:
            image = picture(scene)
            rows.append(Drawn(_record(number, question, image.name), image, "choice", scene.name))
    return rows


def _record(number: int, question: Question, image: str) -> dict[str, object]:
    return {
        "pid": str(number),
        "question": question.text,
        "choices": list(question.options),
        "answer": question.options.index(question.answer),
        "hint": HINT,
        "image": image,
        "task": "closed choice",
        **FILED[question.text.split()[0]],
        "lecture": "",
        "solution": f"The picture shows that the answer is {question.answer}.",
        "split": SPLITS[0],
    }
