"""GQA: one answer for each question, compared to the letter, and what the official script makes of it.

The script scores balanced questions alone; the unbalanced ones are asked for consistency only. What a
question is lies in `Sample.fields` (see the keys below); a key that is absent is not known, and a metric that
needs it does not count the question.

    balanced    bool: the question is scored
    structural  types.structural: "query" is an open question, all others are binary
    common      bool: "Common" is part of types.detailed
    global      groups.global; absent where it is null, and "" is a group like any other
    entailed    tuple of ids, of questions about the same image
    valid, plausible   tuples of answers, from the choices files

PaliGemma's papers report the very accuracy of this script: big_vision's evaluator, transfers/vqa.py
@0127fb6b337e with `to_lower=False`, is equality with the single answer too. So it is one metric here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pgbench.metrics import mean
from pgbench.types import Metric, Sample, Sums, cluster_of

EVAL = (
    "eval.py in eval.zip of https://cs.stanford.edu/people/dorarad/gqa, read in the copy "
    "junayednaushad/Relation-Network-VQA:gqa/eval.py@64f6c6a08b54450a41430335ab8c96ca7cde1435"
)
COMMON = ("color", "material", "shape")  # what can be common to two objects
_OPERATION = {"operation", "argument"}
NO_STEP = ("exist", "query: name", "choose name")  # the operations that end a question, no step of reasoning

# The score of an answer as a fraction, or None where the metric does not count the question.
Rule = Callable[[Sample, str], float | None]


def correct(prediction: str, answer: str) -> bool:
    """Equality of the raw texts. There is no normalisation at all: case, spaces and periods count.

    >>> correct("left", "left"), correct("Left", "left"), correct("left ", "left")
    (True, False, False)
    """
    return prediction == answer


def belongs(prediction: str, choices: Sequence[str], *, common: bool) -> bool:
    """Whether an answer is among the choices; a question of "Common" type has its own three instead.

    >>> belongs("shape", ["yes", "no"], common=True), belongs("yes", ["yes", "no"], common=True)
    (True, False)
    """
    return prediction in (COMMON if common else choices)


def steps_of(semantic: Sequence[Mapping[str, object]]) -> int:
    """The steps of reasoning of a question: its operations but those that hold a text of `NO_STEP`.

    Trap: the official test is for a part of "operation: argument", so that the arguments "pre-existing" and
    "nameTag" (of query) are left out as well.

    >>> steps_of([{"operation": "select", "argument": "sky"}, {"operation": "query", "argument": "nameTag"}])
    1
    """
    texts = (f"{one['operation']}: {one['argument']}" for one in semantic)
    return sum(not any(mark in text for mark in NO_STEP) for text in texts)


def words_of(question: str) -> int:
    """The length of a question in words, at any white space.

    >>> words_of(" Is the sky  dark?")
    4
    """
    return len(question.split())


def breakdowns(record: Mapping[str, object], question: str) -> dict[str, str]:
    """The official breakdowns, as far as the record tells."""
    found = {"words": str(words_of(question))}
    types, semantic = record.get("types"), record.get("semantic")
    if isinstance(types, dict):
        both = {name: types.get(name) for name in ("structural", "semantic")}
        found |= {name: value for name, value in both.items() if isinstance(value, str)}
    if isinstance(semantic, list) and all(
        isinstance(one, dict) and one.keys() >= _OPERATION for one in semantic
    ):
        found["steps"] = str(steps_of(semantic))
    return found


def _accuracy(sample: Sample, text: str) -> float | None:
    if not sample.fields.get("balanced") or not isinstance(sample.target, str):
        return None
    return float(correct(text, sample.target))


def _typed(is_open: bool, sample: Sample, text: str) -> float | None:
    structural = sample.fields.get("structural")
    if structural is None or (structural == "query") != is_open:
        return None
    return _accuracy(sample, text)


def _chosen(key: str, sample: Sample, text: str) -> float | None:
    choices, common = sample.fields.get(key), sample.fields.get("common")
    if not sample.fields.get("balanced") or not isinstance(choices, tuple) or common is None:
        return None
    return float(belongs(text, choices, common=bool(common)))


def _sums(rule: Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One question's sums. An answer of white space is invalid and scored all the same."""
    ((sample, text),) = unit
    score = rule(sample, text)
    if score is None:
        return {"sum": 0.0, "n": 0.0, "invalid": 0.0}
    return {"sum": score, "n": 1.0, "invalid": float(not text.strip())}


def _wrong(rule: Rule, samples: Sequence[Sample]) -> Sums:
    """A failed question is wrong under the metrics that count it, and no part of the others."""
    (sample,) = samples
    return {"sum": 0.0, "n": float(rule(sample, "") is not None), "invalid": 0.0}


def _others(sample: Sample) -> Sequence[str] | None:
    """The ids that a scored question entails besides its own; None where they are not known."""
    entailed = sample.fields.get("entailed")
    if not sample.fields.get("balanced"):
        return ()
    return tuple(one for one in entailed if one != sample.id) if isinstance(entailed, tuple) else None


def _consistency(unit: Sequence[tuple[Sample, str]]) -> Sums:
    """Over the right answers to scored questions, the share of the questions they entail that is right too.

    A unit is all that was asked about one image: GQA derives entailment from one image's scene graph, so
    that an entailed question lies in the unit of the question that entails it. Where one does not (it was
    not asked, or a data set breaks the assumption) the value becomes undefined, not wrong: "lacking".
    """
    right = {sample.id: text == sample.target for sample, text in unit}
    sums = {"sum": 0.0, "n": 0.0, "lacking": 0.0, "invalid": 0.0}
    for sample, text in unit:
        sums["invalid"] += bool(sample.fields.get("balanced")) and not text.strip()
        others = _others(sample)
        if not right[sample.id] or others == ():
            continue
        if others is None or any(one not in right for one in others):
            sums["lacking"] += 1.0
            continue
        sums["sum"] += sum(right[one] for one in others) / len(others)
        sums["n"] += 1.0
    return sums


def _inconsistent(samples: Sequence[Sample]) -> Sums:
    """An image with a failed question: what its questions entail is wrong, so that no failure helps."""
    asked = sum(bool(_others(sample)) for sample in samples)
    return {"sum": 0.0, "n": float(asked), "lacking": 0.0, "invalid": 0.0}


def _consistent(sums: Sums) -> float | None:
    """None where entailed questions were not asked, and where no right answer entails any.

    Deviation: the script refuses to run in the first case and says 0 in the second.
    """
    return None if sums["lacking"] else mean(sums)


def _histograms(unit: Sequence[tuple[Sample, str]]) -> Sums:
    """How often each answer is gold, and how often it is given, in each global group of scored questions."""
    sums = {"invalid": 0.0}
    for sample, text in unit:
        group = sample.fields.get("global")
        if not sample.fields.get("balanced") or group is None:
            continue
        sums["invalid"] += not text.strip()
        for side, answer in (("gold", sample.target), ("said", text)):
            key = side + json.dumps([group, answer])
            sums[key] = sums.get(key, 0.0) + 1.0
    return sums


def _unknown(_samples: Sequence[Sample]) -> Sums:
    """The histogram of answers that are not all there; the script refuses to run without one of them."""
    return {"lacking": 1.0, "invalid": 0.0}


def _chi_square(sums: Sums) -> float | None:
    """Chi-square of said against gold over each group's gold answers, weighted by the group, over 100.

    Answers that are never gold in their group are left out, as in the script; it divides by zero where no
    question has a group, here that is None.
    """
    if sums.get("lacking"):
        return None
    chi: dict[str, float] = {}
    size: dict[str, float] = {}
    for key, gold in sums.items():
        if not key.startswith("gold"):
            continue
        group = json.loads(key[4:])[0]
        chi[group] = chi.get(group, 0.0) + (sums.get("said" + key[4:], 0.0) - gold) ** 2 / gold
        size[group] = size.get(group, 0.0) + gold
    if not size:
        return None
    return sum(chi[group] * size[group] for group in size) / sum(size.values()) / 100


def _everything(_sample: Sample) -> str:
    return "all"


def _mean_of(name: str, rule: Rule, primary: bool = False) -> Metric:
    failed = partial(_wrong, rule)
    return Metric(
        name=name, stat=partial(_sums, rule), reduce=mean, source=EVAL, failed=failed, primary=primary
    )


# Floors are 0, what an empty answer gets: no constant answer's score is published. The paper's LSTM that
# reads questions alone, trained on GQA, has 42.1 % on the test split (arXiv:1902.09506).
ACCURACY = _mean_of("accuracy", _accuracy, primary=True)
BINARY = _mean_of("binary", partial(_typed, False))
OPEN = _mean_of("open", partial(_typed, True))
VALIDITY = _mean_of("validity", partial(_chosen, "valid"))
PLAUSIBILITY = _mean_of("plausibility", partial(_chosen, "plausible"))
CONSISTENCY = Metric(
    name="consistency",
    stat=_consistency,
    reduce=_consistent,
    source=EVAL,
    unit_of=cluster_of,
    failed=_inconsistent,
)
# A unit is the whole run: a distribution belongs to all answers together. It has no interval then, which is
# meant: a bootstrap over thousands of (group, answer) columns needs gigabytes on the validation split, and
# resampling adds to a chi-square, so that its percentiles would not hold the value.
DISTRIBUTION = Metric(
    name="distribution",
    stat=_histograms,
    reduce=_chi_square,
    source=EVAL,
    unit_of=_everything,
    failed=_unknown,
    direction="down",
    number=True,
)
METRICS = (ACCURACY, BINARY, OPEN, CONSISTENCY, VALIDITY, PLAUSIBILITY, DISTRIBUTION)
