"""MMVP: pairs of pictures that look alike to CLIP; a pair counts when both its questions are answered right.

The official scorer is a GPT-4 judge (tsb0601/MMVP scripts/gpt_grader.py@763500597e65), which cannot be
reproduced, and the PaliGemma paper, which reports pairs (arXiv:2407.07726, appendix B.36), does not say how
it matched. The rule by which an answer picks an option is therefore pgbench's own, in two strengths:

- strict: the answer, normalised, is an option's text or its letter, and nothing more;
- lenient: also an answer that begins with the letter in brackets, or in which exactly one option occurs.

Pairs are counted as the official script does: both right, over complete pairs; a single row is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums, cluster_of

OWN = "pgbench's own matching rule; pairs as tsb0601/MMVP:scripts/gpt_grader.py@763500597e65"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAIR = 2

_ARTICLE = re.compile(r"(?:an?|the) ")
_CLOSING = ".,!?;: "  # the space as well: what stands before a closing mark closes the text too
_BRACKETED = re.compile(r"\(?([a-z])\)")

Picks: TypeAlias = frozenset[str]  # letters of options


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the two rules make of one answer. `strict_invalid`, `invalid`: each rule found no option in it."""

    strict: bool
    lenient: bool
    strict_invalid: bool
    invalid: bool


def judge(*, prediction: str, options: Sequence[str], correct: str) -> Verdict:
    """Whether an answer picks the right option; `options` are their texts in order, `correct` a letter.

    Normalised: lower case, outer white space and closing .,!?;: removed, inner white space collapsed, one
    leading a, an or the dropped. Strict: that is the text of an option, or with its article still on, the
    option's letter as `a`, `(a)`, `a)` or `a.`. Lenient: else the answer begins with `(a)` or `a)`; else the
    options whose text occurs in it as whole words, less those that are part of a longer one that occurs too,
    if exactly one remains.
    Raises DataError where `correct` is not the letter of one of the options.

    >>> judge(prediction="Open.", options=["Open", "Closed"], correct="a").strict
    True
    >>> verdict = judge(prediction="The wings are open", options=["Open", "Closed"], correct="a")
    >>> verdict.strict, verdict.lenient
    (False, True)
    >>> judge(prediction="open or closed", options=["Open", "Closed"], correct="a").invalid
    True
    """
    texts = _texts(tuple(options))
    if correct not in texts:
        raise DataError(f"the right option should be one of {', '.join(texts) or 'none'}, got {correct!r}")
    answer = _folded(prediction)
    strict = _strict(answer, texts)
    lenient = strict or _lenient(answer, texts)
    # an option called "b" that is (a) makes the answer b ambiguous: it is right either way
    return Verdict(correct in strict, correct in lenient, not strict, not lenient)


@lru_cache(maxsize=1 << 10)
def _texts(options: tuple[str, ...]) -> Mapping[str, str]:
    return {letter: normalise(option) for letter, option in zip(LETTERS, options, strict=False)}


def normalise(text: str) -> str:
    """
    >>> normalise("  The  left SIDE !")
    'left side'
    """
    folded = _folded(text)
    article = _ARTICLE.match(folded)
    return folded[article.end() :] if article else folded


def _folded(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(_CLOSING)


def _strict(answer: str, texts: Mapping[str, str]) -> Picks:
    bare = answer[1:-1] if answer.startswith("(") and answer.endswith(")") else answer.removesuffix(")")
    text = normalise(answer)
    return frozenset(
        letter for letter, option in texts.items() if bare == letter or (option and text == option)
    )


def _lenient(answer: str, texts: Mapping[str, str]) -> Picks:
    begins = _BRACKETED.match(answer)
    if begins and begins[1] in texts:
        return frozenset(begins[1])
    found = {letter: option for letter, option in texts.items() if _occurs(option, answer)}
    longest = [
        letter
        for letter, option in found.items()
        if not any(option != other and _occurs(option, other) for other in found.values())
    ]
    return frozenset(longest) if len(longest) == 1 else frozenset()


def _occurs(option: str, text: str) -> bool:
    """As whole words: no letter, digit or underscore touches it."""
    return bool(option) and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", text) is not None


def _verdict(sample: Sample, text: str) -> Verdict:
    if not isinstance(sample.target, str):
        raise DataError(f"sample {sample.id}: expected a letter as its target, got {sample.target!r}")
    return judge(prediction=text, options=sample.options, correct=sample.target)


def _strict_rule(verdict: Verdict) -> tuple[bool, bool]:
    return verdict.strict, verdict.strict_invalid


def _lenient_rule(verdict: Verdict) -> tuple[bool, bool]:
    return verdict.lenient, verdict.invalid


_Rule: TypeAlias = Callable[[Verdict], tuple[bool, bool]]  # right, invalid


def _single_sums(rule: _Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    ((sample, text),) = unit
    right, invalid = rule(_verdict(sample, text))
    return {"sum": float(right), "n": 1.0, "invalid": float(invalid)}


def _pair_sums(rule: _Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    """1 of 1 where both answers are right; 0 of 0 for a row without its other half."""
    found = [rule(_verdict(sample, text)) for sample, text in unit]
    invalid = float(sum(invalid for _, invalid in found))
    if not _complete([sample for sample, _ in unit]):
        return {"sum": 0.0, "n": 0.0, "invalid": invalid}
    return {"sum": float(all(right for right, _ in found)), "n": 1.0, "invalid": invalid}


def _failed_pair(unit: Sequence[Sample]) -> Sums:
    return {"sum": 0.0, "n": float(_complete(unit)), "invalid": 0.0}


def _complete(unit: Sequence[Sample]) -> bool:
    """Raises DataError for a unit of three or more, which no script would count."""
    if len(unit) > PAIR:
        raise DataError(f"pair {cluster_of(unit[0])} has {len(unit)} samples; a pair is two")
    return len(unit) == PAIR


_pair = partial(
    Metric, reduce=mean, source=OWN, unit_of=cluster_of, failed=_failed_pair, floor=0.25
)  # two options each, answered independently
_single = partial(Metric, reduce=mean, source=OWN, floor=0.5)

PAIR_ACCURACY = _pair(name="pair_accuracy", stat=partial(_pair_sums, _strict_rule), primary=True)
PAIR_ACCURACY_LENIENT = _pair(name="pair_accuracy_lenient", stat=partial(_pair_sums, _lenient_rule))
ACCURACY = _single(name="accuracy", stat=partial(_single_sums, _strict_rule))
ACCURACY_LENIENT = _single(name="accuracy_lenient", stat=partial(_single_sums, _lenient_rule))
METRICS = (PAIR_ACCURACY, PAIR_ACCURACY_LENIENT, ACCURACY, ACCURACY_LENIENT)


def pair_accuracy(right: Sequence[bool]) -> float | None:
    """Pair accuracy of verdicts in row order: rows 1-2, 3-4, ...; a last row alone is left out.

    For verdicts that came from elsewhere, the official judge's for instance. None without a pair.
    Source: tsb0601/MMVP, scripts/gpt_grader.py @ 763500597e65 (which divides by zero there).

    >>> pair_accuracy([True, True, True, False, True])
    0.5
    """
    pairs = [all(right[i : i + PAIR]) for i in range(0, len(right) - 1, PAIR)]
    return sum(pairs) / len(pairs) if pairs else None
