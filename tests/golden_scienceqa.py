"""ScienceQA's golden cases, judged by pgbench's public functions and grouped by the task's own reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench_tasks.scienceqa import read_sample

from pgbench.metrics.scienceqa import LETTERS, SCIENCEQA_ACCURACY, official_accuracy, paper_accuracy
from pgbench.metrics.scoring import score
from pgbench.types import Image, Sample

Case = Mapping[str, Any]
KEYS = {
    ("subject", "natural science"): "acc_natural",
    ("subject", "social science"): "acc_social",
    ("subject", "language science"): "acc_language",
    ("has_text", "yes"): "acc_has_text",
    ("has_image", "yes"): "acc_has_image",
    ("no_context", "yes"): "acc_no_context",
    ("grade", "1-6"): "acc_grade_1_6",
    ("grade", "7-12"): "acc_grade_7_12",
}


def verdict(case: Case) -> dict[str, float]:
    said, letter = case["prediction"], LETTERS[case["reference"]["answer"]]
    choices = len(case["reference"]["choices"])
    return {
        "official": official_accuracy(prediction=said, answer=letter, choices=choices),
        "paper": paper_accuracy(prediction=said, answer=letter),
    }


def aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    """Percentages by the keys of evaluate_acc.py, to two decimals; a group without a case is left out."""
    parts: dict[str, list[tuple[Sample, str]]] = {"acc_average": []}
    for case in cases:
        sample = _sample(case)
        for key in ("acc_average", *(KEYS.get(g, f"acc_{g[1]}") for g in sample.groups.items())):
            parts.setdefault(key, []).append((sample, case["prediction"]))
    values = {key: score(SCIENCEQA_ACCURACY, rows).value for key, rows in parts.items()}
    return {key: None if value is None else round(value * 100, 2) for key, value in values.items()}


def _sample(case: Case) -> Sample:
    record = case["reference"]
    images = (Image(record["image"], lambda: b""),) if record.get("image") else ()
    return read_sample(record, str(record.get("pid", case["id"])), case["id"], images)
