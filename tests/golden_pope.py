"""POPE's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.metrics.pope import ACCURACY, F1, PRECISION, RECALL, YES_RATIO, paper_correct, pope_answer
from pgbench.metrics.scoring import score
from pgbench.types import Sample

Case = Mapping[str, Any]


def verdict(case: Case) -> dict[str, bool]:
    said, label = case["prediction"], case["reference"]["label"]
    return {
        "official": (pope_answer(said) == "no") == (label == "no"),
        "paper": paper_correct(prediction=said, label=label),
    }


def sample(case: Case) -> Sample:
    reference = case["reference"]
    groups = {"setting": reference["category"]}
    return Sample(case["id"], (), reference["text"], reference["label"], groups=groups)


def aggregate(cases: Sequence[Case]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for setting in dict.fromkeys(case["reference"]["category"] for case in cases):
        chosen = [case for case in cases if case["reference"]["category"] == setting]
        rows = [(sample(case), case["prediction"]) for case in chosen]
        sums = [ACCURACY.stat([row]) for row in rows]
        counts = {k: sum(one.get(f"{setting}.{k}", 0.0) for one in sums) for k in ("TP", "FP", "TN", "FN")}
        metrics = (ACCURACY, PRECISION, RECALL, F1, YES_RATIO)
        found[setting] = {**counts, **{metric.name: score(metric, rows).value for metric in metrics}}
    return found
