"""POPE's golden cases: what the authors' script and big_vision's evaluator gave, case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from agreement import FOLDER, HERE, golden
from golden_pope import aggregate, verdict

from pgbench.metrics.pope import ACCURACY, F1, PRECISION, RECALL, YES_RATIO
from pgbench.metrics.scoring import score
from pgbench.types import Sample

METRICS = {
    "accuracy": ACCURACY,
    "precision": PRECISION,
    "recall": RECALL,
    "f1": F1,
    "yes_ratio": YES_RATIO,
}


def close(wanted: float | None, got: float | None) -> bool:
    if wanted is None or got is None:
        return wanted is got
    return math.isclose(wanted, got, rel_tol=0, abs_tol=1e-9)


def test_every_case_agrees() -> None:
    data = golden("pope", FOLDER)
    assert data["task"] == "pope"
    assert len(data["cases"]) == data["n_cases"] > 0
    wanted = {
        case["id"]: {
            "official": case["expected"]["correct"],
            "paper": case["secondary"]["big_vision"]["acc"] == 1.0,
        }
        for case in data["cases"]
    }
    assert {case["id"]: verdict(case) for case in data["cases"]} == wanted


def test_the_aggregate_of_each_setting_agrees() -> None:
    data = golden("pope", FOLDER)
    got = aggregate(data["cases"])
    assert set(got) == set(data["aggregate"])
    for setting, wanted in data["aggregate"].items():
        bad = {
            k: got[setting][k] for k, v in wanted.items() if k != "printed" and not close(v, got[setting][k])
        }
        assert bad == {}, setting


EDGES = golden("pope", HERE)["edge"]


@pytest.mark.parametrize("name", sorted(EDGES.keys() - {"more_answers_than_labels"}))
def test_edges_give_what_the_script_gives_or_none_where_it_crashes(name: str) -> None:
    """Where the script crashed before it printed, accuracy is still (TP + TN) / n; n is never 0."""
    edge: Mapping[str, Any] = EDGES[name]
    rows = [
        (Sample(str(i), (), "", label, groups={"setting": "random"}), answer)
        for i, (answer, label) in enumerate(zip(edge["answers"], edge["labels"], strict=True))
    ]
    result = edge["result"]
    wanted = {key: result[key] for key in METRICS} | {
        "accuracy": (result["TP"] + result["TN"]) / len(rows),
    }
    if "error" in result:  # what the script did not come to may be defined all the same
        wanted = {k: v for k, v in wanted.items() if v is not None or k == "f1"}
    got = {key: score(METRICS[key], rows).value for key in wanted}
    assert all(close(wanted[key], got[key]) for key in wanted), (wanted, got)


def test_our_own_copy_is_whole_and_tells_the_rules_apart() -> None:
    cases = golden("pope", HERE)["cases"]
    assert len(cases) == 420
    assert sum(len(set(verdict(case).values())) == 2 for case in cases) > 50
