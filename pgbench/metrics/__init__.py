"""Metrics: pure functions from answers to additive sums, and from their total to a number."""

from __future__ import annotations

from pgbench.types import Sums


def mean(sums: Sums) -> float | None:
    """The `reduce` of every metric that is a mean: "sum" / "n", or None over nothing.

    A metric that reduces with this very function gets a clustered t interval (`pgbench.metrics.scoring`).

    >>> mean({"sum": 1.5, "n": 3.0, "invalid": 1.0})
    0.5
    >>> mean({"sum": 0.0, "n": 0.0}) is None
    True
    """
    return sums["sum"] / sums["n"] if sums["n"] else None
