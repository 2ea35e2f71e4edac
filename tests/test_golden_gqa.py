"""GQA's agreement with golden cases: what the official script gave, run unmodified.

The cases are a copy under tests/golden. PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agreement import FOLDER, HERE, golden
from golden_gqa import GROUPS, Case, aggregate, sample, verdict

from pgbench.metrics.gqa import ACCURACY, BINARY, CONSISTENCY, OPEN, PLAUSIBILITY, VALIDITY
from pgbench.metrics.scoring import score
from pgbench.types import Sample

VALUES = ("accuracy", "binary", "open", "consistency", "validity", "plausibility", "distribution")


def differences(wanted: Mapping[str, float], got: Mapping[str, Any]) -> list[str]:
    """Every wanted number that `got` lacks or has otherwise, to 1e-9, and what `got` has besides."""
    return [
        f"{key}: wanted {value}, got {got.get(key)}"
        for key, value in wanted.items()
        if got.get(key) is None or not math.isclose(value, got[key], rel_tol=0, abs_tol=1e-9)
    ] + [f"{key}: not wanted" for key in got.keys() - wanted.keys()]


def test_every_verdict_agrees() -> None:
    data = golden("gqa", FOLDER)
    assert data["task"] == "gqa"
    assert len(data["cases"]) == data["n_cases"] > 0
    wrong = [c["id"] for c in data["cases"] if verdict(c).get("correct") != c["expected"].get("correct")]
    assert wrong == []


def facts(case: Case) -> dict[str, Any]:
    """What the script notes of one case, by our metrics."""
    one = sample(case)
    rows = [(one, case["prediction"])]
    values = {metric.name: score(metric, rows).value for metric in (BINARY, OPEN, VALIDITY, PLAUSIBILITY)}
    return {
        "correct": bool(score(ACCURACY, rows).value),
        "valid": bool(values["validity"]),
        "plausible": bool(values["plausibility"]),
        "wordsNum": int(one.groups["words"]),
        "stepsNum": int(one.groups["steps"]),
        "answerType": "binary" if values["binary"] is not None else "open",
    }


def test_every_fact_of_a_scored_case_agrees() -> None:
    for case in golden("gqa", FOLDER)["cases"]:
        if case["expected"].get("scored") is not False:
            assert facts(case) == {k: v for k, v in case["expected"].items() if k != "consistency"}, case[
                "id"
            ]


def test_consistency_of_every_case_agrees() -> None:
    cases = golden("gqa", FOLDER)["cases"]
    rows = {one["reference"]["questionId"]: (sample(one), one["prediction"]) for one in cases}
    for case in cases:
        one, said = rows[case["reference"]["questionId"]]
        entailed = dict.fromkeys(case["reference"]["entailed"])
        # unbalanced, the others are looked up and not scored
        asked = [rows[key] for key in entailed if key != one.id]
        unit = [(one, said), *((_unscored(other), text) for other, text in asked)]
        wanted = case["expected"].get("consistency")
        assert CONSISTENCY.reduce(CONSISTENCY.stat(unit)) == wanted, case["id"]


def _unscored(other: Sample) -> Sample:
    return replace(other, fields={"balanced": False})


def test_the_aggregate_agrees() -> None:
    data = golden("gqa", FOLDER)
    got, wanted = aggregate(data["cases"]), data["aggregate"]
    assert differences({name: wanted[name] for name in VALUES}, {name: got[name] for name in VALUES}) == []
    for name in GROUPS:
        assert differences({kind: v["score"] for kind, v in wanted[name].items()}, got[name]) == [], name


def test_our_own_copy_is_whole() -> None:
    cases = golden("gqa", HERE)["cases"]
    assert len(cases) == 450
    assert sum(not c["reference"]["isBalanced"] for c in cases) == 62


def test_a_disagreement_is_reported() -> None:
    assert differences({"a": 0.3}, {"a": 0.6}) == ["a: wanted 0.3, got 0.6"]
    assert differences({"a": 0.3}, {}) == ["a: wanted 0.3, got None"]
    assert differences({}, {"a": 0.3}) == ["a: not wanted"]
    assert differences({"a": 0.3}, {"a": 0.3 + 1e-12}) == []
