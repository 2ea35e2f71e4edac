"""Intervals against statsmodels, scipy, closed forms and a simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from pgbench.metrics import mean
from pgbench.stats import bootstrap, clustered_t, wilson


def clustered_sample(seed: int, clusters: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Scores with a strong common part per cluster, and the cluster of each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, size=clusters)
    groups = np.repeat(np.arange(clusters), sizes)
    chance = rng.beta(0.7, 0.5, size=clusters)
    return (rng.random(groups.size) < chance[groups]).astype(float), groups


def per_cluster(scores: np.ndarray, groups: np.ndarray) -> tuple[list[float], list[float]]:
    return np.bincount(groups, weights=scores).tolist(), np.bincount(groups).astype(float).tolist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_clustered_t_is_the_cluster_robust_ols_of_statsmodels(seed: int, level: float) -> None:
    scores, groups = clustered_sample(seed)
    fit = OLS(scores, np.ones_like(scores)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True}, use_t=True
    )
    bounds = clustered_t(*per_cluster(scores, groups), level=level)
    assert bounds
    assert bounds.stderr == pytest.approx(fit.bse[0], rel=1e-10)
    assert (bounds.low, bounds.high) == pytest.approx(fit.conf_int(1 - level)[0], rel=1e-10)


def test_the_correction_is_clusters_over_clusters_less_one() -> None:
    """Without it the formula is Miller's (arXiv:2411.00640)."""
    scores, groups = clustered_sample(7)
    fit = OLS(scores, np.ones_like(scores)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    bounds = clustered_t(*per_cluster(scores, groups))
    assert bounds
    assert bounds.stderr == pytest.approx(fit.bse[0] * math.sqrt(40 / 39), rel=1e-10)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30).filter(lambda x: max(x) - min(x) > 1e-3))
@settings(deadline=None)
def test_clusters_of_one_give_the_plain_t_interval(scores: list[float]) -> None:
    bounds = clustered_t(scores, [1.0] * len(scores))
    assert bounds
    stderr = float(scipy.stats.sem(scores))
    low, high = scipy.stats.t.interval(0.95, len(scores) - 1, float(np.mean(scores)), stderr)
    assert (bounds.low, bounds.high, bounds.stderr) == pytest.approx((low, high, stderr), rel=1e-6, abs=1e-9)


def test_copies_of_a_sample_within_its_cluster_add_no_certainty() -> None:
    once = clustered_t([1, 0, 1, 1, 0], [1] * 5)
    copied = clustered_t([4, 0, 4, 4, 0], [4] * 5)
    assert once == copied


def test_only_a_bounded_mean_is_clipped() -> None:
    free = clustered_t([1, 1, 0], [1, 1, 1])
    clipped = clustered_t([1, 1, 0], [1, 1, 1], bounded=True)
    assert free
    assert clipped
    assert free.low < 0 < 1 < free.high
    assert (clipped.low, clipped.high, clipped.stderr) == (0.0, 1.0, free.stderr)


@pytest.mark.parametrize(
    ("sums", "counts"),
    [
        ([], []),
        ([0.5], [1]),
        ([0, 0], [0, 0]),
        ([3, 1], [3, 1]),
        ([0, 0, 0], [1, 2, 1]),
        ([0.3, 0.6, 0.9], [1, 2, 3]),  # equal but for rounding: 0.1 + 0.2 is not 0.3
        ([0.1 + 0.2, 0.3, 0.3], [1, 1, 1]),
    ],
)
def test_clustered_t_knows_that_it_knows_nothing(sums: list[float], counts: list[float]) -> None:
    assert clustered_t(sums, counts) is None


def test_one_odd_cluster_among_many_is_no_rounding_noise() -> None:
    n = 200_000
    bounds = clustered_t([1.0] * (n - 1) + [0.9], [1.0] * n)
    assert bounds
    assert bounds.stderr == pytest.approx(0.1 / n, rel=1e-4)


def test_clustered_t_wants_a_count_for_each_sum() -> None:
    with pytest.raises(ValueError, match="2 sums and 1 counts"):
        clustered_t([1, 2], [1])


def test_clustered_t_covers_where_the_naive_interval_does_not() -> None:
    """400 draws of 60 clusters: the intervals cover as promised; taking samples as independent does not."""
    truth, hits, naive, n_draws = 0.7 / 1.2, 0, 0, 400
    for seed in range(n_draws):
        scores, groups = clustered_sample(1000 + seed, clusters=60)
        bounds = clustered_t(*per_cluster(scores, groups))
        assert bounds
        hits += bounds.low <= truth <= bounds.high
        reach = 1.96 * scores.std(ddof=1) / math.sqrt(scores.size)
        naive += abs(scores.mean() - truth) <= reach
    assert 0.92 <= hits / n_draws <= 0.98
    assert naive / n_draws < 0.85


@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
@settings(deadline=None)
def test_wilson_is_that_of_statsmodels(n: int, share: float, level: float) -> None:
    right = round(share * n)
    wanted = proportion_confint(right, n, alpha=1 - level, method="wilson")
    assert wilson(right / n, n, level) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("p", "n"), [(1.5, 10), (-0.1, 10), (0.5, 0)])
def test_wilson_refuses_what_is_no_proportion(p: float, n: int) -> None:
    with pytest.raises(ValueError, match="expected a proportion"):
        wilson(p, n)


def means(scores: np.ndarray) -> list[dict[str, float]]:
    return [{"sum": float(s), "n": 1.0} for s in scores]


def test_bootstrap_has_the_closed_form_stderr_of_a_mean() -> None:
    """It is the population standard deviation over the root of n; 2,000 draws know it to 1 / sqrt(4000)."""
    scores = np.random.default_rng(5).random(300)
    bounds = bootstrap(means(scores), mean)
    assert bounds
    assert bounds.stderr == pytest.approx(scores.std() / math.sqrt(300), rel=4 / math.sqrt(4000))
    assert bounds.low == pytest.approx(scores.mean() - 1.96 * bounds.stderr, abs=0.15 * bounds.stderr)
    assert bounds.high == pytest.approx(scores.mean() + 1.96 * bounds.stderr, abs=0.15 * bounds.stderr)


def test_bootstrap_resamples_clusters_not_samples() -> None:
    scores, groups = clustered_sample(3, clusters=200)
    sums = [{"sum": s, "n": n} for s, n in zip(*per_cluster(scores, groups), strict=True)]
    robust, drawn = clustered_t(*per_cluster(scores, groups)), bootstrap(sums, mean)
    assert robust
    assert drawn
    assert drawn.stderr == pytest.approx(robust.stderr, rel=0.08)
    assert drawn.stderr > 1.4 * scores.std() / math.sqrt(scores.size)


def precision(total: Mapping[str, float]) -> float | None:
    said = total["tp"] + total["fp"]
    return total["tp"] / said if said else None


def test_bootstrap_drops_and_counts_undefined_draws() -> None:
    """Two of six clusters say yes at all: (4/6)^6 of the draws have no precision, 8.8 %."""
    sums = [{"tp": 1.0, "fp": 0.0}, {"tp": 0.0, "fp": 1.0}] + [{"tp": 0.0, "fp": 0.0}] * 4
    bounds = bootstrap(sums, precision)
    assert bounds
    assert bounds.dropped == pytest.approx(2000 * (4 / 6) ** 6, rel=0.25)
    assert (bounds.low, bounds.high) == (0.0, 1.0)


def test_bootstrap_repeats_itself_and_heeds_its_seed() -> None:
    sums = means(np.random.default_rng(1).random(50))
    assert bootstrap(sums, mean) == bootstrap(sums, mean)
    assert bootstrap(sums, mean) != bootstrap(sums, mean, seed=1)


def test_bootstrap_takes_clusters_that_lack_a_statistic() -> None:
    assert bootstrap([{"tp": 1.0, "fp": 1.0}, {"fp": 3.0}, {"tp": 2.0}], precision)


@pytest.mark.parametrize(
    "sums", [[], [{"tp": 1.0, "fp": 0.0}], [{"tp": 1.0, "fp": 0.0}] * 5, [{"tp": 0.0, "fp": 0.0}] * 5]
)
def test_bootstrap_knows_that_it_knows_nothing(sums: list[dict[str, float]]) -> None:
    assert bootstrap(sums, precision) is None
