"""The interval of a difference between two runs of the same questions.

A mean with as many samples on both sides in every cluster gets Student's interval of the clusters'
differences, with C - 1 degrees of freedom: the plain paired t interval where every cluster is one sample.
Anything else gets the percentile bootstrap: each draw takes as many clusters as there are, with
replacement and the same ones on both sides.

Where there is no spread to go by (no cluster differs, or all by the same amount for each sample), the
interval is of what was not seen. If a share s of all clusters behaved otherwise, a sample of C would hold
none of them with a chance of (1 - s)^C, so that s is at most S = 1 - ((1 - level) / 2)^(1 / C), which is
Clopper and Pearson's bound for none of C. Those could differ by anything from -1 to 1 if the values are
fractions, which makes (1 - S) * value +- S. It takes what is unusual about a cluster to have nothing to
do with its size, and a cluster to weigh no more than its share: a mean over samples warrants that, an F1
with few positives does not quite.

Where k clusters differ and k is small, what was not seen is more than the spread of what was. Of f that
fell and r that rose among C, Clopper and Pearson say that a share of up to U(f) falls and of at least L(r)
rises; the two reaches, U(f) - f / C and r / C - L(r), are squared and added, so that the lower end is at
most value - sqrt of that, and the upper end likewise the other way round. For f = r = 0 that is value -+ S.
A cluster counts with all of its share where k is below ten. From ten on f and r are taken for 9 at most,
and a cluster to move the value by what the seen ones do (their root mean square, stderr * C / sqrt(k));
then the spread of what was seen soon reaches further, of 17 or so. Of values that are no fractions there
is no such bound, and no interval, for k = 0 as for a small k.

Sources: Cochran, Sampling Techniques, 3rd ed. 1977, chapter 6; Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13; Clopper and Pearson, Biometrika 26 (1934) 404-413; for squaring and adding
Newcombe, Statistics in Medicine 17 (1998) 873-890, and Zou and Donner, the same 27 (2008) 1693-1702.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbench.stats.intervals import Bounds, clustered_t, percentiles
from pgbench.stats.pairs import FEW, Pair, Reduce, differs, means, of_totals, tables, values_of

if TYPE_CHECKING:
    from pgbench.stats.pairs import Table

DifferenceKind: TypeAlias = Literal[
    "clustered t", "bootstrap", "few differences seen", "no difference seen", "equal differences"
]


@dataclass(frozen=True, slots=True)
class Difference:
    """after - before with its interval."""

    value: float
    low: float | None  # None, as `high`: there is no spread, and no bound of the values to stand in for it
    high: float | None
    stderr: float | None  # of what was seen; None: an unknown error is not an error of zero
    kind: DifferenceKind  # "few differences seen": an end is where the unseen ones put it, or is not known
    clusters: int
    disagreeing: int  # clusters whose statistics differ between the two sides
    draws: int = 0  # of the bootstrap
    seed: int | None = None
    dropped: int = 0  # bootstrap draws in which a side was undefined


def paired_interval(
    pair: Pair,
    reduce: Reduce,
    *,
    mean: bool,
    bounded: bool,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Difference:
    """reduce(after) - reduce(before) with its paired interval, as the head of this file says.

    `mean`: `reduce` is "sum" / "n". `bounded`: both values are fractions, so that intervals are clipped to
    [-1, 1] and exist without a spread too. Of level 0.90, `low` is the one-sided 95 % lower bound.
    Raises DataError for no clusters, or a value that is undefined on a side; ValueError for a mean
    without "sum" and "n", a level outside (0, 1) or fewer than two draws.

    >>> both = Pair(("sum", "n"), [[1, 2], [1, 1], [0, 1], [1, 1]], [[1, 2], [0, 1], [0, 1], [1, 1]])
    >>> seen = paired_interval(both, lambda total: total["sum"] / total["n"], mean=True, bounded=True)
    >>> round(seen.value, 3), round(seen.low, 3), round(seen.high, 3), seen.kind, seen.disagreeing
    (-0.2, -0.889, 0.489, 'clustered t', 1)
    """
    if not 0 < level < 1 or draws < 2:
        raise ValueError(f"expected a level in (0, 1) and two draws or more, got {level} and {draws}")
    before, after = tables(pair)
    one, other = values_of(pair, reduce, before, after)
    counted = means(pair, before, after) if mean else None
    if counted is not None:
        found = _of_mean(other - one, counted, level)
    else:
        found = _of_any(other - one, pair, reduce, (before, after), (level, draws, seed))
    if not bounded:
        return _of_numbers(found)
    if found.stderr is None:
        return _spreadless(found, level)
    if found.disagreeing >= 2 * FEW:
        return found
    return _of_fractions(found, _ways(pair, reduce, before, after), level)


def _of_numbers(found: Difference) -> Difference:
    """Without ends where few differ, as where none does: one that was not seen may differ by any amount."""
    if found.low is None or found.disagreeing >= min(FEW, found.clusters):
        return found
    return replace(found, low=None, high=None, kind="few differences seen")


def _of_fractions(found: Difference, ways: tuple[int, int], level: float) -> Difference:
    """An interval with a spread, as wide as the unseen differences make it, and within [-1, 1]."""
    low, high, stderr, k = found.low, found.high, found.stderr, found.disagreeing
    if low is None or high is None or stderr is None:
        return found
    each = 1.0 if k < FEW else stderr * found.clusters / math.sqrt(k)
    fell, rose = (min(count, FEW - 1, found.clusters - 1) for count in ways)
    down, up = (each * unseen(*both, found.clusters, level) for both in ((fell, rose), (rose, fell)))
    ends = min(low, found.value - down), max(high, found.value + up)
    kind: DifferenceKind = found.kind if ends == (low, high) else "few differences seen"
    return replace(found, low=max(-1.0, ends[0]), high=min(1.0, ends[1]), kind=kind)


def _ways(pair: Pair, reduce: Reduce, before: Table, after: Table) -> tuple[int, int]:
    """How many clusters by themselves lower the value, and raise it; both, where it has none then."""
    whole = before.sum(axis=0)
    value = of_totals(reduce, pair.names, whole)
    fell = rose = 0
    for row in differs(before, after).nonzero()[0]:
        moved = of_totals(reduce, pair.names, whole - before[row] + after[row])
        fell += moved is None or value is None or moved < value
        rose += moved is None or value is None or moved > value
    return fell, rose


def unseen(against: int, along: int, clusters: int, level: float) -> float:
    """How far the end of an interval lies from the value where so many clusters move towards that end, and so
    many the other way: the two reaches of the head of this file, squared and added.

    >>> [round(100 * unseen(k, 0, 150, level=0.90), 2) for k in (0, 1, 9)]  # in percent of the clusters
    [1.98, 2.46, 4.24]
    >>> [round(100 * unseen(0, k, 150, level=0.90), 2) for k in (1, 9)]
    [2.08, 3.46]
    """
    from scipy.special import betaincinv  # not scipy.stats, which takes twice the time to import

    # rising in k but for its last steps towards C, where few clusters are
    tops = (
        float(betaincinv(k + 1, clusters - k, (1 + level) / 2)) - k / clusters for k in range(against + 1)
    )
    bottom = float(betaincinv(along, clusters - along + 1, (1 - level) / 2)) if along else 0.0
    return math.hypot(max(tops), along / clusters - bottom)


def _of_mean(value: float, counted: tuple[Table, Table], level: float) -> Difference:
    gains, counts = (column.tolist() for column in counted)
    moved = sum(gain != 0 for gain in gains)
    bounds = clustered_t(gains, counts, level)
    if bounds is None:
        return _without_spread(value, len(gains), moved)
    return Difference(value, bounds.low, bounds.high, bounds.stderr, "clustered t", len(gains), moved)


def _of_any(
    value: float, pair: Pair, reduce: Reduce, sides: tuple[Table, Table], how: tuple[float, int, int]
) -> Difference:
    clusters, moved = len(sides[0]), int(differs(*sides).sum())
    bounds = _resampled(pair, reduce, sides, how) if moved and clusters > 1 else None
    if bounds is None:
        return _without_spread(value, clusters, moved)
    low, high, stderr = bounds.low, bounds.high, bounds.stderr
    _, draws, seed = how
    return Difference(
        value, low, high, stderr, "bootstrap", clusters, moved, draws, seed, dropped=bounds.dropped
    )


def _without_spread(value: float, clusters: int, moved: int) -> Difference:
    kind: DifferenceKind = "equal differences" if moved else "no difference seen"
    return Difference(value, None, None, None, kind, clusters, moved)


def _spreadless(found: Difference, level: float) -> Difference:
    share = unseen(0, 0, found.clusters, level)
    centre = (1 - share) * found.value
    return replace(found, low=centre - share, high=centre + share)


def _resampled(
    pair: Pair, reduce: Reduce, sides: tuple[Table, Table], how: tuple[float, int, int]
) -> Bounds | None:
    """The percentile bootstrap of the difference; None where it has no spread."""
    level, draws, seed = how
    values = []
    for totals in _draws_of(*sides, draws, seed):
        one, other = (of_totals(reduce, pair.names, side) for side in totals)
        if one is not None and other is not None:
            values.append(other - one)
    return percentiles(values, draws - len(values), level)


def _draws_of(before: Table, after: Table, draws: int, seed: int) -> Iterator[tuple[Table, Table]]:
    """The totals of both sides in each draw: how often it takes each cluster, times what the cluster has.

    A product rounds as the machine's BLAS pleases, which moves an end by its last digits. That may be of a
    difference, which is computed anew wherever it is asked for; the intervals of records have to be the
    same on every machine, so `bootstrap` adds row by row, which takes three times as long.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    clusters, width = before.shape
    both = np.hstack([before, after])
    for _ in range(draws):
        total = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters) @ both
        yield total[:width], total[width:]
