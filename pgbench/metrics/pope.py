"""POPE: is an object in the picture, asked in three settings (random, popular, adversarial).

Two rules for the same answers:

- `pope_answer`: the authors' parser, AoiDragon/POPE evaluate.py, which takes whatever is not a plain no
  for a yes;
- `paper_correct`: the evaluator behind PaliGemma's published numbers, google-research/big_vision.

Both score each setting by itself, and the script has no number over all three. Every metric here is
therefore the mean of the three settings' values, and within one setting (a breakdown) that setting's value.
Over two settings, as a very small run may have, it is undefined: it would pass for a mean of three.
Deviation: the script pairs answers with labels by position in two files; here each answer stays with its
own sample, so that answers out of order or left out cannot shift the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

from pgbench.errors import DataError
from pgbench.types import Metric, Sample, Sums

Outcome: TypeAlias = Literal["TP", "FP", "TN", "FN", "none"]  # positive: yes; none: no answer at all
Counts: TypeAlias = Mapping[str, float]
Measure: TypeAlias = Callable[[Counts], float | None]

OFFICIAL = "AoiDragon/POPE:evaluate.py@3df3ba1b110ecce25696989577fad583b67d4239"
BIG_VISION = (
    "google-research/big_vision:big_vision/evaluators/proj/paligemma/transfers/pope.py"
    "@0127fb6b337ee2a27bf4e54dea79cff176527356"
)
SETTINGS = ("random", "popular", "adversarial")
OUTCOMES: tuple[str, ...] = ("TP", "FP", "TN", "FN", "none")
# Of each setting, outcome -> statistic. Made once: a comparison reduces 24,000 totals a metric.
_STATISTICS = tuple({name: f"{setting}.{name}" for name in OUTCOMES} for setting in SETTINGS)

_NO = frozenset({"No", "not", "no"})  # to the letter: NO, Not and no! are a yes
_YES = re.compile(r"\byes\b", re.IGNORECASE)


def pope_answer(text: str) -> Literal["yes", "no"]:
    """What the official script reads in an answer: no if a word of its first sentence is No, not or no.

    The sentence ends at the first period, commas vanish, and only the space divides words: "no\\n", "no!",
    "NO" and an empty answer are all a yes.
    Source: AoiDragon/POPE, evaluate.py @ 3df3ba1b110e.

    >>> [pope_answer(text) for text in ("No, there is", "There is not a dog.", "NO", "yes. no", "")]
    ['no', 'no', 'yes', 'yes', 'yes']
    """
    return "yes" if _NO.isdisjoint(_words(text)) else "no"


def _words(text: str) -> Sequence[str]:
    return text.split(".", 1)[0].replace(",", "").split(" ")


def paper_correct(*, prediction: str, label: str) -> bool:
    """Whether PaliGemma's papers count an answer: its lower case is the label. White space counts.

    Source: google-research/big_vision, evaluators/proj/paligemma/transfers/pope.py @ 0127fb6b337e.

    >>> paper_correct(prediction="Yes", label="yes"), paper_correct(prediction="no.", label="no")
    (True, False)
    """
    return prediction.lower() == label


def _positive(sample: Sample) -> bool:
    """The script's reading of a label: "no" is 0, anything else 1."""
    if not isinstance(sample.target, str):
        raise DataError(f"sample {sample.id}: expected yes or no as its target, got {sample.target!r}")
    return sample.target != "no"


def _sums(sample: Sample, outcome: Outcome, invalid: bool) -> Sums:
    setting = sample.groups.get("setting")
    if setting not in SETTINGS:
        raise DataError(
            f"sample {sample.id}: expected a group 'setting' of {', '.join(SETTINGS)}, got {setting!r}"
        )
    return {f"{setting}.{outcome}": 1.0, "invalid": float(invalid)}


def _wrong(sample: Sample) -> Outcome:
    return "FN" if _positive(sample) else "FP"


def _official(unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's outcome. Invalid: what the script takes for a yes although no "yes" is in it."""
    ((sample, text),) = unit
    said, positive = pope_answer(text) == "yes", _positive(sample)
    outcome: Outcome = ("TP" if positive else "FP") if said else ("FN" if positive else "TN")
    return _sums(sample, outcome, invalid=said and not _YES.search(text))


def _paper(unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's outcome. Invalid: neither yes nor no in lower case, what lowers valid_percent there."""
    ((sample, text),) = unit
    right: Outcome = "TP" if _positive(sample) else "TN"
    correct = paper_correct(prediction=text, label=str(sample.target))
    return _sums(sample, right if correct else _wrong(sample), invalid=text.lower() not in {"yes", "no"})


def _failed(unit: Sequence[Sample]) -> Sums:
    """A sample without an answer is wrong: a missed yes, or a false one."""
    (sample,) = unit
    return _sums(sample, _wrong(sample), invalid=False)


def _unanswered(unit: Sequence[Sample]) -> Sums:
    """A sample without an answer said neither yes nor no: it is in the number of questions alone."""
    (sample,) = unit
    return _sums(sample, "none", invalid=False)


def over_settings(measure: Measure, sums: Sums) -> float | None:
    """The mean of a measure over the three settings, or its value in the only setting there is.

    None over two settings or none, and where the measure is undefined in a setting.
    """
    values = []
    for names in _STATISTICS:
        table = {name: sums.get(key, 0.0) for name, key in names.items()}
        if any(table.values()):
            value = measure(table)
            if value is None:
                return None
            values.append(value)
    return sum(values) / len(values) if len(values) in {1, len(SETTINGS)} else None


def accuracy(counts: Counts) -> float | None:
    """(TP + TN) / n, also where the script crashes before it prints it."""
    return _ratio(counts["TP"] + counts["TN"], sum(counts.values()))


def precision(counts: Counts) -> float | None:
    return _ratio(counts["TP"], counts["TP"] + counts["FP"])


def recall(counts: Counts) -> float | None:
    return _ratio(counts["TP"], counts["TP"] + counts["FN"])


def f1(counts: Counts) -> float | None:
    """None without a true positive, where the script divides by zero."""
    p, r = precision(counts), recall(counts)
    return 2 * p * r / (p + r) if p and r else None


def yes_ratio(counts: Counts) -> float | None:
    """The share of questions answered with yes."""
    return _ratio(counts["TP"] + counts["FP"], sum(counts.values()))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


_official_metric = partial(Metric, stat=_official, source=OFFICIAL, failed=_failed)

# Floors: a model that says yes to everything, with half of the labels yes. An empty answer is a yes here.
ACCURACY = _official_metric(name="accuracy", reduce=partial(over_settings, accuracy), floor=0.5, primary=True)
PRECISION = _official_metric(name="precision", reduce=partial(over_settings, precision), floor=0.5)
RECALL = _official_metric(name="recall", reduce=partial(over_settings, recall), floor=1.0)
F1 = _official_metric(name="f1", reduce=partial(over_settings, f1), floor=2 / 3)
YES_RATIO = Metric(
    name="yes_ratio",
    stat=_official,
    reduce=partial(over_settings, yes_ratio),
    source=OFFICIAL,
    failed=_unanswered,
    floor=1.0,
    direction=None,
)
PAPER_ACCURACY = Metric(
    name="paper_accuracy",
    stat=_paper,
    reduce=partial(over_settings, accuracy),
    source=BIG_VISION,
    failed=_failed,
    floor=0.5,
)
METRICS = (ACCURACY, PRECISION, RECALL, F1, YES_RATIO, PAPER_ACCURACY)
