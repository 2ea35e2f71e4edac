"""McNemar's exact test, Holm's adjustment, and the effect that a standard error lets one detect."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from pgbench.stats.pairs import ALTERNATIVES, Alternative


def mcnemar(lost: int, gained: int, alternative: Alternative = "two-sided") -> float:
    """The exact p of McNemar's test: of the samples that differ, half should be lost, half gained.

    `lost` are right before and wrong after, `gained` the other way round; "less": after is worse. Only for
    scores of 0 or 1 with clusters of one sample each, where it equals `swap_test` without its draws.
    Raises ValueError for negative counts or an unknown alternative.
    Source: McNemar, Psychometrika 12 (1947) 153-157, with binomial tails in place of chi-squared.

    >>> round(mcnemar(lost=8, gained=2), 6), round(mcnemar(lost=8, gained=2, alternative="less"), 6)
    (0.109375, 0.054688)
    """
    if alternative not in ALTERNATIVES:
        raise ValueError(f"expected an alternative of {', '.join(ALTERNATIVES)}, got {alternative!r}")
    if lost < 0 or gained < 0:
        raise ValueError(f"expected counts of samples, got {lost} lost and {gained} gained")
    from scipy.special import bdtr  # not scipy.stats, which takes twice the time to import

    few = {"less": gained, "greater": lost, "two-sided": min(lost, gained)}[alternative]
    tail = float(bdtr(few, lost + gained, 0.5)) if lost + gained else 1.0
    return min(1.0, 2 * tail) if alternative == "two-sided" else tail


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p of each of a family of tests, in their order.

    Calling those below alpha significant is wrong in any of them at most a share alpha of the time,
    however the tests depend on each other. The i-th smallest of m is multiplied by m - i + 1, and none is
    below a smaller one's.
    Raises ValueError for what is no p.
    Source: Holm, Scand. J. Statist. 6 (1979) 65-70.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if wrong := [p for p in ps if not 0 <= p <= 1]:  # nan is within nothing
        raise ValueError(f"expected p in [0, 1], got {wrong[0]}")
    adjusted, least = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
    return tuple(adjusted)


def detectable_effect(
    stderr: float, power: float = 0.8, alpha: float = 0.05, two_sided: bool = True
) -> float:
    """The smallest true difference that a test finds with a chance of `power`, from its standard error.

    (z(1 - alpha / 2) + z(power)) * stderr, or alpha in place of alpha / 2 for one side, by the normal
    approximation and in the unit of `stderr`. `pgbench.power` plans a comparison that has not been run.
    Raises ValueError for a negative stderr, or a power or alpha outside (0, 1).
    Source: Bloom, Evaluation Review 19 (1995) 547-556.

    >>> round(detectable_effect(0.004), 4)
    0.0112
    """
    if not (stderr >= 0 and 0 < power < 1 and 0 < alpha < 1):
        raise ValueError(f"expected stderr >= 0, power and alpha in (0, 1), got {stderr}, {power}, {alpha}")
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / (2 if two_sided else 1)) + normal.inv_cdf(power)) * stderr
