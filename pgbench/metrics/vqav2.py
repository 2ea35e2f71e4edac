"""VQAv2: the official accuracy, with the table that the official script prints, and the paper's beside it.

The two rules differ in periods alone (`pgbench.metrics.vqa`): the script removes the first 32 of a text,
big_vision, which gave PaliGemma's published numbers, removes all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.metrics.vqa import (
    FIRST_32,
    PAPER_ACCURACY,
    leave_one_out,
    need_answers,
    sums_of_one,
    vqav2_matches,
)
from pgbench.types import Metric, Sample

VQA_EVAL = (
    "GT-Vision-Lab/VQA:PythonEvaluationTools/vqaEvaluation/vqaEval.py"
    "@a013f0043c1e2cdc995922dfe257f7149aa9af06"
)
# "Prior", which always says the commonest answer of the training set ("yes"): Goyal et al. 2017,
# arXiv:1612.00837, table 2, test-standard. On val it is 24.04 % (table 1).
PRIOR = 0.2598
GROUPS = {"answer_type": "perAnswerType", "question_type": "perQuestionType"}  # ours -> the script's
Table = dict[str, float | dict[str, float] | None]


def vqav2_accuracy(*, prediction: str, answers: Sequence[str]) -> float:
    """Official VQAv2 accuracy of one answer, a fraction in [0, 1].

    Where the answers, white space apart, are all the same text, the prediction must equal it to the
    letter: case, punctuation and articles count. Otherwise all texts are normalised, and the score is
    the mean over the answers, each left out in turn, of min(1, matches among the others / 3).

    Source: GT-Vision-Lab/VQA, vqaEval.py @ a013f0043c1e, under Python 3. Before its change of 2021-03-11 the
    script normalised predictions and answers differently; most copies of it, lmms-eval's among them, know
    no exception for unanimous answers.
    Deviation: none in the score; an empty list of answers, which would divide by zero there, raises
    ValueError.

    >>> vqav2_accuracy(prediction="Two!", answers=["2"] * 3 + ["3"] * 7)
    0.9
    >>> vqav2_accuracy(prediction="Two!", answers=["two"] * 10)
    0.0
    """
    need_answers(answers)
    return leave_one_out(vqav2_matches(prediction, answers, FIRST_32).count(True), len(answers))


def official_table(rows: Iterable[tuple[Sample, str]]) -> Table:
    """What `VQAEval.accuracy` holds after `evaluate`: percentages, rounded to two decimals.

    Means over questions: `overall`, and by name under `perAnswerType` and `perQuestionType` (the samples'
    groups answer_type and question_type). Samples without references are left out; over nothing, None.
    Trap: small groups often lie between two hundredths of a percent. Rounding errors decide them, so all is
    added in the script's order, by Python 3.11's plain sum.
    Raises DataError where a sample's references are not a tuple of answers.
    """
    sums: dict[tuple[str, str], list[float]] = {}
    for sample, text in rows:
        if sample.target is None:
            continue
        if not isinstance(sample.target, tuple) or not sample.target:
            raise DataError(f"sample {sample.id}: expected a tuple of answers, got {sample.target!r}")
        score = _as_added(vqav2_matches(text, sample.target, FIRST_32))
        for group in (("", ""), *sample.groups.items()):
            total = sums.setdefault(group, [0.0, 0])
            total[0] += score
            total[1] += 1
    percent = {group: round(100 * total / n, 2) for group, (total, n) in sums.items()}
    table: Table = {"overall": percent.get(("", ""))}
    for ours, theirs in GROUPS.items():
        table[theirs] = {value: number for (name, value), number in percent.items() if name == ours}
    return table


@lru_cache(maxsize=1 << 12)
def _as_added(matches: tuple[bool, ...]) -> float:
    """The mean over the answers with the script's rounding errors: two matches give 0.6 or its neighbours."""
    total, count = 0.0, sum(matches)
    for match in matches:
        total += min(1.0, (count - match) / 3)
    return total / len(matches)


VQAV2_ACCURACY = Metric(
    name="accuracy",
    stat=partial(sums_of_one, vqav2_accuracy),
    reduce=mean,
    source=VQA_EVAL,
    floor=PRIOR,
    primary=True,
)
METRICS = (VQAV2_ACCURACY, replace(PAPER_ACCURACY, floor=PRIOR))
