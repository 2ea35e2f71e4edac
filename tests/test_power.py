"""How many samples show a drop: against statsmodels, and against simulated comparisons."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import normal_sample_size_one_tail

from pgbench.errors import UsageError
from pgbench.power import (
    Design,
    design_effect,
    design_effect_of_clusters,
    few,
    is_binary,
    moved_between,
    samples_needed,
    smallest_drop,
)
from pgbench.stats import clustered_t

RATES = st.floats(0.01, 1.0)


@pytest.mark.parametrize("moved", [0.02, 0.08, 0.3])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])  # of the largest drop
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_as_statsmodels(moved: float, share: float, power: float, alpha: float) -> None:
    drop = share * moved
    spreads = math.sqrt(moved), math.sqrt(moved - drop**2)
    expected = normal_sample_size_one_tail(drop, power, alpha / 2, *spreads)
    assert samples_needed(Design(moved, power=power, alpha=alpha), drop) == math.ceil(expected - 1e-9)


def test_a_design_effect_multiplies() -> None:
    alone = samples_needed(Design(0.08), 0.005)
    assert samples_needed(Design(0.08, deff=1.7), 0.005) == pytest.approx(
        1.7 * alone, abs=2
    )  # both are rounded up


def test_textvqa_with_500_samples() -> None:
    """80 % power, 8 % flips: 3.5 points."""
    shown = smallest_drop(Design(0.08), 500)
    assert shown is not None
    assert round(100 * shown, 1) == 3.5


@given(RATES, st.floats(0.01, 0.99), st.floats(1.0, 5.0), st.floats(0.5, 0.99))
def test_the_smallest_drop_is_the_way_back(moved: float, share: float, deff: float, power: float) -> None:
    design = Design(moved, deff, power=power)
    samples = max(2, samples_needed(design, share * moved))
    shown = smallest_drop(design, samples)
    assert shown is None or shown <= share * moved * (1 + 1e-9)
    if shown is not None:
        assert samples_needed(design, shown) in (samples, samples + 1)  # rounding
    fewer = smallest_drop(design, max(2, samples // 2))
    assert fewer is None or shown is None or fewer >= shown


def differences(random: np.random.Generator, shape: tuple[int, ...], moved: float, drop: float) -> np.ndarray:
    """-1, 0 or 1: one of the two is right and the other wrong in a share `moved`, and `drop` more lose."""
    drawn = random.random(shape)
    lost = (moved + drop) / 2
    return np.where(drawn < lost, -1.0, np.where(drawn < moved, 1.0, 0.0))


def test_the_power_is_what_was_asked_for() -> None:
    """McNemar's statistic on drawn comparisons of as many samples as the formula says."""
    moved, drop = 0.08, 0.02
    found = differences(np.random.default_rng(7), (4000, samples_needed(Design(moved), drop)), moved, drop)
    statistic = found.sum(axis=1) / np.sqrt(np.abs(found).sum(axis=1))
    assert np.mean(statistic < -1.959964) == pytest.approx(0.8, abs=0.02)


def test_the_power_is_kept_with_clusters() -> None:
    """Five questions a picture, four of which flip together: without the design effect, power is lost."""
    random, moved, drop, size = np.random.default_rng(11), 0.2, 0.05, 5

    def drawn(samples: int) -> np.ndarray:
        clusters = math.ceil(samples / size)
        together = differences(random, (clusters, 1), moved, drop)
        alone = differences(random, (clusters, 1), moved, drop)
        return np.concatenate([np.repeat(together, size - 1, axis=1), alone], axis=1)

    pilot = drawn(20_000)
    deff = design_effect_of_clusters({str(number): row.tolist() for number, row in enumerate(pilot)})
    assert deff == pytest.approx((16 + 1) / 5, rel=0.1)  # sum of squared block sizes over their sum

    def seen(samples: int) -> float:
        bounds = [
            clustered_t(drawn(samples).sum(axis=1).tolist(), [size] * math.ceil(samples / size))
            for _ in range(400)
        ]
        return float(np.mean([one is not None and one.high < 0 for one in bounds]))

    assert seen(samples_needed(Design(moved, deff or 0.0), drop)) == pytest.approx(0.8, abs=0.06)
    assert seen(samples_needed(Design(moved), drop)) < 0.45


def test_graded_scores() -> None:
    """Scores of thirds: the second moment of the differences takes the place of the flip rate."""
    random = np.random.default_rng(3)
    values, chances = np.array([-1.0, -1 / 3, 0.0, 1 / 3, 1.0]), [0.07, 0.08, 0.75, 0.06, 0.04]
    drop, moved = -float(values @ chances), float(values**2 @ chances)
    samples = samples_needed(Design(moved, binary=False), drop)
    found = random.choice(values, size=(1500, samples), p=chances)
    statistic = found.mean(axis=1) / (found.std(axis=1, ddof=1) / math.sqrt(samples))
    assert np.mean(statistic < -1.959964) == pytest.approx(0.8, abs=0.03)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"a drop of 9 points cannot be: with a flip rate of 0.08 it is at most 8"
    ):
        samples_needed(Design(0.08), 0.09)
    assert samples_needed(Design(0.08, binary=False), 0.09) > 0
    cannot_be: tuple[dict[str, Any], ...] = (
        {"moved": 0.0},
        {"moved": 1.2},
        {"moved": math.nan},
        {"moved": 0.1, "deff": 0.5},
        {"moved": 0.1, "power": 1.0},
        {"moved": 0.1, "alpha": 0.0},
    )
    for wrong in cannot_be:
        with pytest.raises(UsageError, match=r"expected .*, got"):
            Design(**wrong)
    with pytest.raises(UsageError, match=r"the drop: expected above 0, got -0\.01"):
        samples_needed(Design(0.08), -0.01)
    with pytest.raises(UsageError, match="number of samples: expected 2 or more, got 1"):
        smallest_drop(Design(0.08), 1)


def test_too_few_samples_show_nothing() -> None:
    assert smallest_drop(Design(0.08), 20) is None


def test_few_is_said() -> None:
    assert few(Design(0.08), 5000, 3000) == []
    assert len(few(Design(0.08), 200, 20)) == 2
    assert few(Design(0.08, deff=2.0), 400) != []


def test_design_effects() -> None:
    """Against the definition: the variance of the mean with clusters over that without."""
    pairs = {str(number): [float(number % 2)] * 2 for number in range(10)}
    bounds = clustered_t([sum(pair) for pair in pairs.values()], [2.0] * 10)
    assert bounds is not None
    values = [value for pair in pairs.values() for value in pair]
    expected = bounds.stderr**2 / (np.var(values, ddof=1) / 20)
    assert design_effect_of_clusters(pairs) == pytest.approx(expected)
    assert design_effect(values, bounds.stderr) == pytest.approx(expected)
    assert design_effect([1.0, 1.0], 0.1) is None
    assert design_effect_of_clusters({"a": [1.0]}) is None
    assert design_effect([0.0, 1.0, 0.0, 1.0], 1e-9) == 1.0  # never below


def test_moments() -> None:
    assert moved_between([1.0, 0.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0]) == pytest.approx(1.25 / 4)
    assert is_binary([0.0, 1.0], [1.0])
    assert not is_binary([0.0, 1 / 3])
