"""ScienceQA: multiple choice by letter, by two rules that read a letter out of a sentence.

- `official_accuracy`: models/run_gpt3.py of lupantech/ScienceQA reads, tools/evaluate_acc.py counts.
  Where it finds no letter of a choice, the script draws one of the choices at random; no draw is made here:
  the score is what the draw is worth on average, and `plain_accuracy` beside it takes the guess as wrong.
- `paper_accuracy`: the evaluator behind PaliGemma's published numbers, in google-research/big_vision.

Left out: run_gpt3.py has its API stop at a line break and strips what comes back; here the whole text counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums

SCIENCEQA = (
    "lupantech/ScienceQA:models/run_gpt3.py, tools/evaluate_acc.py@2cbf8318e07b9ece895bb2ae605e71e38d623264"
)
BIG_VISION = (
    "google-research/big_vision:big_vision/evaluators/proj/paligemma/transfers/science_qa.py"
    "@0127fb6b337ee2a27bf4e54dea79cff176527356"
)
LETTERS = "ABCDE"  # the script's options: no question has more
# "Random Chance" on questions with an image, in the README of lupantech/ScienceQA; 39.83 % on all questions.
CHANCE = 0.4008

# The last period is any character but a line break: "The answer is A" at the end of a text is not found,
# "The answer is AB" is A.
_OFFICIAL = re.compile(r"The answer is ([A-Z]).")
_PAPER = re.compile(r"the answer is ([a-z])\.")


def official_letter(text: str) -> str | None:
    """The letter that run_gpt3.py reads, of a choice or not; None unless the sentence stands there just once.

    >>> official_letter("So The answer is B. BECAUSE: it is.")
    'B'
    >>> official_letter("The answer is A"), official_letter("the answer is A.")
    (None, None)
    """
    found: list[str] = _OFFICIAL.findall(text.strip())
    return found[0] if len(found) == 1 else None


def official_accuracy(*, prediction: str, answer: str, choices: int) -> float:
    """1 or 0 for the letter of a choice, else 1 / choices: the expectation of the official random guess.

    `answer`: the letter of the right choice. `choices`: how many there are.
    Raises ValueError where `answer` is not the letter of one of 1 to 5 choices.

    >>> official_accuracy(prediction="The answer is B.", answer="B", choices=4)
    1.0
    >>> official_accuracy(prediction="The answer is E.", answer="B", choices=4)
    0.25
    """
    letters = _letters(answer, choices)
    letter = official_letter(prediction)
    return float(letter == answer) if letter in letters else 1 / choices


def plain_accuracy(*, prediction: str, answer: str, choices: int) -> float:
    """As `official_accuracy`, but what the script would guess is wrong. Raises ValueError as that does.

    >>> plain_accuracy(prediction="B", answer="B", choices=4)
    0.0
    """
    _letters(answer, choices)
    return float(official_letter(prediction) == answer)


def paper_letter(text: str) -> str | None:
    """The letter, in lower case, that big_vision reads at the very start of a text; None if there is none.

    >>> paper_letter("THE ANSWER IS A. The answer is B.")
    'a'
    >>> paper_letter(" The answer is A."), paper_letter("The answer is A!")
    (None, None)
    """
    match = _PAPER.match(text.lower())
    return match[1] if match else None


def paper_accuracy(*, prediction: str, answer: str) -> float:
    """1 or 0, by big_vision's rule: it does not look whether there is such a choice, and never guesses.

    >>> paper_accuracy(prediction="The answer is A.", answer="A")
    1.0
    """
    return float(paper_letter(prediction) == answer.lower())


def _letters(answer: str, choices: int) -> Sequence[str]:
    letters = tuple(LETTERS[: max(choices, 0)])
    if choices != len(letters) or answer not in letters:
        raise ValueError(
            f"answer {answer!r} of {choices} choices: expected the letter of one of 1 to {len(LETTERS)}"
        )
    return letters


class _Rule(Protocol):
    def __call__(self, *, prediction: str, answer: str, choices: int) -> float: ...


def _checked(unit: Sequence[tuple[Sample, str]]) -> tuple[str, str, int]:
    """(text, answer, number of choices) of one sample. Raises DataError."""
    ((sample, text),) = unit
    if isinstance(sample.target, str):
        try:
            _letters(sample.target, len(sample.options))
        except ValueError as error:
            raise DataError(f"sample {sample.id}: {error}; a source gives both") from error
        return text, sample.target, len(sample.options)
    raise DataError(
        f"sample {sample.id}: expected the letter of a choice as its target, got {sample.target!r}"
    )


def _official_sums(rule: _Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's sums; invalid: whatever the script answers with a guess, the letter of no choice too."""
    text, answer, choices = _checked(unit)
    guessed = official_letter(text) not in _letters(answer, choices)
    score = rule(prediction=text, answer=answer, choices=choices)
    return {"sum": score, "n": 1.0, "invalid": float(guessed)}


def _paper_sums(unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's sums; invalid: big_vision's `parsefail`."""
    text, answer, _ = _checked(unit)
    score = paper_accuracy(prediction=text, answer=answer)
    return {"sum": score, "n": 1.0, "invalid": float(paper_letter(text) is None)}


SCIENCEQA_ACCURACY = Metric(
    name="accuracy",
    stat=partial(_official_sums, official_accuracy),
    reduce=mean,
    source=f"{SCIENCEQA}; a random guess counts as its expectation",
    floor=CHANCE,
    primary=True,
)
PLAIN_ACCURACY = Metric(
    name="plain_accuracy",
    stat=partial(_official_sums, plain_accuracy),
    reduce=mean,
    source=f"{SCIENCEQA}; a random guess counts as wrong",
    floor=CHANCE,
)
PAPER_ACCURACY = Metric(name="paper_accuracy", stat=_paper_sums, reduce=mean, source=BIG_VISION, floor=CHANCE)
