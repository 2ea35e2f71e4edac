"""MMVP's matching rule on golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench_tasks.mmvp import read_letter, read_options

from pgbench.metrics.mmvp import judge

Case = Mapping[str, Any]


def verdict(case: Case) -> dict[str, bool]:
    reference = case["reference"]
    found = judge(
        prediction=case["prediction"],
        options=read_options(reference["options"], case["id"]),
        correct=read_letter(reference["correct_answer"], case["id"]),
    )
    return {"strict": found.strict, "lenient": found.lenient, "invalid": found.invalid}


def aggregate(_cases: Sequence[Case]) -> dict[str, float]:
    """The file has no aggregate."""
    return {}
