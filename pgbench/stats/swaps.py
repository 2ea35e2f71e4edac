"""The paired test: were the two sides the same, either could have given each cluster's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbench.stats.pairs import (
    ALTERNATIVES,
    FEW,
    Alternative,
    Pair,
    Reduce,
    differs,
    means,
    of_totals,
    tables,
    values_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pgbench.stats.pairs import Table

    Octets: TypeAlias = NDArray[np.uint8]

SwapKind: TypeAlias = Literal["exact label swap", "label swap"]

ENOUGH_HITS = 20  # below, a p is asked for more draws where it may be small enough to matter
MOST_DRAWS = 1_000_000
_AT_ONCE = 1 << 14  # draws held at a time
_TIES = 1e-11  # of the values compared: what rounding makes of equal differences


@dataclass(frozen=True, slots=True)
class SwapTest:
    """`p` of "no difference", how it was found, and from how many clusters."""

    p: float
    kind: SwapKind
    disagreeing: int  # clusters whose statistics differ between the two sides: only these matter
    draws: int  # swaps looked at; all there are where the kind is exact
    seed: int | None = None  # None: nothing was drawn


def swap_test(
    pair: Pair,
    reduce: Reduce,
    *,
    alternative: Alternative = "two-sided",
    mean: bool = False,
    draws: int = 9999,
    seed: int = 0,
    floor: float | None = None,
) -> SwapTest:
    """The p of "both sides answer alike" from swapping the two sides' labels in whole clusters.

    If it makes no difference which side answered, a cluster's statistics could have come from either. The
    value, reduce(after) - reduce(before) of the totals, is recomputed for swapped labels, and p is the
    share of swaps in which it is at least as extreme as seen: at most as large for `alternative` "less"
    (after is worse), at least as large for "greater", as far from 0 for "two-sided". With fewer than 10
    clusters that differ all 2^k swaps are looked at; else p = (1 + hits) / (1 + draws), under which a level
    alpha is wrong at most a share alpha of the time. Differences equal but for rounding are ties and count
    as hits, as do swaps under which a side is undefined.

    `mean`: the value is "sum" / "n"; with as many samples on both sides in each cluster its draws are one
    sum and give what the way of any other `reduce` gives.
    `floor`: the smallest p that has to be told from smaller ones, alpha over the number of tests under
    Holm. Where fewer than 20 of too few draws hit, there are 10 / floor draws in all, at most a million, or
    every swap if those are fewer. p keeps its promise: below 21 / (1 + draws) it comes of all of them.

    Raises DataError for no clusters, or a value that is undefined on a side; ValueError for an unknown
    alternative, a floor outside (0, 1], no draws, or a mean without "sum" and "n".
    Sources: Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989 (approximate randomization);
    Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39, for (1 + hits) / (1 + draws).

    >>> both = Pair(("sum", "n"), [[1, 2], [1, 1], [1, 1]], [[0, 2], [0, 1], [1, 1]])
    >>> swap_test(both, lambda total: total["sum"] / total["n"], alternative="less").p  # 1 of 2^2 swaps
    0.25
    """
    if alternative not in ALTERNATIVES:
        raise ValueError(f"expected an alternative of {', '.join(ALTERNATIVES)}, got {alternative!r}")
    if draws < 1 or not (floor is None or 0 < floor <= 1):
        raise ValueError(f"expected draws, and a floor in (0, 1], got {draws} and {floor}")
    swaps, seen = _swaps(pair, reduce, mean)
    return _tested(swaps, seen, alternative, (draws, seed, floor))


@dataclass(frozen=True, slots=True)
class _Swaps:
    """The clusters that move, and the value of the pair once some of them are swapped."""

    gains: Table  # clusters x statistics: what a swap takes from one side and gives to the other
    value: Callable[[Table], Table]  # of what was swapped in all, a row a draw; nan where a side is undefined
    rounding: float  # what equal values may differ by


def _swaps(pair: Pair, reduce: Reduce, mean: bool) -> tuple[_Swaps, float]:
    """The swaps of a pair, and its own value."""
    before, after = tables(pair)
    one, other = values_of(pair, reduce, before, after)
    counted = means(pair, before, after) if mean else None
    if counted is not None:
        gains, n = counted[0][counted[0] != 0], float(counted[1].sum())
        total, most = float(gains.sum()), float(abs(gains).sum())
        return _Swaps(gains[:, None], partial(_of_means, total, n), _TIES * most / n), total / n
    totals = before.sum(axis=0), after.sum(axis=0)
    value = partial(_of_totals, pair.names, reduce, totals)
    return _Swaps(
        (after - before)[differs(before, after)], value, _TIES * max(abs(one), abs(other))
    ), other - one


def _of_means(total: float, n: float, swapped: Table) -> Table:
    found: Table = (total - 2 * swapped[:, 0]) / n
    return found


def _of_totals(names: tuple[str, ...], reduce: Reduce, totals: tuple[Table, Table], swapped: Table) -> Table:
    import numpy as np

    found = []
    for one, other in zip(totals[0] + swapped, totals[1] - swapped, strict=True):
        before, after = of_totals(reduce, names, one), of_totals(reduce, names, other)
        found.append(math.nan if before is None or after is None else after - before)
    return np.array(found)


def _tested(
    swaps: _Swaps, seen: float, alternative: Alternative, how: tuple[int, int, float | None]
) -> SwapTest:
    import numpy as np

    draws, seed, floor = how
    clusters = len(swaps.gains)
    count = partial(_hits, swaps, seen, alternative)
    if clusters < FEW:
        return _exact(clusters, count)
    rng = np.random.default_rng(seed)
    hits = count(_drawn(rng, draws, clusters))
    asked = min(MOST_DRAWS, math.ceil(10 / floor)) if floor else 0
    if hits < ENOUGH_HITS and asked > draws:
        if 2**clusters <= asked:
            return _exact(clusters, count)
        hits += count(_drawn(rng, asked - draws, clusters))
        draws = asked
    return SwapTest((1 + hits) / (1 + draws), "label swap", clusters, draws, seed)


def _exact(clusters: int, count: Callable[[Iterator[Octets]], int]) -> SwapTest:
    every = 2**clusters
    return SwapTest(count(_all_labels(clusters)) / every, "exact label swap", clusters, every)


def _hits(swaps: _Swaps, seen: float, alternative: Alternative, labels: Iterator[Octets]) -> int:
    """How many swaps are at least as extreme as what was seen, undefined ones among them."""
    hits, sums = 0, _sums_of_eight(swaps.gains)
    for octets in labels:
        values, bar = swaps.value(_swapped(sums, octets)), seen
        if alternative == "less":
            values, bar = -values, -seen
        elif alternative == "two-sided":
            values, bar = abs(values), abs(seen)
        hits += len(values) - int((values < bar - swaps.rounding).sum())  # nan is below nothing
    return hits


def _sums_of_eight(gains: Table) -> Table:
    """What each choice among eight clusters sums up to: octets of clusters x 256 choices x statistics."""
    import numpy as np

    clusters, width = gains.shape
    padded = np.zeros((_octets(clusters), 8, width))
    padded.reshape(-1, width)[:clusters] = gains
    choices = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    found: Table = choices.astype(np.float64) @ padded
    return found


def _swapped(sums: Table, octets: Octets) -> Table:
    """What each draw swaps in all; an eighth of the work of a product with a matrix of labels."""
    import numpy as np

    found = np.zeros((octets.shape[1], sums.shape[2]))
    for choices, taken in zip(sums, octets, strict=True):
        found += choices[taken]
    return found


def _octets(clusters: int) -> int:
    return -(-clusters // 8)


def _all_labels(clusters: int) -> Iterator[Octets]:
    """Every choice of clusters once, in parts: a column a choice, a row eight clusters, a bit each."""
    import numpy as np

    for first in range(0, 2**clusters, _AT_ONCE):
        numbers = np.arange(first, min(first + _AT_ONCE, 2**clusters), dtype="<u8")
        yield numbers[:, None].view(np.uint8).T[: _octets(clusters)]


def _drawn(rng: np.random.Generator, draws: int, clusters: int) -> Iterator[Octets]:
    """The same of choices drawn at random; the last row has bits of no cluster."""
    import numpy as np

    for first in range(0, draws, _AT_ONCE):
        size = (_octets(clusters), min(_AT_ONCE, draws - first))
        yield rng.integers(256, size=size, dtype=np.uint8)
