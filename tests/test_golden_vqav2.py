"""VQAv2's golden cases: what the official script gave, run unmodified, case by case and in its table.

PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from agreement import FOLDER, HERE, golden
from golden_vqav2 import aggregate, verdict


def differing(case: Mapping[str, Any]) -> list[str]:
    wanted = {"official": case["expected"]["accuracy_raw"], "paper": case["secondary"]["big_vision"]["acc"]}
    got = verdict(case)
    return [
        f"{case['id']}/{name}: wanted {value}, got {got[name]}"
        for name, value in wanted.items()
        if got[name] != pytest.approx(value, abs=1e-9)
    ]


def test_every_case_agrees() -> None:
    data = golden("vqav2", FOLDER)
    assert data["task"] == "vqav2"
    assert len(data["cases"]) == data["n_cases"] > 0
    assert [line for case in data["cases"] for line in differing(case)] == []


def test_the_table_agrees() -> None:
    data = golden("vqav2", FOLDER)
    got = aggregate(data["cases"])
    assert set(got) == {"overall", "perAnswerType", "perQuestionType"}
    assert got["overall"] == pytest.approx(data["aggregate"]["overall"], abs=0.0051)
    for part in ("perAnswerType", "perQuestionType"):
        assert got[part] == pytest.approx(data["aggregate"][part], abs=0.0051)


def test_our_copy_agrees_to_the_digit() -> None:
    data = golden("vqav2", HERE)
    assert len(data["cases"]) == 420
    assert aggregate(data["cases"]) == {name: data["aggregate"][name] for name in aggregate(data["cases"])}


def test_the_two_rules_differ_in_periods_alone() -> None:
    """Were one rule an alias of the other, the agreement above could not tell on its own."""
    cases = golden("vqav2", HERE)["cases"]
    apart = [case for case in cases if len({round(value, 9) for value in verdict(case).values()}) == 2]
    texts = [[case["prediction"], *(one["answer"] for one in case["reference"]["answers"])] for case in apart]
    assert apart
    assert all(max(text.count(".") for text in said) > 32 for said in texts)


def test_a_disagreement_is_seen() -> None:
    case = golden("vqav2", HERE)["cases"][3]
    case["expected"]["accuracy_raw"] += 0.1
    assert [line.split(":")[0] for line in differing(case)] == [f"{case['id']}/official"]
