"""Which questions about one scene follow from another's answer, as GQA lists them.

All is said in kinds of object that are there or not: whoever answers "red" to "what color is the circle?"
says that there is a red circle and, as there is but one, no circle of another colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pgbench.demo.questions import Question
from pgbench.demo.world import COLOURS, SHAPES

Known: TypeAlias = Mapping[str, bool]  # "red circle" -> whether there is one


def known(question: Question) -> Known:
    """What the right answer to a question says."""
    said = question.answer == "yes"
    if question.kind in ("colour", "which"):
        return _of_shape(question.about[0], question.answer)
    if question.kind == "shape":
        return {f"{question.about[0]} {shape}": shape == question.answer for shape in SHAPES}
    if question.kind == "verify":
        shape, colour = question.about
        return _of_shape(shape, colour) if said else {f"{colour} {shape}": False}
    if question.kind == "exists" or (question.kind, said) in (("both", True), ("either", False)):
        return dict.fromkeys(question.about, said)
    return {}


def _of_shape(shape: str, colour: str) -> Known:
    return {f"{one} {shape}": one == colour for one in COLOURS}


def settles(there: Known, question: Question) -> bool:
    """Whether what is known answers the question."""
    if question.kind in ("colour", "which"):
        return there.keys() >= _of_shape(question.about[0], "").keys()
    if question.kind == "shape":
        return all(f"{question.about[0]} {shape}" in there for shape in SHAPES)
    if question.kind == "verify":
        return " ".join(reversed(question.about)) in there
    found = [there.get(name) for name in question.about]
    if question.kind == "both":
        return False in found or found.count(True) == len(found)
    if question.kind == "either":
        return True in found or found.count(False) == len(found)
    return question.kind == "exists" and None not in found


def entails(first: Question, second: Question) -> bool:
    """Whether whoever answers the first question rightly has answered the second. Both are of one scene."""
    return settles(known(first), second)


def meaning(question: Question) -> tuple[str, ...]:
    """Equal for questions that ask the same in other words or another order."""
    return (question.kind, *sorted(question.about), *sorted(question.options))
