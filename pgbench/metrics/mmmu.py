"""MMMU: multiple choice and open questions, parsed from free text (Yue et al., CVPR 2024).

The rules are those of `mmmu/utils/eval_utils.py`, every quirk that can move a score kept and explained where
it stands. Where that script finds no choice it draws one: `ACCURACY` takes the expectation of the draw,
`PLAIN_ACCURACY` calls it wrong, and both count it as invalid. No score here is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums

Found: TypeAlias = str | float  # an open answer, made comparable

SOURCE = "MMMU-Benchmark/MMMU:mmmu/utils/eval_utils.py@bb0b95a945998d91dfef37e969e07d49d1139438"
# "Random Choice" on val, MMMU-Benchmark/mmmu-benchmark.github.io@9092d1bd:leaderboard_data.json
BLIND = 0.221

_ENDS = ",.!?;:'"  # taken off one character after the other: of "C',." only the full stop and comma go
_LONG = 5  # words; only a longer answer is searched for the text of an option
_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_LAST_CUES = (*_CUES, "=")  # an equation counts in the last line alone
_TRIVIAL = frozenset(":,.!?;'")
# The original also splits at ". " before a capital, but only after it has lowered the text: never.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def letters(options: Sequence[str]) -> tuple[str, ...]:
    """
    >>> letters(["x", "y"])
    ('A', 'B')
    """
    return tuple(chr(ord("A") + i) for i in range(len(options)))


def parse_choice(prediction: str, options: Sequence[str]) -> str | None:
    """The letter that an answer chooses; None where the official script would draw one.

    Tried in turn: "(A)", " A ", and in answers of more than five words the text of an option, in any
    case. Of several the one named last. Traps: letters count in capitals alone; white space at the ends
    stays, so "A\\n" chooses nothing; an article "A" is a choice; an empty option occurs in every text.

    Source: `parse_multi_choice_response` of `SOURCE`.

    >>> parse_choice("I'd say (B), not (A).", ["yes", "no"])
    'A'
    >>> parse_choice("b", ["yes", "no"]) is None
    True
    """
    text = prediction
    for end in _ENDS:
        text = text.strip(end)
    text = f" {text} "
    names = letters(options)
    return (
        _last(text, {name: f"({name})" for name in names})
        or _last(text, {name: f" {name} " for name in names})
        or _last_option(text, dict(zip(names, options, strict=True)))
    )


def _last(text: str, patterns: Mapping[str, str]) -> str | None:
    """The choice whose pattern begins last; the first of equals. None where none occurs."""
    found = [name for name, pattern in patterns.items() if pattern in text]
    return max(found, key=lambda name: text.rfind(patterns[name])) if found else None


def _last_option(text: str, options: Mapping[str, str]) -> str | None:
    if len(text.split()) <= _LONG:
        return None
    return _last(text.lower(), {name: option.lower() for name, option in options.items()})


def choice_accuracy(*, prediction: str, options: Sequence[str], golds: Sequence[str]) -> float:
    """1 or 0; where the script would draw, the share of the choices that are right.

    >>> choice_accuracy(prediction="", options=["a", "b", "c", "d"], golds=["D"])
    0.25
    """
    chosen = parse_choice(prediction, options)
    if chosen is not None:
        return float(chosen in golds)
    names = letters(options)
    return sum(name in golds for name in names) / len(names)


def parse_open(prediction: str) -> frozenset[Found]:
    """What an answer to an open question may mean: texts, and numbers rounded to two decimals.

    Per line the shortest text after the last occurrence of a cue ("is ", "so ", ...), else the whole
    answer, and every number in these. Trap: the last group of "1,000" counts as a number of its own.
    Source: `parse_open_response` of `SOURCE`.

    >>> sorted(parse_open("The answer is 1,250"))
    [250.0, 1250.0]
    """
    text = prediction.strip().strip(".").lower()
    lines = text.split("\n")
    cues = [_CUES] * (len(lines) - 1) + [_LAST_CUES]
    tails = [shortest_tail(line, known) for line, known in zip(lines, cues, strict=True)]
    kept = [tail for tail in tails if tail and tail not in _TRIVIAL] or [text]
    numbers = [number for tail in kept for pattern in _NUMBERS for number in pattern.findall(tail)]
    return frozenset(form for one in (*kept, *numbers) for form in comparable(one))


def shortest_tail(line: str, cues: Sequence[str]) -> str:
    """The shortest text after the last occurrence of a cue; "" where there is none.

    Trap: an empty tail beats all before it and is itself forgotten at the next cue, so the order of the
    cues matters: "result so x is " leaves "so x is", not "x is".
    """
    shortest = ""
    for cue in cues:
        if cue in line:
            tail = line.rsplit(cue, 1)[-1].strip()
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def as_number(text: str) -> float | None:
    """A number as Python reads it, ASCII commas dropped: also 1_000, full-width digits, nan and inf.

    >>> as_number("1,2,3"), as_number("1_000"), as_number("0.004"), as_number("x")
    (123.0, 1000.0, 0.0, None)
    """
    try:
        return round(float(text.replace(",", "")), 2)
    except ValueError:
        return None


def comparable(text: str) -> tuple[Found, ...]:
    """A number, or the text in lower case; a single character gets a space on either side in turn.

    >>> comparable("A"), comparable(" 7.005"), comparable("Two words ")
    ((' a', 'a '), (7.0,), ('two words',))
    """
    stripped = text.strip()
    number = as_number(stripped)
    if number is not None:
        return (number,)
    low = stripped.lower()
    return (f" {low}", f"{low} ") if len(low) == 1 else (low,)


def open_accuracy(*, prediction: str, golds: Sequence[str]) -> float:
    """1 where a reference is part of a text of the answer or equal to one of its numbers, else 0.

    >>> open_accuracy(prediction="It is the Renaissance.", golds=["renaissance"])
    1.0
    """
    wanted = [form for gold in golds for form in comparable(gold)]
    return float(matches(parse_open(prediction), wanted))


def matches(said: frozenset[Found], wanted: Sequence[Found]) -> bool:
    """A text holds a wanted text, or a number equals a wanted number; never one with the other."""
    texts = [form for form in wanted if isinstance(form, str)]
    numbers = [form for form in wanted if not isinstance(form, str)]
    # one by one with ==, since `in` takes a nan for equal to itself
    return any(
        any(text in one for text in texts) if isinstance(one, str) else any(one == n for n in numbers)
        for one in said
    )


def golds_of(sample: Sample) -> tuple[str, ...]:
    """The references of a sample. Raises DataError for one without, which cannot be scored."""
    if sample.target is None:
        raise DataError(f"sample {sample.id}: expected a reference as its target, got None")
    return (sample.target,) if isinstance(sample.target, str) else sample.target


def sample_accuracy(sample: Sample, text: str, *, guess: bool) -> tuple[float, bool]:
    """(score, invalid) of one sample: with options it is multiple choice, without it is open.

    Invalid: nothing was chosen, or an open question was answered with white space.
    """
    golds = golds_of(sample)
    if not sample.options:
        return open_accuracy(prediction=text, golds=golds), not text.strip()
    if parse_choice(text, sample.options) is None:
        score = choice_accuracy(prediction=text, options=sample.options, golds=golds)
        return score if guess else 0.0, True
    return choice_accuracy(prediction=text, options=sample.options, golds=golds), False


def _sums(guess: bool, unit: Sequence[tuple[Sample, str]]) -> Sums:
    ((sample, text),) = unit
    score, invalid = sample_accuracy(sample, text, guess=guess)
    return {"sum": score, "n": 1.0, "invalid": float(invalid)}


ACCURACY = Metric(
    name="accuracy", stat=partial(_sums, True), reduce=mean, source=SOURCE, floor=BLIND, primary=True
)
PLAIN_ACCURACY = Metric(
    name="plain_accuracy", stat=partial(_sums, False), reduce=mean, source=SOURCE, floor=BLIND
)
