"""VQAv2's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.metrics.vqa import paper_accuracy
from pgbench.metrics.vqav2 import official_table, vqav2_accuracy
from pgbench.types import Sample

Case = Mapping[str, Any]


def verdict(case: Case) -> dict[str, float]:
    said, answers = case["prediction"], answers_of(case)
    return {
        "official": vqav2_accuracy(prediction=said, answers=answers),
        "paper": paper_accuracy(prediction=said, answers=answers),
    }


def aggregate(cases: Sequence[Case]) -> dict[str, Any]:
    return official_table((sample(case), case["prediction"]) for case in cases)


def sample(case: Case) -> Sample:
    groups = {name: case["reference"][name] for name in ("answer_type", "question_type")}
    return Sample(case["id"], (), "", answers_of(case), groups=groups)


def answers_of(case: Case) -> tuple[str, ...]:
    return tuple(one["answer"] for one in case["reference"]["answers"])
