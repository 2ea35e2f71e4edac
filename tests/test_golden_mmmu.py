"""Agreement with MMMU's golden cases: what the official scoring code gave, run unmodified.

PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from agreement import FOLDER, HERE, golden
from golden_mmmu import aggregate, sample, verdict

from pgbench.metrics.mmmu import PLAIN_ACCURACY, letters, parse_choice, parse_open


def wanted(case: dict[str, Any]) -> float:
    expected = case["expected"]
    if case.get("random"):
        return len(expected["correct_if"]) / len(expected["candidates"])
    return float(expected["correct"])


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return golden("mmmu", FOLDER)


def test_every_case_agrees(data: dict[str, Any]) -> None:
    assert len(data["cases"]) == data["n_cases"] > 0
    bad = [
        (case["id"], wanted(case), verdict(case)["score"])
        for case in data["cases"]
        if abs(wanted(case) - (verdict(case)["score"] or 0.0)) > 1e-9
    ]
    assert bad == []


def test_what_is_parsed_agrees(data: dict[str, Any]) -> None:
    """The parse itself, since a wrong parse often is as wrong as the right one."""
    for case in data["cases"]:
        reference, said = case["reference"], case["prediction"]
        if reference["question_type"] != "multiple-choice":
            assert {repr(one) for one in parse_open(said)} == {spelled(x) for x in case["expected"]["parsed"]}
            continue
        options = tuple(reference["index2ans"].values())
        assert list(letters(options)) == reference["all_choices"]
        assert parse_choice(said, options) == case["expected"].get("parsed"), case


def spelled(value: object) -> str:
    return repr(float(str(value["float"])) if isinstance(value, dict) else value)


def test_the_plain_score_calls_a_guess_wrong_and_counts_it(data: dict[str, Any]) -> None:
    for case in data["cases"]:
        sums = PLAIN_ACCURACY.stat([(sample(case), case["prediction"])])
        assert sums["sum"] == (0.0 if case.get("random") else wanted(case))
        assert sums["invalid"] >= bool(case.get("random"))


def test_the_aggregate_agrees(data: dict[str, Any]) -> None:
    got = aggregate([case for case in data["cases"] if not case.get("random")])
    official = data["aggregate"]["deterministic_cases_only"]["per_category"]
    assert got.keys() == {"overall", *official}
    for name, value in official.items():
        assert math.isclose(got[name] or 0.0, value["acc"], abs_tol=1e-9), name
    n = sum(value["num_example"] for value in official.values())
    overall = sum(value["acc"] * value["num_example"] for value in official.values()) / n
    assert math.isclose(got["overall"] or 0.0, overall, abs_tol=1e-9)


def test_our_own_copy_is_whole() -> None:
    cases = golden("mmmu", HERE)["cases"]
    assert (len(cases), sum(case.get("random", False) for case in cases)) == (461, 92)


def test_options_follow_their_letters_and_open_questions_have_none() -> None:
    names = {"C": "z", "A": "x", "B": "y"}
    reference = {"all_choices": ["A", "B", "C"], "index2ans": names, "answer": ["C"]}
    case = {"id": "validation_Art_1", "prediction": "I would say it is z", "reference": reference}
    assert sample({**case, "reference": {**reference, "question_type": "multiple-choice"}}).options == tuple(
        "xyz"
    )
    assert sample({**case, "reference": {**reference, "question_type": "open"}}).options == ()
