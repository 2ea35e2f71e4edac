"""How many samples show a drop between two checkpoints that answer the same questions. Pure.

The design is paired: what decides is how much the two differ sample by sample, not how good they are. Let d
be the difference of the two scores of a sample and m the mean of d squared; where scores are 0 or 1, m is the
flip rate, the share of samples that one gets right and the other wrong. A drop of x, tested from two sides,
needs

    n = deff * (z(1 - alpha / 2) * sqrt(m) + z(power) * sqrt(m - x^2))^2 / x^2

samples, z being quantiles of the normal distribution: under "no drop" the variance of d is m, under a drop of
x it is m - x^2. Source: Connor, Biometrics 43 (1987) 207-211, for 0 and 1 (McNemar's test); the same with the
second moment of d for graded scores. `deff` is the design effect of clusters (Kish, Survey Sampling, 1965,
section 5.4): the variance of the mean difference over what it were if no two samples shared a picture.
It is a normal approximation; `few` says where that is optimistic. Fractions throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from pgbench.errors import UsageError
from pgbench.stats import clustered_t

ALPHA = 0.05
FEW_FLIPS = 25  # below, the exact test of McNemar needs noticeably more samples than this formula says
FEW_CLUSTERS = 30  # below, Student's quantile is noticeably wider than the normal one


@dataclass(frozen=True, slots=True)
class Design:
    """What the size of a paired comparison depends on. Raises UsageError for what cannot be."""

    moved: float  # mean squared difference of a sample's two scores; the flip rate where scores are 0 or 1
    deff: float = 1.0  # variance of the mean difference, over that of independent samples
    binary: bool = True  # scores are 0 or 1, so that a drop cannot exceed the flip rate
    power: float = 0.8
    alpha: float = ALPHA  # two-sided

    def __post_init__(self) -> None:
        _require("differences (the flip rate)", self.moved, 0.0 < self.moved <= 1.0, "above 0, at most 1")
        _require("the design effect", self.deff, 1.0 <= self.deff < math.inf, "1 or more")
        _require("the power", self.power, 0.5 <= self.power < 1.0, "at least 0.5, below 1")
        _require("alpha", self.alpha, 0.0 < self.alpha < 1.0, "between 0 and 1")

    @property
    def largest(self) -> float:
        """The largest drop that is possible: all flips go one way, or every sample loses the same."""
        return self.moved if self.binary else math.sqrt(self.moved)


def samples_needed(design: Design, drop: float) -> int:
    """Samples that show a drop of `drop` at the power of the design.

    Raises UsageError for a drop that is none, or larger than the differences allow.

    >>> samples_needed(Design(moved=0.08), drop=0.01)
    6277
    """
    _require("the drop", drop, drop > 0.0, "above 0")
    if drop > design.largest * (1 + 1e-12):
        kind = "flip rate" if design.binary else "difference"
        raise UsageError(
            f"a drop of {100 * drop:g} points cannot be: with a {kind} of {design.moved:.4g} it is at most "
            f"{100 * design.largest:.4g}; name a smaller drop, or a larger {kind}"
        )
    z_alpha, z_power = _quantiles(design)
    spread = z_alpha * math.sqrt(design.moved) + z_power * math.sqrt(max(0.0, design.moved - drop * drop))
    return math.ceil(design.deff * (spread / drop) ** 2 - 1e-9)


def smallest_drop(design: Design, samples: int) -> float | None:
    """The smallest drop that `samples` show at the power of the design: `samples_needed` solved for the drop.

    None where even the largest possible drop would not be shown. Raises UsageError below two samples.

    >>> round(smallest_drop(Design(moved=0.08), 5000), 4)
    0.0112
    """
    _require("the number of samples", samples, samples >= 2, "2 or more")
    z_alpha, z_power = _quantiles(design)
    independent = samples / design.deff
    under = independent + z_power**2 - z_alpha**2
    if under < 0:
        return None
    root = z_alpha * math.sqrt(independent) + z_power * math.sqrt(under)
    drop = math.sqrt(design.moved) * root / (independent + z_power**2)
    return drop if independent >= z_alpha**2 and drop <= design.largest else None


def few(design: Design, samples: int, clusters: float | None = None) -> list[str]:
    """Why the normal approximation is optimistic for so few; empty where it is not."""
    flips = samples * design.moved / design.deff
    found = []
    if flips < FEW_FLIPS:
        found.append(
            f"about {flips:.0f} differences are expected; below {FEW_FLIPS} an exact test needs more samples"
        )
    if clusters is not None and clusters < FEW_CLUSTERS:
        found.append(f"about {clusters:.0f} clusters; below {FEW_CLUSTERS} Student's t asks for more samples")
    return found


def moved_between(first: Sequence[float], second: Sequence[float]) -> float:
    """The mean squared difference of two scores of the same samples."""
    squares = ((a - b) ** 2 for a, b in zip(first, second, strict=True))
    return math.fsum(squares) / len(first)


def is_binary(*scores: Sequence[float]) -> bool:
    """Whether all scores are 0 or 1."""
    return all(value in (0.0, 1.0) for values in scores for value in values)


def design_effect(values: Sequence[float], stderr: float) -> float | None:
    """The variance of a mean with clusters over that without, from its clustered standard error.

    Never below 1, so that noise makes no sample worth more than one. None where the values do not vary.
    """
    count = len(values)
    mean = math.fsum(values) / count if count else 0.0
    squares = math.fsum((value - mean) ** 2 for value in values)
    if count < 2 or squares <= 1e-12 * count:
        return None
    return max(1.0, stderr**2 * count * (count - 1) / squares)


def design_effect_of_clusters(clusters: Mapping[str, Sequence[float]]) -> float | None:
    """The same from the values of each cluster. None where it cannot be told."""
    values = [value for members in clusters.values() for value in members]
    sums = [math.fsum(members) for members in clusters.values()]
    bounds = clustered_t(sums, [float(len(members)) for members in clusters.values()])
    return design_effect(values, bounds.stderr) if bounds else None


def _quantiles(design: Design) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - design.alpha / 2), normal.inv_cdf(design.power)


def _require(name: str, value: float, fits: bool, expected: str) -> None:
    if not fits:  # nan fits nothing
        raise UsageError(f"{name}: expected {expected}, got {value:g}")
