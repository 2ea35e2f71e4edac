"""Ten annotators who look at a scene: most agree, some write differently, now and then one is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pgbench.demo.draws import pick, shuffled
from pgbench.demo.lettering import CHARACTERS
from pgbench.demo.questions import Question
from pgbench.demo.world import COLOURS, MOST, SHAPES

ANNOTATORS = 10
CERTAIN = 6  # write the plain answer, so that it scores full marks by every rule
ERRS = 0.25  # of the questions: one of the ten is wrong
NUMBERS = ("zero", "one", "two", "three", "four")
KNOWN: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "which": tuple(COLOURS),
    "shape": SHAPES,
    "exists": ("yes", "no"),
    "both": ("yes", "no"),
    "either": ("yes", "no"),
    "count": tuple(str(number) for number in range(MOST + 1)),
    "where": ("top left", "top right", "bottom left", "bottom right"),
}


def answers(question: Question, seed: str) -> tuple[str, ...]:
    """Ten answers in an order of chance, the plain one at least six times."""
    generator = random.Random(f"{seed}/answers")
    ways = _spellings(question.answer)
    given = [question.answer] * CERTAIN
    given += [pick(generator, ways) for _ in range(ANNOTATORS - CERTAIN)]
    if generator.random() < ERRS:
        given[-1] = _mistaken(question, generator)
    return tuple(shuffled(generator, given))


def _spellings(answer: str) -> Sequence[str]:
    """Ways to write it that the VQA rules take for the same."""
    if answer.isdigit():
        return (answer, answer, answer, NUMBERS[int(answer)] if answer in KNOWN["count"] else answer)
    other = answer.lower() if answer.isupper() else answer.capitalize()
    return (answer, answer, answer, other, f"{answer}.")


def _mistaken(question: Question, generator: random.Random) -> str:
    """Another answer of the kind; of lettering, one character misread."""
    others = [one for one in KNOWN.get(question.kind, question.options) if one != question.answer]
    if others:
        return pick(generator, others)
    place = int(generator.random() * len(question.answer))
    character = pick(generator, [one for one in CHARACTERS if one != question.answer[place]])
    return f"{question.answer[:place]}{character}{question.answer[place + 1 :]}"
