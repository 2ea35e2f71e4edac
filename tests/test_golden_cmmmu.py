"""Agreement with CMMMU's golden cases: what the official scoring code gave, run unmodified.

PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from agreement import FOLDER, HERE, golden
from golden_cmmmu import aggregate, sample, verdict

from pgbench.metrics.cmmmu import PLAIN_ACCURACY, parse_blank, parse_choices, parse_judgement


def wanted(case: dict[str, Any]) -> float:
    expected = case["expected"]
    if case.get("random"):
        return len(expected["correct_if"]) / len(expected["candidates"])
    return float(expected["correct"])


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return golden("cmmmu", FOLDER)


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
        reference, expected, said = case["reference"], case["expected"], case["prediction"]
        if case["mode"] == "answer":
            continue
        if reference["type"] == "填空":
            got = {repr(one) for one in parse_blank(said, reference["answer"])}
            assert got == {spelled(one) for one in expected["parsed"]}
        elif reference["type"] == "判断":
            assert parse_judgement(said) == expected.get("judged")
        elif said:
            assert parse_choices(said, sample(case).options) == expected.get("parsed")


def spelled(value: object) -> str:
    return repr(float(str(value["float"])) if isinstance(value, dict) else value)


def test_the_plain_score_calls_a_guess_wrong_and_counts_it(data: dict[str, Any]) -> None:
    for case in data["cases"]:
        if case["mode"] == "response":
            sums = PLAIN_ACCURACY.stat([(sample(case), case["prediction"])])
            assert sums["sum"] == (0.0 if case.get("random") else wanted(case))
            assert sums["invalid"] >= bool(case.get("random"))


def test_the_aggregate_agrees(data: dict[str, Any]) -> None:
    cases = [case for case in data["cases"] if not case.get("random") and case["mode"] == "response"]
    got = aggregate(cases)
    official = data["aggregate"]["response_deterministic_cases_only"]
    assert got.keys() == {name for name, value in official.items() if value["num"]}
    for name, value in got.items():
        right, n = official[name]["correct"], official[name]["num"]
        assert math.isclose(value or 0.0, right / n, abs_tol=1e-9), name


def test_our_own_copy_is_whole() -> None:
    cases = golden("cmmmu", HERE)["cases"]
    assert (len(cases), sum(case.get("random", False) for case in cases)) == (446, 65)


def test_odd_cases_are_judged() -> None:
    """An option that is null, an answer that is, a category that the script does not know."""
    reference = {"type": "选择", "answer": "D", "category": "其他", "option1": "甲", "option2": None}
    case = {"id": "1", "mode": "response", "prediction": "甲", "reference": reference}
    assert verdict(case) == {"score": 0.0}
    assert aggregate([case]) == {"Overall": 0.0, "其他": 0.0}
    blank = {**reference, "type": "填空", "answer": "甲"}
    assert verdict({**case, "mode": "answer", "prediction": None, "reference": blank}) == {"score": 0.0}
