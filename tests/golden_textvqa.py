"""TextVQA's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.metrics.scoring import score
from pgbench.metrics.vqa import TEXTVQA_ACCURACY, paper_accuracy, textvqa_accuracy
from pgbench.types import Sample

Case = Mapping[str, Any]


def verdict(case: Case) -> dict[str, float]:
    said, answers = case["prediction"], case["reference"]["answers"]
    return {
        "official": textvqa_accuracy(prediction=said, answers=answers),
        "paper": paper_accuracy(prediction=said, answers=answers),
    }


def aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    rows = ((Sample(c["id"], (), "", tuple(c["reference"]["answers"])), c["prediction"]) for c in cases)
    return {"accuracy": score(TEXTVQA_ACCURACY, rows).value}
