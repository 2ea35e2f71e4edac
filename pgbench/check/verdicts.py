"""From paired differences to verdicts. Pure: what was measured comes in as numbers.

All differences are candidate minus baseline in the good direction of the metric: below 0 is worse. With the
tolerance t and the level alpha (one-sided), the first that holds of

    regressed    the difference is below -t, and the adjusted p of "no difference" against "worse" below alpha
    improved     the adjusted p of "no difference" against "better" is below alpha
    ok           the lower one-sided bound (1 - alpha) of the difference is above -t
    cannot tell  none of these: more samples are needed

p is adjusted by Holm's method over all hypotheses that are gated together, for each direction: so the chance
that any of them is called regressed without a difference is at most alpha, however many cells are checked.
Where hypotheses have different alphas, each is held against its own and the chance is at most the largest.

Sources: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70; the bound against a tolerance is the usual
test of non-inferiority (Blackwelder, Controlled Clinical Trials 3 (1982) 345-353).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol, TypeAlias

from pgbench.stats import holm

Statistical: TypeAlias = Literal["regressed", "improved", "ok", "cannot tell"]
ALPHA = 0.05
TOLERANCE = 0.01  # a fraction: 1.0 point
POWER = 0.8
_ROUNDING = 1e-9  # 0.95 - 0.96 is below -0.01 by its last digit; no real difference of scores is so small


class Bounded(Protocol):
    """A difference and its one-sided bounds at 1 - alpha; None where there are none."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def stderr(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """A `Bounded` in the good direction of its metric."""

    value: float
    low: float | None
    high: float | None
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One gated number: what was measured, and what is asked of it."""

    name: str
    difference: Bounded
    p_down: float  # of "no difference" against "worse", not adjusted
    p_up: float  # against "better"
    n: int  # samples
    tolerance: float = TOLERANCE
    alpha: float = ALPHA


@dataclass(frozen=True, slots=True)
class Judged:
    """A hypothesis with its verdict among all that were gated with it."""

    hypothesis: Hypothesis
    verdict: Statistical
    p_down: float  # adjusted by Holm
    p_up: float
    needed: int | None  # samples that would tell; None where it can be told, or where no number would


def decide(
    difference: Bounded, p_down: float, p_up: float, tolerance: float = TOLERANCE, alpha: float = ALPHA
) -> Statistical:
    """The verdict on one difference with adjusted p values.

    >>> decide(Measured(-0.03, -0.036, -0.024, 0.0036), p_down=0.0001, p_up=1.0)
    'regressed'
    >>> decide(Measured(-0.003, -0.009, 0.003, 0.0036), p_down=0.3, p_up=0.9)
    'ok'
    """
    if difference.value < -tolerance - _ROUNDING and p_down < alpha:
        return "regressed"
    if p_up < alpha and difference.value > 0:
        return "improved"
    if difference.low is not None and difference.low > -tolerance:
        return "ok"
    return "cannot tell"


def gate(hypotheses: Sequence[Hypothesis]) -> tuple[Judged, ...]:
    """The verdicts on all hypotheses of one check, in their order."""
    down = holm([one.p_down for one in hypotheses])
    up = holm([one.p_up for one in hypotheses])
    return tuple(
        Judged(
            one, verdict, worse, better, needed(one, len(hypotheses)) if verdict == "cannot tell" else None
        )
        for one, worse, better in zip(hypotheses, down, up, strict=True)
        for verdict in [decide(one.difference, worse, better, one.tolerance, one.alpha)]
    )


def needed(hypothesis: Hypothesis, family: int = 1) -> int | None:
    """Samples that would tell with a power of 0.8, if the difference seen is the true one.

    With n samples, a standard error s and quantiles z of the normal distribution:

        d < -t    n * ((z(1 - alpha / family) + z(power)) * s / d)^2           shows the drop
        d >= -t   n * ((z(1 - alpha) + z(power)) * s / (t + min(d, 0)))^2      puts the bound above -t

    s shrinks as 1 / sqrt(n), and Holm's first step divides alpha by the size of the family. A bound that lies
    lower than s puts it, since few samples differ, comes closer as 1 / n as long as few do: the second line
    is at least n * (d - low) / (t + min(d, 0)) * (z(1 - alpha) + z(power)) / z(1 - alpha). Where none differs
    there is no s, and the bound is 1 - alpha^(1 / clusters): n * log(1 + low) / log(1 - t). None where no
    number of samples would tell.
    Source: the size of a test of non-inferiority, as Blackwelder 1982 has it.

    >>> needed(Hypothesis("", Measured(-0.03, -0.09, 0.03, 0.036), 0.2, 0.8, n=50))
    446
    """
    seen, t, n = hypothesis.difference, hypothesis.tolerance, hypothesis.n
    normal, least = NormalDist(), 0.0
    if seen.value < -t - _ROUNDING:
        z, margin = normal.inv_cdf(1 - hypothesis.alpha / family), -seen.value
    else:
        z, margin = normal.inv_cdf(1 - hypothesis.alpha), t + min(seen.value, 0.0)
        least = math.nan if seen.low is None else (seen.value - seen.low) / z
    if margin <= _ROUNDING or n <= 0 or math.isnan(least):
        return None
    if not seen.stderr:
        if seen.low is None or not (-1 < seen.low < 0 and margin < 1):
            return None
        return math.floor(n * math.log1p(seen.low) / math.log1p(-margin)) + 1
    times = (z + normal.inv_cdf(POWER)) / margin
    return math.ceil(n * max((times * seen.stderr) ** 2, times * least))
