"""Comparisons drawn at random, and what the gate says of them: the truth behind them is known.

The tests draw few and small ones, `make prove` (benchmarks/gate_simulation.py) 2,000 of 5,000 samples.
The scores are those of VQA's soft accuracy. One to three questions share a picture, and depend on each
other in three ways: some pictures are easier than others, on some more questions flip between the two
sides, and those that flip on one picture tend to flip the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgbench import stats
from pgbench.check.findings import Finding, Verdict
from pgbench.check.rules import Terms
from pgbench.check.scores import Asked, measured
from pgbench.metrics import mean
from pgbench.paired.aligned import Aligned
from pgbench.paired.evidence import Units

SCORES = np.array([0.0, 0.3, 0.6, 0.9, 1.0])  # of 0, 1, 2, 3 or more people who gave the answer
LARGEST = 3  # questions on a picture
FLIPS = 0.08  # share of samples with another score on the other side
GAP = 0.52  # what two different scores differ by, on average over the ten pairs of them
TOGETHER = 0.9  # chance that a flip goes the way of its picture

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """One comparison: the clusters' sums, and what it is like sample by sample."""

    pair: stats.Pair
    samples: int
    flips: float  # share of samples that differ
    deff: float  # variance of the mean difference over that of independent samples


def draw(rng: np.random.Generator, samples: int, drop: float = 0.0) -> Drawn:
    """Two sides of which the second is worse by `drop` (a fraction) in the long run."""
    sizes = rng.integers(1, LARGEST + 1, size=samples)
    clusters = int(np.searchsorted(np.cumsum(sizes), samples)) + 1
    of = np.repeat(np.arange(clusters), sizes[:clusters])[:samples]
    easy, restless = (
        rng.beta(0.8, 0.6, size=clusters)[of],
        rng.beta(0.1, 0.1 / FLIPS - 0.1, size=clusters)[of],
    )
    before = SCORES[rng.binomial(len(SCORES) - 1, easy)]
    after = before.copy()
    flips = np.flatnonzero(rng.random(samples) < restless)
    worse = _worse(rng, of[flips], clusters, (1 + drop / (FLIPS * GAP)) / 2)
    ends = _two_scores(rng, len(flips))
    before[flips], after[flips] = np.where(worse, ends[::-1], ends)
    return Drawn(_pair(of, clusters, before, after), samples, len(flips) / samples, _deff(of, after - before))


def _worse(
    rng: np.random.Generator, of: NDArray[np.int64], clusters: int, chance: float
) -> NDArray[np.bool_]:
    """Which flips go down: each with the same chance, those of one picture rather together."""
    picture = rng.random(clusters)[of]
    own = rng.random(len(of))
    return np.where(rng.random(len(of)) < TOGETHER, picture, own) < chance


def _two_scores(rng: np.random.Generator, count: int) -> Column:
    """A lower and a higher score each, all pairs alike."""
    one = rng.integers(len(SCORES), size=count)
    other = (one + rng.integers(1, len(SCORES), size=count)) % len(SCORES)
    return np.stack([SCORES[np.minimum(one, other)], SCORES[np.maximum(one, other)]])


def _pair(of: NDArray[np.int64], clusters: int, before: Column, after: Column) -> stats.Pair:
    counts = np.bincount(of, minlength=clusters)
    sides = (np.stack([np.bincount(of, side, clusters), counts], axis=1) for side in (before, after))
    return stats.Pair(("sum", "n"), *sides)


def _deff(of: NDArray[np.int64], gains: Column) -> float:
    rest = gains - gains.mean()
    return float((np.bincount(of, rest) ** 2).sum() / (rest**2).sum())


def judged(check: Sequence[Drawn], tolerance: float) -> list[Verdict]:
    """The verdicts of one check of all these comparisons: all of `pgbench check` but the reading of files."""
    return [
        finding.verdict for finding in measured([_asked(one, tolerance) for one in check], draws=9999, seed=0)
    ]


def _asked(drawn: Drawn, tolerance: float) -> Asked:
    sides = [np.asarray(side) for side in (drawn.pair.before, drawn.pair.after)]
    before, after = (float(side[:, 0].sum()) / drawn.samples for side in sides)
    aligned = Aligned(
        pair=drawn.pair,
        units=Units("accuracy", mean, is_mean=True, direction="up", number=False, ids=(), sums={}),
        ids=(),
        before=sides[0],
        after=sides[1],
        n=drawn.samples,
        trials=drawn.samples,
        clusters=len(sides[0]),
    )
    finding = Finding("cell", "accuracy", "cannot tell", "")
    return Asked(finding, aligned, Terms(tolerance=tolerance), before, after, failed=(0, 0))


def likeness(samples: int, draws: int = 200) -> dict[str, object]:
    """What comparisons are like, on average over some without a difference."""
    rng = np.random.default_rng(0)
    drawn = [draw(rng, samples) for _ in range(draws)]
    return {
        "flips": float(np.mean([one.flips for one in drawn])),
        "clusters": float(np.mean([len(one.pair.before) for one in drawn])),
        "design_effect": float(np.mean([one.deff for one in drawn])),
    }
