"""Paired intervals against statsmodels, scipy and closed forms, and what has no spread."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.stats import Difference, Pair, clustered_t, paired_interval

Numbers: TypeAlias = Sequence[float] | np.ndarray

MEANS = ("sum", "n")
COUNTS = ("fn", "fp", "tp")


def f1(total: Mapping[str, float]) -> float | None:
    said = 2 * total["tp"] + total["fp"] + total["fn"]
    return 2 * total["tp"] / said if said else None


def of_scores(before: Numbers, after: Numbers, clusters: Numbers) -> Pair:
    """Samples summed per cluster."""
    counts = np.bincount(clusters)
    return Pair(MEANS, *(np.stack([np.bincount(clusters, side), counts], 1) for side in (before, after)))


def singles(before: Numbers, after: Numbers) -> Pair:
    return of_scores(before, after, np.arange(len(before)))


def interval(pair: Pair, level: float = 0.95, bounded: bool = True) -> Difference:
    return paired_interval(pair, mean, mean=True, bounded=bounded, level=level)


def graded(seed: int, samples: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sides of soft scores that depend on each other within clusters of 1 to 4."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(samples), rng.integers(1, 5, size=samples))[:samples]
    shift = rng.normal(scale=0.3, size=samples)[clusters]
    before = np.round(rng.random(samples), 1)
    after = np.clip(np.round(before + shift * (rng.random(samples) < 0.5), 1), 0, 1)
    return before, after, clusters


def yes_no(seed: int, clusters: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """fn, fp and tp of six questions a cluster on two sides that mostly answer alike."""
    rng = np.random.default_rng(seed)
    wanted = rng.random((clusters, 6)) < 0.5
    before = np.where(rng.random((clusters, 6)) < 0.85, wanted, ~wanted)
    after = np.where(rng.random((clusters, 6)) < 0.9, before, ~before)
    sides = [
        np.stack([(wanted & ~said).sum(1), (~wanted & said).sum(1), (wanted & said).sum(1)], axis=1)
        for said in (before, after)
    ]
    return sides[0].astype(float), sides[1].astype(float)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_mean_gets_the_cluster_robust_ols_of_the_differences(seed: int, level: float) -> None:
    before, after, clusters = graded(seed)
    fit = OLS(after - before, np.ones_like(before)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}, use_t=True
    )
    found = interval(of_scores(before, after, clusters), level)
    assert found.kind == "clustered t"
    assert found.value == pytest.approx(after.mean() - before.mean(), abs=1e-12)
    assert found.stderr == pytest.approx(fit.bse[0], rel=1e-9)
    assert (found.low, found.high) == pytest.approx(fit.conf_int(1 - level)[0], rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1.001, 2)), min_size=2, max_size=30).filter(
        lambda rows: np.ptp([b - a for a, b in rows]) > 1e-3
    ),
    st.sampled_from([0.8, 0.9, 0.95]),
)
@settings(deadline=None)
def test_clusters_of_one_give_the_paired_t_interval_of_scipy(
    rows: list[tuple[float, float]], level: float
) -> None:
    before, after = zip(*rows, strict=True)
    wanted = scipy.stats.ttest_rel(after, before).confidence_interval(level)
    found = interval(singles(before, after), level, bounded=False)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-8)


def test_the_low_end_of_90_percent_is_the_one_sided_bound_of_95() -> None:
    before, after, _ = graded(5)
    one_sided = scipy.stats.ttest_rel(after, before, alternative="greater").confidence_interval(0.95)
    assert interval(singles(before, after), 0.90).low == pytest.approx(one_sided.low, rel=1e-9)


def test_counts_of_what_was_compared_are_said() -> None:
    found = interval(of_scores([1, 0, 1, 1, 0.3], [1, 0, 0, 1, 0.6], [0, 0, 1, 1, 2]))
    assert (found.clusters, found.disagreeing, found.draws, found.seed) == (3, 2, 0, None)


def test_changes_that_cancel_within_a_cluster_are_no_disagreement() -> None:
    found = interval(of_scores([1, 0, 1, 0.1 + 0.2], [0, 1, 1, 0.3], [0, 0, 1, 2]))
    assert (found.disagreeing, found.kind, found.value) == (0, "no difference seen", 0.0)


def test_empty_clusters_do_not_count() -> None:
    before, after = np.array([[1, 1], [0.3, 1], [2, 3]]), np.array([[0, 1], [0.3, 1], [1, 3]])
    more = Pair(MEANS, *(np.vstack([side, [0, 0]]) for side in (before, after)))
    assert interval(more) == interval(Pair(MEANS, before, after))


def test_unlike_counts_of_samples_are_resampled() -> None:
    """A metric may leave samples out by their answers; the t interval is of equal counts."""
    rng = np.random.default_rng(2)
    before = [[float(s), 2.0] for s in rng.integers(0, 3, 60)]
    after = [[float(s), 2.0] for s in rng.integers(0, 3, 59)] + [[1.0, 1.0]]
    found = interval(Pair(MEANS, before, after))
    assert (found.kind, found.draws, found.seed) == ("bootstrap", 2000, 0)
    assert found.value == pytest.approx(mean_of(after) - mean_of(before), abs=1e-12)


def mean_of(rows: Sequence[Sequence[float]]) -> float:
    return sum(row[0] for row in rows) / sum(row[1] for row in rows)


@pytest.mark.parametrize("seed", range(2))
def test_other_values_get_the_paired_bootstrap_of_scipy(seed: int) -> None:
    """Ends of 4,000 draws each are known to about 0.06 of a standard error."""
    before, after = yes_no(seed)
    found = paired_interval(Pair(COUNTS, before, after), f1, mean=False, bounded=True, draws=4000)

    def gain(places: np.ndarray) -> float:
        sides = (side[places].sum(axis=0).tolist() for side in (before, after))
        one, other = (f1(dict(zip(COUNTS, side, strict=True))) for side in sides)
        assert one is not None
        assert other is not None
        return other - one

    wanted = scipy.stats.bootstrap(
        (np.arange(len(before)),),
        gain,
        n_resamples=4000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(9),
    )
    assert found.kind == "bootstrap"
    assert found.value == pytest.approx(gain(np.arange(len(before))), abs=1e-12)
    assert found.stderr == pytest.approx(wanted.standard_error, rel=0.06)
    ends = (wanted.confidence_interval.low, wanted.confidence_interval.high)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.25 * wanted.standard_error)


def test_the_bootstrap_of_a_mean_has_the_stderr_of_the_t_interval() -> None:
    pair = of_scores(*graded(8, samples=600))
    drawn = paired_interval(pair, mean, mean=False, bounded=True)
    assert drawn.kind == "bootstrap"
    assert drawn.stderr == pytest.approx(interval(pair).stderr, rel=4 / math.sqrt(4000))


def test_both_sides_take_the_same_clusters() -> None:
    """What they share cancels: taken apart, the interval would be several times as wide."""
    before, after, clusters = graded(3, samples=500)
    pair = of_scores(before, after, clusters)
    found = paired_interval(pair, mean, mean=False, bounded=True)
    alone = [clustered_t(*np.asarray(side).T.tolist()) for side in (pair.before, pair.after)]
    apart = math.hypot(*(bounds.stderr for bounds in alone if bounds))
    assert found.stderr is not None
    assert found.stderr < 0.7 * apart


@given(st.permutations(range(20)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_clusters_does_not_matter(order: list[int]) -> None:
    before, after, clusters = graded(1, samples=60)
    pair = of_scores(before, after, clusters)
    first = Pair(MEANS, pair.before[:20], pair.after[:20])
    mixed = Pair(MEANS, [first.before[i] for i in order], [first.after[i] for i in order])
    one, other = interval(first), interval(mixed)
    assert (one.low, one.high, one.stderr) == pytest.approx((other.low, other.high, other.stderr), rel=1e-9)


@pytest.mark.parametrize("is_mean", [True, False])
def test_swapped_sides_turn_the_sign(is_mean: bool) -> None:
    before, after, clusters = graded(4)
    one, other = (
        paired_interval(of_scores(*sides, clusters), mean, mean=is_mean, bounded=True)
        for sides in ((before, after), (after, before))
    )
    assert one.value == pytest.approx(-other.value)
    assert other.low is not None
    assert other.high is not None
    assert (one.low, one.high, one.stderr) == pytest.approx((-other.high, -other.low, other.stderr))
    assert one.disagreeing == other.disagreeing


@pytest.mark.parametrize("clusters", [1, 2, 10, 2500])
@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("is_mean", [True, False])
def test_equal_sides_have_the_bound_of_clopper_and_pearson(
    clusters: int, level: float, is_mean: bool
) -> None:
    pair = Pair(MEANS, [[1.0, 2.0]] * clusters, [[1.0, 2.0]] * clusters)
    found = paired_interval(pair, mean, mean=is_mean, bounded=True, level=level)
    _, most = proportion_confint(0, clusters, alpha=1 - level, method="beta")
    assert (found.value, found.kind, found.stderr) == (0.0, "no difference seen", None)
    assert (found.low, found.high) == pytest.approx((-most, most))
    assert found.clusters == clusters


def test_what_was_not_seen_is_not_ruled_out() -> None:
    """The bound holds: a share just within it is missed by all of 50 clusters in 2.5 % of samples."""
    found = interval(Pair(MEANS, [[1, 1]] * 50, [[1, 1]] * 50))
    assert found.high is not None
    assert (1 - found.high) ** 50 == pytest.approx(0.025)


def test_equal_differences_are_not_taken_for_certain() -> None:
    """Everything lost: nothing but the number of clusters says how sure that is."""
    found = interval(Pair(MEANS, [[1, 1]] * 40, [[0, 1]] * 40))
    unseen = 1 - 0.025 ** (1 / 40)
    assert (found.value, found.kind, found.disagreeing, found.stderr) == (-1, "equal differences", 40, None)
    assert (found.low, found.high) == pytest.approx((-1, -1 + 2 * unseen))
    half = interval(Pair(MEANS, [[1, 2]] * 40, [[0.5, 2]] * 40))
    centre = -0.25 * (1 - unseen)
    assert (half.low, half.high) == pytest.approx((centre - unseen, centre + unseen))


def test_a_value_that_no_draw_moves_is_not_taken_for_certain() -> None:
    """The sides differ in what the value is not made of."""
    pair = Pair(("invalid", "n", "sum"), [[0, 1, 1]] * 9 + [[1, 1, 0]], [[0, 1, 1]] * 9 + [[0, 1, 0]])
    found = paired_interval(pair, mean, mean=False, bounded=True)
    assert (found.value, found.kind, found.disagreeing, found.stderr) == (0, "equal differences", 1, None)
    assert (found.low, found.high) == pytest.approx((-0.3085, 0.3085), abs=1e-4)


def of_few(clusters: int, lost: int, gained: int = 0) -> Pair:
    """Single samples, of which so many change."""
    before = np.arange(clusters) % 2
    after = before.copy()
    after[1 : 2 * lost : 2] = 0
    after[0 : 2 * gained : 2] = 1
    return singles(before, after)


@pytest.mark.parametrize(("lost", "gained"), [(1, 0), (0, 1), (3, 2), (9, 0)])
@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("is_mean", [True, False])
def test_few_differences_do_not_hide_those_that_were_not_seen(
    lost: int, gained: int, level: float, is_mean: bool
) -> None:
    found = paired_interval(of_few(150, lost, gained), mean, mean=is_mean, bounded=True, level=level)
    (least_lost, most_lost), (least_gained, most_gained) = (
        proportion_confint(count, 150, alpha=1 - level, method="beta") for count in (lost, gained)
    )
    down = math.hypot(most_lost - lost / 150, gained / 150 - least_gained)
    up = math.hypot(most_gained - gained / 150, lost / 150 - least_lost)
    assert found.kind == "few differences seen"
    assert (found.low, found.high) == pytest.approx((found.value - down, found.value + up))


@pytest.mark.parametrize("clusters", [50, 200, 2500])
def test_few_losses_that_the_exact_test_shows_are_shown_by_the_interval(clusters: int) -> None:
    """Six of six lost: p = 2 / 64, and the interval is below 0; three of three prove nothing."""
    six, three = (interval(of_few(clusters, lost)) for lost in (6, 3))
    assert six.high is not None
    assert three.high is not None
    assert six.high < 0 < three.high


@pytest.mark.parametrize("clusters", [5, 20, 150, 2500])
def test_the_more_is_lost_the_lower_the_bound(clusters: int) -> None:
    """From none that differs to more than enough, without a step back; and a gain never lowers it."""
    counts = range(min(30, clusters // 2 + 1))
    lost = [interval(of_few(clusters, k), 0.9).low or 0.0 for k in counts]
    gained = [interval(of_few(clusters, 0, k), 0.9).low or 0.0 for k in counts]
    assert lost == sorted(lost, reverse=True)
    assert gained == sorted(gained)
    assert lost[0] == gained[0] == pytest.approx(-(1 - 0.05 ** (1 / clusters)))


def test_few_clusters_that_all_gain_alike_prove_no_more_than_equal_answers() -> None:
    found = interval(singles([0.5] * 8, [0.6] * 7 + [0.61]), 0.9)
    assert found.low is not None
    assert found.low <= found.value - (1 - 0.05 ** (1 / 8))


def test_one_gain_proves_no_more_than_equal_answers() -> None:
    same, gained = interval(of_few(150, 0), 0.9), interval(of_few(150, 0, 1), 0.9)
    assert same.low is not None
    assert gained.low is not None
    assert same.low < gained.low < -0.01


def test_a_bound_of_rare_losses_covers() -> None:
    """Exactly: of 150 clusters each lost with the same small chance, the one-sided bound of 95 % is missed
    in at most 5 %. Student's would be missed in up to 20 %."""
    lows = [interval(of_few(150, k), 0.9).low or 0.0 for k in range(40)]
    for share in np.linspace(0.5, 15, 59) / 150:
        chances = scipy.stats.binom.pmf(range(40), 150, share)
        assert sum(chances[k] for k in range(40) if lows[k] > -share) <= 0.0501


def test_a_bound_of_rare_flips_both_ways_covers() -> None:
    """Exactly: of 150 clusters some are lost and some gained, with small chances."""
    counts = range(16)
    ends = {(f, r): interval(of_few(150, f, r), 0.9).low or 0.0 for f in counts for r in counts}
    for fall, rise in itertools.product((0.5, 1, 2, 3, 5), repeat=2):
        falls, rises = (scipy.stats.poisson.pmf(counts, rate) for rate in (fall, rise))
        missed = sum(falls[f] * rises[r] for (f, r), low in ends.items() if low > (rise - fall) / 150)
        assert missed <= 0.055


def test_a_bound_of_rare_flips_covers() -> None:
    """Soft scores of clusters of 1 to 3 that seldom move, two thirds of those that do down: 600 draws, in
    which Student's bound is above the truth in 8 to 11 %."""
    rng = np.random.default_rng(5)
    for share in (0.01, 0.02, 0.04):
        missed = 0
        for _ in range(600):
            sizes = rng.integers(1, 4, size=150)
            size = rng.choice([0.3, 0.6, 1.0], size=150) * np.where(rng.random(150) < 2 / 3, -1, 1)
            gains = np.where(rng.random(150) < share, size, 0.0) * sizes
            pair = Pair(MEANS, np.stack([0 * gains, sizes], 1), np.stack([gains, sizes], 1))
            found = interval(pair, 0.9)
            assert found.low is not None
            missed += found.low > share * 1.9 / 3 * (-2 / 3 + 1 / 3)
        assert missed / 600 <= 0.05


@pytest.mark.parametrize("after", [[[1, 1]] * 3, [[0, 1]] * 3])
def test_without_bounds_of_the_value_nothing_is_said(after: list[list[float]]) -> None:
    found = interval(Pair(MEANS, [[1, 1]] * 3, after), bounded=False)
    assert (found.low, found.high, found.stderr) == (None, None, None)


def test_few_differences_of_numbers_have_no_bound_either() -> None:
    """One distance that changed says no more of the others than none."""
    before = np.linspace(3, 90, 50)
    for k, kind in ((1, "few differences seen"), (9, "few differences seen"), (10, "clustered t")):
        after = before + np.where(np.arange(50) < k, 4.0, 0.0) * np.arange(50)
        after[0] += 1
        found = interval(singles(before, after), bounded=False)
        assert (found.kind, found.disagreeing) == (kind, k)
        assert (found.low is None) == (found.high is None) == (k < 10)
        assert found.stderr is not None
    assert interval(singles([3, 4, 9], [4, 4.5, 8]), bounded=False).kind == "clustered t"  # all differ


def test_one_cluster_has_no_spread() -> None:
    for is_mean in (True, False):
        found = paired_interval(Pair(MEANS, [[2, 3]], [[1, 3]]), mean, mean=is_mean, bounded=True)
        assert (found.kind, found.clusters) == ("equal differences", 1)
        assert found.low == pytest.approx(0.025 * -1 / 3 - 0.975)


def test_intervals_of_fractions_are_clipped() -> None:
    pair = singles([0, 0, 0.5, 0.5], [1, 1, 0.6, 0.6])
    free = interval(pair, bounded=False)
    clipped = interval(pair)
    assert free.high is not None
    assert free.high > 1.0
    assert (clipped.high, clipped.low, clipped.stderr) == (1.0, free.low, free.stderr)


def test_undefined_draws_are_dropped_and_counted() -> None:
    """One of three clusters has any of what F1 counts: (2/3)^3 of the draws are undefined."""
    pair = Pair(COUNTS, [[0, 1, 3], [0, 0, 0], [0, 0, 0]], [[1, 0, 2], [0, 0, 0], [0, 0, 0]])
    found = paired_interval(pair, f1, mean=False, bounded=False)
    assert found.kind == "equal differences"  # all defined draws have the same value
    pair = Pair(COUNTS, [[0, 1, 3], [0, 1, 1], [0, 0, 0]], [[1, 0, 2], [0, 1, 1], [0, 0, 0]])
    assert paired_interval(pair, f1, mean=False, bounded=True).dropped == pytest.approx(2000 / 27, rel=0.35)


def test_the_bootstrap_repeats_itself_and_heeds_its_seed() -> None:
    pair = Pair(COUNTS, *yes_no(1))
    one, again, other = (paired_interval(pair, f1, mean=False, bounded=True, seed=seed) for seed in (0, 0, 7))
    assert one == again
    assert (other.seed, other.draws) == (7, 2000)
    assert (one.low, one.high) != (other.low, other.high)


def test_the_bootstrap_knows_the_stderr_of_a_gain() -> None:
    """It is the population standard deviation over the root of n; 2,000 draws know it to 1 / sqrt(4000)."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 2, 2500).astype(float)
    after = np.where(rng.random(2500) < 0.1, 1 - before, before)
    found = paired_interval(singles(before, after), mean, mean=False, bounded=True)
    assert found.stderr == pytest.approx((after - before).std() / 50, rel=4 / math.sqrt(4000))


def test_an_undefined_side_is_an_error() -> None:
    with pytest.raises(DataError, match="undefined after"):
        paired_interval(Pair(COUNTS, [[0, 1, 3]], [[0, 0, 0]]), f1, mean=False, bounded=True)
    with pytest.raises(DataError, match="undefined before"):
        interval(Pair(MEANS, [[0, 0]], [[0, 0]]))


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(DataError, match="no cluster"):
        interval(Pair(MEANS, [], []))


@pytest.mark.parametrize(
    ("names", "before", "after", "message"),
    [
        (MEANS, [[1, 1]], [], "same clusters"),
        (MEANS, [[1, 1]], [[1]], "expected 2 statistics"),
        (("sum",), [[1, 1]], [[1, 1]], "expected 1 statistics"),
    ],
)
def test_a_pair_is_aligned(
    names: tuple[str, ...], before: list[list[float]], after: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Pair(names, before, after)


def test_what_is_no_mean_is_an_error() -> None:
    with pytest.raises(ValueError, match="sum and n"):
        paired_interval(Pair(COUNTS, [[0, 1, 3]], [[0, 1, 3]]), f1, mean=True, bounded=True)


@pytest.mark.parametrize(("level", "draws"), [(0.0, 10), (1.0, 10), (95, 10), (0.95, 1)])
def test_levels_and_draws_that_cannot_be_are_errors(level: float, draws: int) -> None:
    with pytest.raises(ValueError, match="expected a level"):
        paired_interval(singles([1], [0]), mean, mean=True, bounded=True, level=level, draws=draws)


def test_the_t_interval_covers() -> None:
    """600 draws of 40 clusters with an effect of 0.05: 95 % cover within three standard errors."""
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(600):
        sizes = rng.integers(1, 4, size=40)
        gains = rng.normal(0.05, 0.2, size=40) * sizes
        pair = Pair(MEANS, np.stack([0 * gains, sizes], 1).tolist(), np.stack([gains, sizes], 1).tolist())
        found = interval(pair, bounded=False)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.05 <= found.high
    assert 0.92 <= covered / 600 <= 0.98


def test_two_thousand_draws_of_2500_clusters_take_less_than_three_tenths_of_a_second() -> None:
    pair = Pair(COUNTS, *yes_no(0, clusters=2500))
    assert quickest(lambda: paired_interval(pair, f1, mean=False, bounded=True)) < 0.3


def quickest(call: Callable[[], object]) -> float:
    """CPU seconds of the best of three."""
    seconds = []
    for _ in range(3):
        before = time.process_time()
        call()
        seconds.append(time.process_time() - before)
    return min(seconds)
