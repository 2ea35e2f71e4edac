"""Intervals for one number: clustered t, Wilson's score, the bootstrap over clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

# Residuals of equal scores are rounding noise of about 1e-16 a sample, real ones at least 1e-7 or so.
_NOISE = 1e-12


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval and the standard error behind it."""

    low: float
    high: float
    stderr: float
    dropped: int = 0  # bootstrap draws in which the value was undefined


def clustered_t(
    sums: Sequence[float], counts: Sequence[float], level: float = 0.95, bounded: bool = False
) -> Bounds | None:
    """The t interval of a mean over samples that depend on each other within clusters.

    `sums` and `counts` hold one cluster each: the sum of its scores and the number of its samples. With C
    clusters, N samples and m = sum(sums) / N, the variance of m is that of a ratio estimator,
    C / (C - 1) * sum((s_c - m * n_c)^2) / N^2, and the quantile is Student's with C - 1 degrees of freedom.
    `bounded` clips the interval to [0, 1]. None where that is degenerate: fewer than two clusters, no
    samples, or no variance (all right, all wrong), which would pass ignorance off as certainty.

    Source: Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6 (ratio estimators), sampled clusters
    being few among many. Equal to statsmodels' OLS(y, 1).fit(cov_type="cluster") with its small-sample
    correction, and to the plain t interval where every cluster is one sample. Miller 2024
    (arXiv:2411.00640) has it without C / (C - 1).
    Raises ValueError where `sums` and `counts` differ in length.

    >>> bounds = clustered_t([2, 0, 1, 1], [2, 2, 1, 1], bounded=True)  # mean 4 / 6
    >>> round(bounds.low, 3), bounds.high, round(bounds.stderr, 3)
    (0.0, 1.0, 0.301)
    >>> clustered_t([3, 2], [3, 2]) is None
    True
    """
    if len(sums) != len(counts):
        raise ValueError(f"expected one count for each sum, got {len(sums)} sums and {len(counts)} counts")
    clusters, n = len(sums), math.fsum(counts)
    if clusters < 2 or n <= 0:
        return None
    mean = math.fsum(sums) / n
    squares = math.fsum((s - mean * c) ** 2 for s, c in zip(sums, counts, strict=True))
    if squares <= (_NOISE * max(1.0, abs(mean))) ** 2 * math.fsum(c * c for c in counts):
        return None
    from scipy.special import stdtrit  # not scipy.stats, which takes twice the time to import

    stderr = math.sqrt(clusters / (clusters - 1) * squares) / n
    reach = float(stdtrit(clusters - 1, (1 + level) / 2)) * stderr
    low, high = mean - reach, mean + reach
    return Bounds(max(0.0, low), min(1.0, high), stderr) if bounded else Bounds(low, high, stderr)


def wilson(p: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion p among n trials: (low, high) within [0, 1].

    Unlike p +- z * stderr it has a width where p is 0 or 1.

    Source: Wilson, JASA 22 (1927) 209-212. Raises ValueError for p outside [0, 1] or n <= 0.

    >>> [round(x, 4) for x in wilson(1.0, 10)]
    [0.7225, 1.0]
    """
    if not (0 <= p <= 1 and n > 0):
        raise ValueError(f"expected a proportion in [0, 1] of at least one trial, got {p} of {n}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def bootstrap(
    cluster_sums: Sequence[Mapping[str, float]],
    reduce: Callable[[Mapping[str, float]], float | None],
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Bounds | None:
    """The percentile bootstrap interval of any value that `reduce` makes of summed statistics.

    Each draw takes as many clusters as there are, with replacement, and reduces the total of their sums;
    that is the whole resampling, since the statistics are additive. Draws that reduce to None are left
    out and counted in `dropped`. The same clusters in the same order give the same interval.
    None where that is degenerate: fewer than two clusters, fewer than two defined draws, or no variance.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    >>> bootstrap([{"sum": 1.0, "n": 1.0}] * 3, lambda total: total["sum"] / total["n"]) is None
    True
    """
    clusters = len(cluster_sums)
    if clusters < 2:
        return None
    import numpy as np

    names = sorted({name for sums in cluster_sums for name in sums})
    table = np.array([[sums.get(name, 0.0) for name in names] for sums in cluster_sums], dtype=np.float64)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        # Rows are added one by one in every build of numpy; a product with multinomial weights is
        # faster and rounds as the machine's BLAS pleases, so that records would differ between machines.
        total = table[rng.integers(clusters, size=clusters)].sum(axis=0)
        value = reduce(dict(zip(names, total.tolist(), strict=True)))
        if value is not None:
            values.append(value)
    return percentiles(values, draws - len(values), level)


def weighted_bootstrap(
    clusters: Sequence[int],
    value_of: Callable[[Sequence[float]], float | None],
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Bounds | None:
    """`bootstrap` for a value that no additive statistics give: each draw weighs the samples.

    `clusters` holds the number of each sample's cluster, from 0 on. A draw takes as many clusters as there
    are, with replacement; a sample's weight is how often its cluster was taken.

    >>> weighted_bootstrap([0, 0, 0], lambda weights: weights[0]) is None
    True
    """
    count = max(clusters, default=-1) + 1
    if count < 2:
        return None
    import numpy as np

    rng, places = np.random.default_rng(seed), np.asarray(clusters)
    drawn = (np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(draws))
    values = [value_of(times[places].astype(np.float64)) for times in drawn]
    known = [value for value in values if value is not None]
    return percentiles(known, draws - len(known), level)


def percentiles(values: Sequence[float], dropped: int, level: float) -> Bounds | None:
    """The percentile interval of bootstrapped values. None for fewer than two of them, or equal ones."""
    if len(values) < 2 or max(values) - min(values) <= _NOISE * max(1.0, abs(values[0])):
        return None
    import numpy as np

    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Bounds(float(low), float(high), float(np.std(values, ddof=1)), dropped)
