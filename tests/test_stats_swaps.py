"""The label swap against scipy's permutation test, all swaps by hand, McNemar's test, and its promises."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.stats import Alternative, Pair, SwapTest, mcnemar, swap_test

Numbers: TypeAlias = Sequence[float] | np.ndarray

MEANS = ("sum", "n")
COUNTS = ("fn", "fp", "tp")
WAYS: tuple[Alternative, ...] = ("two-sided", "less", "greater")
SOFT = st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0])
ROWS = st.lists(st.tuples(SOFT, SOFT, st.integers(1, 3)), min_size=1, max_size=9)


def f1(total: Mapping[str, float]) -> float | None:
    said = 2 * total["tp"] + total["fp"] + total["fn"]
    return 2 * total["tp"] / said if said else None


def means(before: Numbers, after: Numbers, counts: Sequence[float] | None = None) -> Pair:
    """`before` and `after` are clusters' sums."""
    counts = counts or [1.0] * len(before)
    return Pair(MEANS, *(list(zip(side, counts, strict=True)) for side in (before, after)))


def of_mean(pair: Pair, alternative: Alternative, draws: int = 9999, floor: float | None = None) -> SwapTest:
    return swap_test(pair, mean, alternative=alternative, mean=True, draws=draws, floor=floor)


def gain(pair: Pair, reduce: Callable[[Mapping[str, float]], float | None], swapped: Sequence[bool]) -> float:
    """The value with the labels of some clusters swapped, by plain sums."""
    rows = list(zip(pair.before, pair.after, swapped, strict=True))
    sides = [[b if swap else a for a, b, swap in rows], [a if swap else b for a, b, swap in rows]]
    one, other = (
        reduce({name: math.fsum(row[place] for row in side) for place, name in enumerate(pair.names)})
        for side in sides
    )
    assert one is not None
    assert other is not None
    return other - one


def by_hand(
    pair: Pair, reduce: Callable[[Mapping[str, float]], float | None], alternative: Alternative
) -> float:
    """The share of all swaps, those of equal clusters too, that are at least as extreme."""
    swaps = list(itertools.product([False, True], repeat=len(pair.before)))
    values = [gain(pair, reduce, swap) for swap in swaps]
    seen = values[0]
    less = sum(value <= seen + 1e-9 for value in values)
    greater = sum(value >= seen - 1e-9 for value in values)
    away = sum(abs(value) >= abs(seen) - 1e-9 for value in values)
    return {"less": less, "greater": greater, "two-sided": away}[alternative] / len(values)


@given(ROWS, st.sampled_from(WAYS))
@settings(deadline=None, max_examples=40)
def test_few_clusters_are_swapped_in_every_way(
    rows: list[tuple[float, float, int]], alternative: Alternative
) -> None:
    before, after, counts = zip(*((a * n, b * n, float(n)) for a, b, n in rows), strict=True)
    pair = means(before, after, counts)
    found = of_mean(pair, alternative)
    assert found.kind == "exact label swap"
    assert found.p == pytest.approx(by_hand(pair, mean, alternative), abs=1e-12)
    assert found.disagreeing == sum(a != b for a, b in zip(before, after, strict=True))
    assert (found.draws, found.seed) == (2**found.disagreeing, None)


@pytest.mark.parametrize("alternative", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_of_a_mean_all_swaps_give_the_p_of_scipy(seed: int, alternative: Alternative) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 11, size=(2, 9)) / 10
    wanted = scipy.stats.permutation_test(
        (after, before),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=alternative,
        vectorized=True,
    )
    assert of_mean(means(before, after), alternative).p == pytest.approx(wanted.pvalue, abs=1e-12)


@pytest.mark.parametrize("alternative", WAYS)
def test_of_an_f1_all_swaps_give_the_p_of_scipy(alternative: Alternative) -> None:
    """scipy swaps the places of rows; the statistic sums the rows that they name."""
    rows = np.random.default_rng(3).integers(0, 4, size=(14, 3)).astype(float)

    def value(places: np.ndarray) -> float:
        found = f1(dict(zip(COUNTS, rows[places].sum(axis=0).tolist(), strict=True)))
        assert found is not None
        return found

    wanted = scipy.stats.permutation_test(
        (np.arange(7, 14), np.arange(7)),
        lambda x, y: value(x) - value(y),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=alternative,
        vectorized=False,
    )
    found = swap_test(Pair(COUNTS, rows[:7], rows[7:]), f1, alternative=alternative)
    assert (found.kind, found.disagreeing) == ("exact label swap", 7)
    assert found.p == pytest.approx(wanted.pvalue, abs=1e-12)


@pytest.mark.parametrize("alternative", WAYS)
@pytest.mark.parametrize("is_mean", [True, False])
def test_many_clusters_are_swapped_at_random(is_mean: bool, alternative: Alternative) -> None:
    """Of 13 clusters that differ scipy looks at all 8,192 swaps; 9,999 draws know p to 0.005."""
    rng = np.random.default_rng(4)
    before, after = rng.integers(0, 11, size=(2, 13)) / 10
    after = np.where(after == before, (before + 0.5) % 1, after)
    wanted = scipy.stats.permutation_test(
        (after, before),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=alternative,
        vectorized=True,
    ).pvalue
    found = swap_test(means(before, after), mean, alternative=alternative, mean=is_mean)
    assert (found.kind, found.draws, found.seed, found.disagreeing) == ("label swap", 9999, 0, 13)
    assert found.p == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 9999))
    assert found.p != wanted


@pytest.mark.parametrize("alternative", WAYS)
@pytest.mark.parametrize("clusters", [9, 10, 16, 17, 400])
def test_the_way_of_a_mean_is_that_of_any_reduce(clusters: int, alternative: Alternative) -> None:
    """Same seed, same swaps, same p, ties included; 8 clusters share an octet."""
    rng = np.random.default_rng(clusters)
    before = rng.integers(0, 4, size=clusters) * 0.3
    after = before + np.where(rng.random(clusters) < 0.5, 0.3, -0.1)
    pair = means(before, after, [3.0] * clusters)
    assert of_mean(pair, alternative) == swap_test(pair, mean, alternative=alternative)


@pytest.mark.parametrize("disagreeing", [9, 10])
def test_from_ten_on_swaps_are_drawn(disagreeing: int) -> None:
    pair = means([1.0] * disagreeing + [1.0] * 30, [0.0] * disagreeing + [1.0] * 30)
    found = of_mean(pair, "less", draws=99)
    assert (found.kind, found.draws) == (
        ("exact label swap", 512) if disagreeing == 9 else ("label swap", 99)
    )
    assert found.p == (1 / 512 if disagreeing == 9 else 1 / 100)


@given(st.integers(0, 6), st.integers(0, 3), st.integers(0, 20), st.sampled_from(WAYS))
@settings(deadline=None, max_examples=40)
def test_right_and_wrong_in_clusters_of_one_is_the_test_of_mcnemar(
    lost: int, gained: int, equal: int, alternative: Alternative
) -> None:
    assume(lost + gained + equal)
    pair = means([1.0] * lost + [0.0] * gained + [1.0] * equal, [0.0] * lost + [1.0] * (gained + equal))
    assert of_mean(pair, alternative).p == pytest.approx(mcnemar(lost, gained, alternative), abs=1e-12)


@given(ROWS)
@settings(deadline=None, max_examples=40)
def test_swapped_sides_turn_the_direction(rows: list[tuple[float, float, int]]) -> None:
    before, after, counts = zip(*((a * n, b * n, float(n)) for a, b, n in rows), strict=True)
    one, other = means(before, after, counts), means(after, before, counts)
    assert of_mean(one, "less").p == pytest.approx(of_mean(other, "greater").p)
    assert of_mean(one, "two-sided").p == pytest.approx(of_mean(other, "two-sided").p)


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_the_order_of_clusters_does_not_matter(rows: list[tuple[float, float, int]], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    ps = [
        of_mean(means(*zip(*((a * n, b * n, float(n)) for a, b, n in some), strict=True)), "two-sided").p
        for some in (rows, mixed)
    ]
    assert ps[0] == pytest.approx(ps[1])


@pytest.mark.parametrize("alternative", WAYS)
@pytest.mark.parametrize("is_mean", [True, False])
def test_equal_sides_have_a_p_of_one(is_mean: bool, alternative: Alternative) -> None:
    """Equal but for rounding, too."""
    pair = means([0.1 + 0.2, 1.0, 0.0], [0.3, 1.0, 0.0])
    found = swap_test(pair, mean, alternative=alternative, mean=is_mean)
    assert found == SwapTest(1.0, "exact label swap", 0, 1)


@pytest.mark.parametrize("is_mean", [True, False])
def test_what_is_equal_but_for_rounding_is_a_tie(is_mean: bool) -> None:
    """0.1 + 0.2 lost and 0.3 gained: no difference was seen, so every swap is at least as far from none."""
    pair = means([0.1, 0.2, 0.0], [0.0, 0.0, 0.3])
    assert swap_test(pair, mean, mean=is_mean).p == 1.0
    assert swap_test(pair, mean, mean=is_mean, alternative="less").p == 5 / 8  # sums +-.1 +-.2 +-.3 <= 0
    assert swap_test(pair, mean, mean=is_mean, alternative="greater").p == 5 / 8


def test_only_clusters_that_disagree_matter() -> None:
    few = means([1, 1, 0, 1], [0, 0, 1, 0])
    many = means([1, 1, 0, 1] + [1] * 3000, [0, 0, 1, 0] + [1] * 3000)
    assert of_mean(few, "less") == of_mean(many, "less")
    assert of_mean(few, "less").p == 5 / 16


def test_changes_that_cancel_within_a_cluster_do_not_disagree() -> None:
    assert of_mean(means([1.0, 1.0], [1.0, 0.0], [2.0, 1.0]), "less").disagreeing == 1


def test_a_mean_moves_by_its_sums_alone() -> None:
    """A cluster with other invalid answers and the same score does not disagree about the mean."""
    pair = Pair(("invalid", "n", "sum"), [[0, 1, 0], [0, 1, 1]], [[1, 1, 0], [0, 1, 0]])
    assert of_mean(pair, "less").disagreeing == 1
    assert swap_test(pair, mean, alternative="less").disagreeing == 2
    assert of_mean(pair, "less").p == swap_test(pair, mean, alternative="less").p == 0.5


def test_a_mean_over_unlike_counts_is_reduced_anew() -> None:
    pair = Pair(MEANS, [[1, 1], [1, 2], [1, 1]], [[0, 1], [1, 1], [0, 1]])
    assert of_mean(pair, "less").p == pytest.approx(by_hand(pair, mean, "less"))


def test_p_is_never_smaller_than_the_draws_can_say() -> None:
    pair = means([1.0] * 400, [0.0] * 400)
    assert of_mean(pair, "less").p == 1 / 10_000
    assert of_mean(pair, "less", draws=99).p == 1 / 100
    assert of_mean(pair, "greater").p == 1.0


def test_the_draws_repeat_themselves_and_heed_the_seed() -> None:
    rng = np.random.default_rng(0)
    pair = means(rng.random(50).tolist(), rng.random(50).tolist())
    one, again, other = (swap_test(pair, mean, mean=True, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert other.seed == 1
    assert one.p != other.p


def test_a_small_floor_asks_for_more_draws_where_it_matters() -> None:
    clear = means([1.0] * 40, [0.0] * 40)
    assert of_mean(clear, "less", draws=99, floor=0.002) == SwapTest(1 / 5001, "label swap", 40, 5000, 0)
    assert of_mean(clear, "greater", draws=99, floor=0.002).draws == 99
    assert of_mean(clear, "less", draws=9999, floor=0.002).draws == 9999
    assert of_mean(clear, "less", draws=99, floor=1e-9).draws == 1_000_000


def test_where_all_swaps_are_fewer_they_are_all_looked_at() -> None:
    found = of_mean(means([1.0] * 12, [0.0] * 12), "less", draws=99, floor=0.001)
    assert found == SwapTest(1 / 4096, "exact label swap", 12, 4096)


def test_all_swaps_in_several_parts() -> None:
    """2^16 choices of two octets are more than are held at once."""
    rng = np.random.default_rng(6)
    before, after = rng.permutation(16) / 16, np.full(16, 1.2)
    after[0] = -1.0
    wanted = scipy.stats.permutation_test(
        (after, before),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="greater",
        vectorized=True,
        batch=1 << 14,
    ).pvalue
    found = of_mean(means(before, after), "greater", draws=99, floor=1e-4)
    assert (found.kind, found.draws) == ("exact label swap", 65_536)
    assert found.p == pytest.approx(wanted, abs=1e-12)


def test_draws_in_several_parts() -> None:
    """Six lost and five gained: half of all swaps are as bad; 40,000 draws know it to 0.0025."""
    found = of_mean(means([1.0] * 6 + [0.0] * 5, [0.0] * 6 + [1.0] * 5), "less", draws=40_000)
    assert found.draws == 40_000
    assert found.p == pytest.approx(0.5, abs=0.01)


def test_p_keeps_its_promise_without_a_difference() -> None:
    """P(p <= u) <= u, with as few first draws as make the second stage frequent: 1,500 comparisons."""
    rng = np.random.default_rng(11)
    sides = rng.random((1500, 2, 14))
    ps = np.array(
        [
            swap_test(means(*pair), mean, alternative="less", mean=True, draws=49, floor=0.05, seed=seed).p
            for seed, pair in enumerate(sides)
        ]
    )
    for level in (0.01, 0.02, 0.05, 0.1, 0.3, 0.5):
        assert (ps <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 1500)
    assert (ps <= 0.05).mean() > 0.03


def test_the_p_of_an_f1_keeps_its_promise_too() -> None:
    """Two sides that stray from the same answers alike: 400 comparisons of 60 clusters of six questions."""
    rng = np.random.default_rng(5)
    ps = []
    for seed in range(400):
        wanted = rng.random((60, 6)) < 0.5
        common = wanted ^ (rng.random((60, 6)) < 0.15)
        strays = rng.random((2, 60, 6)) < 0.5 * (rng.random((60, 1)) < 0.2)  # many on few pictures
        sides = [
            np.stack([(wanted & ~said).sum(1), (~wanted & said).sum(1), (wanted & said).sum(1)], axis=1)
            for said in common ^ strays
        ]
        ps.append(swap_test(Pair(COUNTS, *sides), f1, alternative="less", draws=99, seed=seed).p)
    for level in (0.05, 0.2, 0.5):
        reach = 3.5 * math.sqrt(level * (1 - level) / 400)
        assert abs((np.array(ps) <= level).mean() - level) < reach


def test_swaps_without_a_value_count_as_hits() -> None:
    """F1 of nothing is undefined: here under two of four swaps."""
    pair = Pair(COUNTS, [[0, 0, 2], [0, 0, 0]], [[0, 0, 0], [1, 0, 1]])
    assert f1({"tp": 0, "fp": 0, "fn": 0}) is None
    found = swap_test(pair, f1, alternative="less")
    assert (found.p, found.draws) == (0.75, 4)  # seen -1/3, its mirror 1/3, and two without a value
    assert swap_test(pair, f1, alternative="greater").p == 1.0


def test_an_undefined_side_or_nothing_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="undefined after"):
        swap_test(Pair(COUNTS, [[0, 1, 3]], [[0, 0, 0]]), f1)
    with pytest.raises(DataError, match="no cluster"):
        swap_test(Pair(MEANS, [], []), mean)


def test_options_that_cannot_be_are_errors() -> None:
    pair = means([1.0], [0.0])
    with pytest.raises(ValueError, match="two-sided, less, greater, got 'worse'"):
        swap_test(pair, mean, alternative="worse")  # type: ignore[arg-type]
    for draws, floor in ((0, None), (99, 0.0), (99, 1.5)):
        with pytest.raises(ValueError, match="expected draws"):
            swap_test(pair, mean, draws=draws, floor=floor)
    with pytest.raises(ValueError, match="sum and n"):
        swap_test(Pair(COUNTS, [[0, 1, 3]], [[0, 1, 3]]), f1, mean=True)


def test_ten_thousand_draws_are_quick() -> None:
    """5,000 samples in 2,500 clusters of which 400 disagree: 50 ms for a mean, 0.3 s for any value."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 21, size=2500) / 10
    after = before.copy()
    after[rng.choice(2500, 400, replace=False)] += 0.1
    pair = means(before.tolist(), after.tolist(), [2.0] * 2500)
    assert quickest(lambda: swap_test(pair, mean, alternative="less", mean=True)) < 0.05
    assert quickest(lambda: swap_test(pair, mean, alternative="less")) < 0.3


def quickest(call: Callable[[], object]) -> float:
    """CPU seconds of the best of three."""
    seconds = []
    for _ in range(3):
        before = time.process_time()
        call()
        seconds.append(time.process_time() - before)
    return min(seconds)
