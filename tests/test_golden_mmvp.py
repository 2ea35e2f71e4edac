"""MMVP's golden cases: the official pair accuracy, and the matching rule on answers written by hand."""

from __future__ import annotations

import golden_mmvp
import golden_mmvp_matching
import pytest
from agreement import FOLDER, HERE, golden
from pgbench_tasks.mmvp import TASK

from pgbench.metrics.mmvp import pair_accuracy
from pgbench.types import Profile, Sample


def test_the_official_pairs_agree() -> None:
    data = golden("mmvp", FOLDER)
    assert data["task"] == "mmvp"
    assert len(data["cases"]) == data["n_cases"] > 0
    wanted = data["aggregate"]["official"]["accuracy"]
    assert golden_mmvp.aggregate(data["cases"]) == {"pair_accuracy": pytest.approx(wanted, abs=1e-9)}
    assert golden_mmvp.verdict(data["cases"][0]) == {}


def test_the_matching_rule_agrees() -> None:
    data = golden("mmvp_matching", FOLDER)
    assert data["task"] == "mmvp_matching"
    assert data["cases"]
    wanted = {case["id"]: case["expected"] for case in data["cases"]}
    assert {case["id"]: golden_mmvp_matching.verdict(case) for case in data["cases"]} == wanted


def test_the_official_prompt_agrees() -> None:
    """With the authors' prompt style, to the letter what their code sends."""
    profile = Profile("mix", "paligemma", style="official")
    for case in golden("mmvp", FOLDER)["cases"]:
        reference = case["reference"]
        sample = Sample("1", (), reference["question"], "a", fields={"options": reference["options"]})
        assert TASK.prompt(sample, profile, "plain") == case["expected"]["prompt"].strip()


def test_edges_of_the_official_count() -> None:
    edge = golden("mmvp", HERE)["edge"]
    assert pair_accuracy([True, True, True, False, True]) == edge["odd_number_of_lines"]["accuracy"]
    assert pair_accuracy([True]) is edge["single_line"]["accuracy"]
    assert pair_accuracy([]) is edge["empty_file"]["accuracy"]


def test_our_own_copies_are_whole() -> None:
    assert [len(golden(task, HERE)["cases"]) for task in ("mmvp", "mmvp_matching")] == [400, 38]
