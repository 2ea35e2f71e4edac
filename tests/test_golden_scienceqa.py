"""Agreement with golden cases of ScienceQA: what its scripts and big_vision's evaluator gave, run unmodified.

The cases are a copy under tests/golden. PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agreement import FOLDER, HERE, golden
from golden_adapter import aggregate, verdict


def wanted(case: Mapping[str, Any]) -> dict[str, float]:
    """A random guess counts as its expectation."""
    expected = case["expected"]
    if case.get("random"):
        official = len(expected["correct_if"]) / len(expected["candidates"])
    else:
        official = float(expected["correct"])
    return {"official": official, "paper": case["secondary"]["big_vision"]["acc"]}


def differences(name: str, want: Mapping[str, float], got: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}/{key}: wanted {value}, got {got.get(key)}"
        for key, value in want.items()
        if got.get(key) is None or not math.isclose(value, got[key], rel_tol=0, abs_tol=1e-9)
    ]


def test_every_case_agrees() -> None:
    data = golden("scienceqa", FOLDER)
    assert data["task"] == "scienceqa"
    assert len(data["cases"]) == data["n_cases"] > 0
    assert [d for c in data["cases"] for d in differences(c["id"], wanted(c), verdict("scienceqa", c))] == []


def test_the_aggregate_agrees() -> None:
    """The official values are texts of two decimals, or the number -1 for a group without questions."""
    data = golden("scienceqa", FOLDER)
    official = data["aggregate"]["deterministic_cases_only"]
    cases = [case for case in data["cases"] if not case.get("random")]
    assert len(cases) == official["n"]
    got = aggregate("scienceqa", cases)
    want = {key: float(value) for key, value in official["scores"].items() if isinstance(value, str)}
    assert differences("aggregate", want, got) == []
    assert got.keys() == want.keys()


def test_all_cases_stay_between_the_official_bounds() -> None:
    data = golden("scienceqa", FOLDER)
    bounds = data["aggregate"]["bounds_all_cases"]
    correct = sum(verdict("scienceqa", case)["official"] for case in data["cases"])
    assert bounds["min_correct"] < correct < bounds["max_correct"]


def test_our_own_copy_is_whole_and_tells_the_rules_apart() -> None:
    cases = golden("scienceqa", HERE)["cases"]
    assert len(cases) == 414
    assert sum(bool(case.get("random")) for case in cases) == 137
    certain = [verdict("scienceqa", case) for case in cases if not case.get("random")]
    assert 0 < sum(one["official"] != one["paper"] for one in certain) < len(certain)


def test_a_disagreement_is_reported() -> None:
    assert differences("x", {"a": 0.5}, {"a": 0.25}) == ["x/a: wanted 0.5, got 0.25"]
    assert differences("x", {"a": 0.5}, {}) == ["x/a: wanted 0.5, got None"]
    assert differences("x", {"a": 0.5}, {"a": 0.5}) == []
