"""MMVP's golden aggregate: the official judge's verdicts, counted in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.metrics.mmvp import pair_accuracy

Case = Mapping[str, Any]


def verdict(_case: Case) -> dict[str, bool]:
    """A judge's verdict on one answer cannot be computed."""
    return {}


def aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    return {"pair_accuracy": pair_accuracy([case["expected"]["correct"] for case in cases])}
