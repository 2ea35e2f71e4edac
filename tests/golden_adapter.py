"""Verdicts on golden cases, computed by pgbench's public functions alone.

`verdict(task, case)` judges one case, `aggregate(task, cases)` all cases of a file in file order. A case
is {"id", "prediction", "reference": {...}}; a task that is not here raises KeyError with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pgbench.metrics.scoring import score
from pgbench.metrics.vqa import TEXTVQA_ACCURACY, paper_accuracy, textvqa_accuracy
from pgbench.types import Sample

Case = Mapping[str, Any]


def verdict(task: str, case: Case) -> dict[str, float]:
    return VERDICTS[task](case)


def aggregate(task: str, cases: Sequence[Case]) -> dict[str, float | None]:
    return AGGREGATES[task](cases)


def _textvqa_verdict(case: Case) -> dict[str, float]:
    said, answers = case["prediction"], case["reference"]["answers"]
    return {
        "official": textvqa_accuracy(prediction=said, answers=answers),
        "paper": paper_accuracy(prediction=said, answers=answers),
    }


def _textvqa_aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    rows = ((Sample(c["id"], (), "", tuple(c["reference"]["answers"])), c["prediction"]) for c in cases)
    return {"accuracy": score(TEXTVQA_ACCURACY, rows).value}


VERDICTS: Mapping[str, Callable[[Case], dict[str, float]]] = {"textvqa": _textvqa_verdict}
AGGREGATES: Mapping[str, Callable[[Sequence[Case]], dict[str, float | None]]] = {
    "textvqa": _textvqa_aggregate
}
