"""GQA of drawings: balanced questions, and around them the unbalanced ones that they entail.

Each split shows scenes of its own. As published, testdev has no choices, and val has them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pgbench.demo.benchmarks import entailment, programs
from pgbench.demo.benchmarks.drawn import Drawn, Record, ask, ask_all, check, picture, scenes
from pgbench.demo.draws import shuffled
from pgbench.demo.questions import KINDS, Question
from pgbench.demo.world import COLOURS, SHAPES, Scene
from pgbench.types import DataRequest

SPLITS = ("testdev", "testdev_all", "val", "val_all")
IMAGES = 200
BALANCED = 4  # questions a scene
ALL = "_all"  # with the unbalanced ones
CHOICES = dict.fromkeys(("val", "val_all"), "val_choices")  # split -> the file of its choices
# Asked of each scene to find what its balanced questions entail.
TRIES = 8
ENTAILED = ("colour", "which", "verify", "exists", "both", "either")
OTHERS = tuple(kind for kind in programs.TYPES if kind in KINDS and kind != "exists")


def drawn(request: DataRequest) -> list[Drawn]:
    """Records with their key under `id`. Raises DataError for a request of other data or another split."""
    check(request, SPLITS)
    tier = request.split.removesuffix(ALL)
    rows = [row for number, scene in scenes(f"gqa {tier}", IMAGES) for row in _rows(number, scene)]
    return rows if request.split.endswith(ALL) else [row for row in rows if row.record["isBalanced"]]


def choices(rows: Sequence[Drawn]) -> Iterator[tuple[str, str, Record]]:
    """(file, key, record) of the choices: plausible is what the same object is somewhere in the set."""
    seen = _seen(rows)
    for row in rows:
        valid = _valid(row)
        plausible = [one for one in valid if one in seen[_asked_of(row)]]
        yield "val_choices", str(row.record["id"]), {"valid": valid, "plausible": plausible}


def _rows(number: int, scene: Scene) -> Iterator[Drawn]:
    """The balanced questions of a scene, then the unbalanced ones."""
    kinds = shuffled(random.Random(f"gqa/{scene.name}"), OTHERS)
    balanced = ask_all(scene, ("exists", *kinds), "gqa")[:BALANCED]
    asked = [*balanced, *_entailed(scene, balanced)]
    keys = [f"{number:06d}{place:02d}" for place in range(len(asked))]
    image = picture(scene, f"{number:07d}")
    for place, question in enumerate(asked):
        others = [at for at in range(len(asked)) if at != place]
        same = [at for at in others if entailment.meaning(asked[at]) == entailment.meaning(question)]
        follows = [at for at in others if at in same or entailment.entails(question, asked[at])]
        record = {
            "id": keys[place],
            "semantic": (steps := programs.program(question, scene)),
            "semanticStr": programs.written(steps),
            "entailed": [keys[at] for at in follows],
            "equivalent": [keys[at] for at in sorted([place, *same])],
            "question": question.text,
            "imageId": image.name,
            "isBalanced": place < len(balanced),
            "groups": programs.groups(question),
            "answer": question.answer,
            "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
            "types": programs.types(question),
            "fullAnswer": _in_full(question),
        }
        yield Drawn(record, image, question.kind, f"{scene.name} question {keys[place]}")


def _entailed(scene: Scene, balanced: Sequence[Question]) -> list[Question]:
    """Questions that one of the balanced ones settles, each once."""
    found = {one.text: one for one in balanced}
    for attempt in range(TRIES):
        for kind in ENTAILED:
            question = ask(scene, kind, f"gqa/{attempt}") if kind in KINDS else None
            if question and any(entailment.entails(one, question) for one in balanced):
                found.setdefault(question.text, question)
    return list(found.values())[len(balanced) :]


def _in_full(question: Question) -> str:
    if question.answer in ("yes", "no"):
        return f"{question.answer.capitalize()}."
    return f"It is {question.answer}."


def _asked_of(row: Drawn) -> tuple[str, str]:
    """What a choice is plausible for: the object that is asked about, in questions of one kind."""
    semantic = row.record["semantic"]
    first = semantic[0] if isinstance(semantic, list) else {}
    return row.asks, str(first["argument"]).split()[0]


def _seen(rows: Sequence[Drawn]) -> dict[tuple[str, str], set[str]]:
    """The answers that each object has somewhere in the set."""
    seen: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        seen.setdefault(_asked_of(row), set()).add(str(row.record["answer"]))
    return seen


def _valid(row: Drawn) -> list[str]:
    """The answers that fit the question at all."""
    if row.asks in ("which", "size", "side"):
        semantic = row.record["semantic"]
        return str(semantic[-1]["argument"]).split("|") if isinstance(semantic, list) else []
    return list({"colour": COLOURS, "shape": SHAPES}.get(row.asks, ("yes", "no")))
