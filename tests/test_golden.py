"""Agreement with golden cases: what the official scoring code gave, run unmodified, case by case.

The cases are copies under tests/golden. PGBENCH_GOLDEN=DIR checks another folder of the same format.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from agreement import FOLDER, HERE, golden
from golden_adapter import TASKS, aggregate, verdict


def differences(name: str, wanted: Mapping[str, float], got: Mapping[str, Any]) -> list[str]:
    """Every wanted number that `got` lacks or has otherwise, to 1e-9."""
    return [
        f"{name}/{key}: wanted {value}, got {got.get(key)}"
        for key, value in wanted.items()
        if got.get(key) is None or not math.isclose(value, got[key], rel_tol=0, abs_tol=1e-9)
    ]


def textvqa_wanted(case: Mapping[str, Any]) -> dict[str, float]:
    return {"official": case["expected"]["accuracy"], "paper": case["secondary"]["big_vision"]["acc"]}


WANTED = {"textvqa": textvqa_wanted}


@pytest.mark.parametrize("task", ["textvqa"])
def test_every_case_and_the_aggregate_agree(task: str) -> None:
    data = golden(task, FOLDER)
    assert data["task"] == task
    assert len(data["cases"]) == data["n_cases"] > 0
    bad = [d for c in data["cases"] for d in differences(c["id"], WANTED[task](c), verdict(task, c))]
    wanted = {"accuracy": data["aggregate"]["accuracy"]}
    bad += differences("aggregate", wanted, aggregate(task, data["cases"]))
    assert bad == []


def test_our_own_copies_are_whole() -> None:
    sizes = {task: len(golden(task, HERE)["cases"]) for task in WANTED}
    assert sizes == {"textvqa": 415}


def test_the_two_rules_differ_where_they_should() -> None:
    """Were the paper's rule an alias of the official one, the agreement above could not tell on its own."""
    cases = golden("textvqa", HERE)["cases"]
    apart = [c["id"] for c in cases if len({round(v, 9) for v in verdict("textvqa", c).values()}) == 2]
    assert len(apart) == 26


def test_another_folder_is_what_is_checked(tmp_path: Path) -> None:
    """One spoilt case in it is found and named."""
    data = golden("textvqa", HERE)
    data["cases"][3]["expected"]["accuracy"] += 0.1
    (tmp_path / "textvqa.json").write_text(json.dumps(data))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "aggregate_agree", __file__]
    environment = os.environ | {"PGBENCH_GOLDEN": str(tmp_path)}
    run = subprocess.run(
        command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert f"{data['cases'][3]['id']}/official: wanted" in run.stdout


def test_a_disagreement_is_reported() -> None:
    assert differences("x", {"a": 0.3}, {"a": 0.6}) == ["x/a: wanted 0.3, got 0.6"]
    assert differences("x", {"a": 0.3}, {}) == ["x/a: wanted 0.3, got None"]
    assert differences("x", {"a": 0.3}, {"a": 0.3 + 1e-12}) == []


def test_a_task_without_an_adapter_is_named() -> None:
    assert set(WANTED) <= set(TASKS)
    with pytest.raises(KeyError, match="sudoku"):
        verdict("sudoku", {})
    with pytest.raises(KeyError, match="sudoku"):
        aggregate("sudoku", [])
