"""`--official-seed`: what the official scripts that guess print when their own random guesses are drawn.

MMMU's and CMMMU's scripts call `random.seed(42)` on import and then `random.choice` once for each answer that
they cannot parse, in the order in which they go through the answers; ScienceQA's seeds with its --seed. A
`random.Random` of that seed gives the same draws, so the order is all that has to be restored: samples carry
their place among the published ones in `Sample.fields["position"]`, and MMMU and CMMMU go by subject or
discipline before that.

The unit is the whole run: one draw decides what the next one is. So there is no interval, the value is None
where an answer is lacking (the scripts know no failed samples), and in a breakdown it is what the script
prints when it is given that part alone. A drawn score is luck in part: nothing should be gated by it, hence
no direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TypeAlias

from pgbench.errors import DataError
from pgbench.metrics import cmmmu, mmmu, scienceqa
from pgbench.types import Metric, Sample, Sums

Judge: TypeAlias = Callable[[Sample, str, Random], tuple[float, bool]]  # score, whether it was drawn
Place: TypeAlias = Callable[[Sample], tuple[str | int, ...]]  # where the script comes to a sample

MMMU_SCRIPT = "MMMU-Benchmark/MMMU:mmmu/main_parse_and_eval.py, mmmu/utils/eval_utils.py@bb0b95a945998d91df"
CMMMU_SCRIPT = (
    "CMMMU-Benchmark/CMMMU:eval/eval_script.py@59a4776bc656638c0b07eef093c48ffef464fdcd, "
    "eval/utils/eval_utils.py@e1ba883284c61e5f6bbf552addb87f6e48de87bc"
)
# as eval_script.py goes through them; a discipline that it does not know comes last
CMMMU_DISCIPLINES = (
    "Art & Design",
    "Business",
    "Science",
    "Health & Medicine",
    "Humanities & Social Sciences",
    "Technology & Engineering",
)


def mmmu_draw(seed: int) -> Metric:
    """main_parse_and_eval.py --subject ALL: subjects by their names, answers as published; its seed is 42."""
    return _drawn(
        seed, _mmmu, lambda one: (one.groups.get("subject", ""), position_of(one)), MMMU_SCRIPT, mmmu.BLIND
    )


def cmmmu_draw(seed: int) -> Metric:
    """eval_script.py on responses: six disciplines in its own order, answers as published; its seed is 42."""
    return _drawn(seed, _cmmmu, _by_discipline, CMMMU_SCRIPT, cmmmu.BLIND)


def scienceqa_draw(seed: int) -> Metric:
    """run_gpt3.py with --seed and --shot_number 0 over the questions of the run, in the order of the source.

    With examples in its prompt the script samples these from the same generator first, so that only runs
    without them can be reproduced; and it asks all questions, so only the full splits are its own.
    """
    return _drawn(seed, _scienceqa, lambda one: (position_of(one),), scienceqa.SCIENCEQA, scienceqa.CHANCE)


def position_of(sample: Sample) -> int:
    """The place of a sample among the published ones. Raises DataError where its source does not say."""
    position = sample.fields.get("position")
    if not isinstance(position, int):
        raise DataError(f"sample {sample.id}: field 'position' should be a whole number, got {position!r}")
    return position


def _drawn(seed: int, judge: Judge, place: Place, source: str, floor: float) -> Metric:
    return Metric(
        name=f"accuracy_seed_{seed}",
        stat=partial(_sums, seed, judge, place),
        reduce=_value,
        source=f"{source}; its own random guesses, seed {seed}",
        unit_of=_whole,
        failed=_lacking,
        floor=floor,
        direction=None,
    )


def _sums(seed: int, judge: Judge, place: Place, unit: Sequence[tuple[Sample, str]]) -> Sums:
    random = Random(seed)
    ordered = sorted(unit, key=lambda row: place(row[0]))
    found = [judge(sample, text, random) for sample, text in ordered]
    right, drawn = sum(score for score, _ in found), sum(drawn for _, drawn in found)
    return {"sum": right, "n": float(len(found)), "invalid": float(drawn), "lacking": 0.0}


def _value(sums: Sums) -> float | None:
    """Not `mean`, which would claim an interval."""
    return None if sums["lacking"] or not sums["n"] else sums["sum"] / sums["n"]


def _lacking(samples: Sequence[Sample]) -> Sums:
    return {"sum": 0.0, "n": float(len(samples)), "invalid": 0.0, "lacking": 1.0}


def _whole(_sample: Sample) -> str:
    return ""


def _mmmu(sample: Sample, text: str, random: Random) -> tuple[float, bool]:
    if sample.options and mmmu.parse_choice(text, sample.options) is None:
        return float(random.choice(mmmu.letters(sample.options)) in mmmu.golds_of(sample)), True
    return mmmu.sample_accuracy(sample, text, guess=False)[0], False


def _cmmmu(sample: Sample, text: str, random: Random) -> tuple[float, bool]:
    kind = cmmmu.type_of(sample)
    if kind == cmmmu.CHOICE and text and sample.options and not cmmmu.parse_choices(text, sample.options):
        return float(random.choice(cmmmu.LETTERS) == sample.target), True
    if kind == cmmmu.TRUE_FALSE and cmmmu.parse_judgement(text) is None:
        return float(random.choice(["对", "错"]) == sample.target), True
    score, _ = cmmmu.response_accuracy(
        prediction=text, question_type=kind, gold=str(sample.target), options=sample.options, guess=False
    )
    return score, False


def _by_discipline(sample: Sample) -> tuple[str | int, ...]:
    order = {name: number for number, name in enumerate(CMMMU_DISCIPLINES)}
    return order.get(sample.groups.get("discipline", ""), len(order)), position_of(sample)


def _scienceqa(sample: Sample, text: str, random: Random) -> tuple[float, bool]:
    letters = scienceqa.LETTERS[: len(sample.options)]
    letter = scienceqa.official_letter(text)
    if letter is not None and letter in letters:
        return float(letter == sample.target), False
    return float(letters[random.choice(range(len(letters)))] == sample.target), True
