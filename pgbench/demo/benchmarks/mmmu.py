"""MMMU of drawings: choices and open questions in a few of the thirty subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pgbench.demo.benchmarks.drawn import Drawn, ask, check, picture, scenes
from pgbench.demo.questions import Question
from pgbench.types import DataRequest

SPLITS = ("val",)
IMAGES = 300
KINDS = ("choice", "choice", "choice", "count", "sign")  # in turn
# By the kind of an open question, and by the first word of a choice: subject and subfield.
SUBJECTS: Mapping[str, tuple[str, str]] = {
    "count": ("Math", "Elementary Arithmetic"),
    "sign": ("Literature", "Reading"),
    "what": ("Art", "Color"),
    "which": ("Design", "Composition"),
    "how": ("Accounting", "Inventory"),
}


def drawn(request: DataRequest) -> list[Drawn]:
    """One question a scene. Raises DataError for a request of other data, or of another split."""
    check(request, SPLITS)
    rows: list[Drawn] = []
    taken: Counter[str] = Counter()
    for number, scene in scenes("mmmu", IMAGES):
        question = ask(scene, KINDS[number % len(KINDS)], "mmmu")
        if question is not None:
            subject, subfield = SUBJECTS[question.text.split()[0] if question.options else question.kind]
            taken[subject] += 1
            record = _record(f"validation_{subject}_{taken[subject]}", question, subfield)
            rows.append(Drawn(record, picture(scene), question.kind, scene.name))
    return rows


def _record(name: str, question: Question, subfield: str) -> dict[str, object]:
    return {
        "id": name,
        "question": question.text,
        "options": str(list(question.options)),
        "explanation": "",
        "img_type": "['Paintings']",
        "answer": question.letter if question.options else question.answer,
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice" if question.options else "open",
        "subfield": subfield,
    }
