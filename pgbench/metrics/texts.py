"""Rules for answers that are texts, whatever the benchmark: equality, ANLS, relaxed accuracy and others.

Each compares one answer with the references of one question and gives a fraction in [0, 1]; it is the
accuracy of that answer, and the metric of that name (`pgbench.metrics.named`) is its mean over the samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgbench.errors import DataError
from pgbench.metrics.mmvp import LETTERS, judge
from pgbench.metrics.vqa import need_answers, textvqa_accuracy
from pgbench.metrics.vqav2 import vqav2_accuracy
from pgbench.types import Sample

ANLS_SCRIPT = (
    "infographicvqa_eval.py of rrc.cvc.uab.es, challenge 17 (DocVQA); Biten et al. 2019, arXiv:1907.00490"
)
CHARTQA = "google-research/pix2struct:pix2struct/metrics.py, after arXiv:2203.10244, section 5.1"
THIRDS = "allenai/aokvqa:evaluation/eval_predictions.py, as in big_vision's transfers/vqa.py@0127fb6b337e"
LEAST_ANLS = 0.5
MOST_RELATIVE_ERROR = 0.05
TEN = 10


def exact_match(*, prediction: str, answers: Sequence[str]) -> float:
    """1 where the answer is one of the references; outer white space and case do not count, all else does.

    Source: pgbench's own; the rule of big_vision's evaluators/proj/paligemma/transfers/vqa.py @ 0127fb6b337e
    (`acc_any`) with its `to_lower`.
    Raises ValueError where there are no references.

    >>> exact_match(prediction=" Stop\\n", answers=["stop", "a stop sign"])
    1.0
    >>> exact_match(prediction="stop.", answers=["stop"])
    0.0
    """
    need_answers(answers)
    return float(_folded(prediction) in {_folded(answer) for answer in answers})


def contains(*, prediction: str, answers: Sequence[str]) -> float:
    """1 where a reference occurs in the answer, case apart, also inside a word; for chatty models.

    It rewards answers that say everything: never the only number to look at. An empty reference is found
    in an empty answer alone.
    Source: pgbench's own.
    Raises ValueError where there are no references.

    >>> contains(prediction="The sign says STOP.", answers=["stop"])
    1.0
    """
    need_answers(answers)
    said, known = _folded(prediction), [_folded(answer) for answer in answers]
    return float(any(one in said if one else not said for one in known))


def anls(*, prediction: str, answers: Sequence[str]) -> float:
    """Average normalized Levenshtein similarity of one answer: DocVQA, InfographicVQA, ST-VQA.

    1 - distance / length for the nearest reference, 0 where that is below 0.5. Case and runs of white space
    do not count for the distance; the length is the longer text's as it was given, as in the official script.
    Source: infographicvqa_eval.py, the script of the DocVQA challenges of rrc.cvc.uab.es. Trap: a similarity
    of exactly 0.5 counts there, while equation 1 of Biten et al. 2019 (arXiv:1907.00490) and big_vision's
    `anls_metric` (transfers/vqa.py @ 0127fb6b337e) make it 0.
    Raises ValueError where there are no references.

    >>> anls(prediction="12/15/89", answers=["12/15/88"])
    0.875
    >>> anls(prediction="ab", answers=["ac"]), anls(prediction="ab", answers=["cd"])
    (0.5, 0.0)
    """
    need_answers(answers)
    best = 1 - min(_distance(prediction, answer) for answer in answers)
    return best if best >= LEAST_ANLS else 0.0


def _distance(prediction: str, answer: str) -> float:
    """Edits as a share of the longer text; 0 for two empty ones."""
    length = max(len(prediction.upper()), len(answer.upper()))  # upper: "ß" counts as two in the script
    edits = levenshtein(" ".join(prediction.lower().split()), " ".join(answer.lower().split()))
    return edits / length if length else 0.0


def levenshtein(left: str, right: str) -> int:
    """The least number of letters to insert, delete or replace that makes one text of the other.

    >>> levenshtein("kitten", "sitting")
    3
    """
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, 1):
        corner, row[0] = row[0], number
        for place, other in enumerate(right, 1):
            corner, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, corner + (letter != other)),
            )
    return row[-1]


def relaxed_accuracy(*, prediction: str, answers: Sequence[str]) -> float:
    """ChartQA: 1 for a number within 5 % of a reference that is one, for other texts equality, case apart.

    "7%" is 0.07. A reference of 0 must be met to the letter. The best of several references counts.
    Source: pix2struct's metrics.py, after arXiv:2203.10244, section 5.1; big_vision's
    transfers/chartqa.py @ 0127fb6b337e has the same, with case.
    Deviation: outer white space does not count; "nan" and "inf", which compare with nothing, are texts.
    Raises ValueError where there are no references.

    >>> [relaxed_accuracy(prediction=said, answers=["10"]) for said in ("10.5", "10.6", "ten")]
    [1.0, 0.0, 0.0]
    """
    need_answers(answers)
    return float(any(_relaxed(prediction.strip(), answer.strip()) for answer in answers))


def _relaxed(prediction: str, answer: str) -> bool:
    said, known = _number(prediction), _number(answer)
    if said is not None and known:
        return abs(said - known) / abs(known) <= MOST_RELATIVE_ERROR
    return prediction.lower() == answer.lower()


def _number(text: str) -> float | None:
    try:
        value = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def vqa_thirds(*, prediction: str, answers: Sequence[str]) -> float:
    """min(1, matches / 3) for any number of annotators' answers, nobody left out: OK-VQA, A-OKVQA.

    Outer white space and case do not count, all else does. Fewer than three equal answers cannot give 1.
    Source: google-research/big_vision, evaluators/proj/paligemma/transfers/vqa.py @ 0127fb6b337e with its
    `to_lower`, after allenai/aokvqa's eval_predictions.py; neither normalises texts.
    Raises ValueError where there are no references.

    >>> vqa_thirds(prediction="Pizza", answers=["pizza", "pizza", "a pizza"])
    0.6666666666666666
    """
    need_answers(answers)
    said = _folded(prediction)
    return min(1.0, sum(_folded(answer) == said for answer in answers) / 3)


def vqa_accuracy(*, prediction: str, answers: Sequence[str]) -> float:
    """`pgbench.metrics.vqav2.vqav2_accuracy`, of exactly ten answers. Raises ValueError for another number.

    >>> vqa_accuracy(prediction="2", answers=["two"] * 3 + ["3"] * 7)
    0.9
    """
    _need_ten(answers, "vqa_accuracy")
    return vqav2_accuracy(prediction=prediction, answers=answers)


def textvqa(*, prediction: str, answers: Sequence[str]) -> float:
    """`pgbench.metrics.vqa.textvqa_accuracy`, of exactly ten answers. Raises ValueError for another number.

    >>> textvqa(prediction="The Coca-Cola!", answers=["coca cola"] * 2 + ["pepsi"] * 8)
    0.6
    """
    _need_ten(answers, "textvqa_accuracy")
    return textvqa_accuracy(prediction=prediction, answers=answers)


def choice(*, prediction: str, options: Sequence[str], correct: int) -> tuple[float, bool]:
    """(1 where the answer picks the right option, whether it picks none); the lenient rule of MMVP.

    An answer picks an option by its text or its letter alone, by beginning with `(b)` or `b)`, or as the only
    option that occurs in it (`pgbench.metrics.mmvp.judge`). `correct` counts from 0.
    Raises DataError for more than 26 options.

    >>> choice(prediction="B. Closed", options=["Open", "Closed"], correct=1)
    (1.0, False)
    """
    if len(options) > len(LETTERS):
        raise DataError(f"{len(options)} options; letters end at {len(LETTERS)}")
    verdict = judge(prediction=prediction, options=options, correct=LETTERS[correct])
    return float(verdict.lenient), verdict.invalid


def references(sample: Sample, *, with_options: bool = False) -> tuple[str, ...]:
    """The texts that count as right: the answers, or the right option's text and its letter as `B`, `(B)`,
    `B.` or `B)`.

    Raises DataError for options where the rule takes none (`with_options`), and for a target that is neither
    texts nor the letter of one of the options.
    """
    if sample.options and with_options:
        place = right_option(sample)
        letter = LETTERS[place].upper()
        return (sample.options[place], letter, f"({letter})", f"{letter}.", f"{letter})")
    if sample.options:
        raise DataError(
            f"sample {sample.id} has options, this metric takes answers; exact_match and choice take options"
        )
    found = (sample.target,) if isinstance(sample.target, str) else sample.target
    if not found:
        raise DataError(f"sample {sample.id}: expected texts as its target, got {sample.target!r}")
    return found


def right_option(sample: Sample) -> int:
    """The place of the right option, from 0. Raises DataError where the target is no letter of one."""
    if not sample.options:
        raise DataError(f"sample {sample.id} has no options, this metric takes nothing else; try exact_match")
    letters = LETTERS[: len(sample.options)]
    target = sample.target.lower() if isinstance(sample.target, str) else ""
    if not target or len(target) > 1 or target not in letters:
        raise DataError(
            f"sample {sample.id}: expected the letter of one of {len(sample.options)} options as its target, "
            f"got {sample.target!r}"
        )
    return letters.index(target)


def _folded(text: str) -> str:
    return text.strip().casefold()


def _need_ten(answers: Sequence[str], name: str) -> None:
    if len(answers) != TEN:
        raise ValueError(
            f"{name} is defined for {TEN} answers, got {len(answers)}; vqa_thirds takes any number"
        )
