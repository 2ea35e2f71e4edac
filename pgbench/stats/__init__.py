"""Intervals and tests for numbers that come from clustered samples: several questions share an image.

Everything here is a pure function of numbers. A cluster enters with what its samples sum up to, so no
function needs the samples themselves. Fractions throughout; `level` is the coverage, 0.95 by default.
"""

from __future__ import annotations

from pgbench.stats.differences import Difference, DifferenceKind, paired_interval
from pgbench.stats.effects import detectable_effect, holm, mcnemar
from pgbench.stats.intervals import Bounds, bootstrap, clustered_t, weighted_bootstrap, wilson
from pgbench.stats.pairs import Alternative, Pair, Reduce
from pgbench.stats.swaps import SwapTest, swap_test

__all__ = [
    "Alternative",
    "Bounds",
    "Difference",
    "DifferenceKind",
    "Pair",
    "Reduce",
    "SwapTest",
    "bootstrap",
    "clustered_t",
    "detectable_effect",
    "holm",
    "mcnemar",
    "paired_interval",
    "swap_test",
    "weighted_bootstrap",
    "wilson",
]
