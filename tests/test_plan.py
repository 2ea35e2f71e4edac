"""The order of samples and their batches: fixed, nested, and never through a cluster."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbench import plan
from pgbench.batching import batches
from pgbench.plan import order, select
from pgbench.types import Sample, cluster_of

# Clusters of unequal size, interleaved as a benchmark may publish them; "": a sample by itself.
CLUSTERS = st.lists(
    st.sampled_from(["", "a", "b", "c", "image 1", "图像", "\ud800"]), min_size=1, max_size=40
)
SEEDS = st.integers(0, 9)


def plainly(samples: Sequence[Sample], seed: int, limit: int | None) -> list[int]:
    """The order as it was defined at first: a list for each cluster, sorted by the whole hash."""
    clusters: dict[str, list[int]] = {}
    for position, sample in enumerate(samples):
        clusters.setdefault(cluster_of(sample), []).append(position)
    chosen: list[int] = []
    for name in sorted(clusters, key=lambda name: plan._rank(seed, name)):
        if limit is not None and chosen and len(chosen) + len(clusters[name]) > limit:
            break
        chosen += clusters[name]
    return chosen


@given(CLUSTERS | st.just([]), SEEDS, st.none() | st.integers(0, 45))
def test_the_order_is_that_of_sorted_hashes(clusters: list[str], seed: int, limit: int | None) -> None:
    samples = samples_of(clusters)
    assert list(order(samples, seed=seed, limit=limit)) == plainly(samples, seed, limit)


def test_the_order_of_many_samples_is_that_of_sorted_hashes() -> None:
    drawn = random.Random(5)
    samples = samples_of([f"c{drawn.randrange(3000)}" if drawn.random() < 0.9 else "" for _ in range(9000)])
    for limit in (None, 1, 4000, 9000):
        assert list(order(samples, seed=1, limit=limit)) == plainly(samples, 1, limit)


@given(CLUSTERS, SEEDS, st.none() | st.integers(1, 45))
def test_hashes_that_begin_alike_are_told_apart(clusters: list[str], seed: int, limit: int | None) -> None:
    whole = plan._rank
    samples = samples_of(clusters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            plan, "_rank", lambda seed, name: (bytes(8 + len(name) % 3 * 8) + whole(seed, name))[:32]
        )
        assert list(order(samples, seed=seed, limit=limit)) == plainly(samples, seed, limit)


@given(CLUSTERS, SEEDS, st.none() | st.integers(1, 45))
def test_a_selection_says_which_ids_and_how_many_lack_references(
    clusters: list[str], seed: int, limit: int | None
) -> None:
    samples = [
        dataclasses.replace(sample, target=None if number % 3 else "yes")
        for number, sample in enumerate(samples_of(clusters))
    ]
    found = select(samples, seed=seed, limit=limit)
    chosen = [samples[position] for position in found.positions]
    assert list(found.ids) == [hash(sample.id) for sample in chosen]
    assert found.unscored == sum(sample.target is None for sample in chosen)


def samples_of(clusters: Sequence[str]) -> list[Sample]:
    return [Sample(f"s{n}", (), "?", "yes", cluster=cluster) for n, cluster in enumerate(clusters)]


def named(samples: Sequence[Sample], *, seed: int = 0, limit: int | None = None) -> list[str]:
    return [samples[position].id for position in order(samples, seed=seed, limit=limit)]


@given(CLUSTERS, SEEDS)
def test_without_a_limit_every_sample_runs_once(clusters: list[str], seed: int) -> None:
    assert sorted(order(samples_of(clusters), seed=seed, limit=None)) == list(range(len(clusters)))


@given(CLUSTERS, SEEDS)
def test_limited_runs_nest_as_prefixes(clusters: list[str], seed: int) -> None:
    samples = samples_of(clusters)
    runs = [order(samples, seed=seed, limit=limit) for limit in [*range(1, len(samples) + 1), None]]
    for smaller, larger in itertools.pairwise(runs):
        assert larger[: len(smaller)] == smaller


@given(CLUSTERS, SEEDS, st.integers(1, 40))
def test_a_limit_cuts_no_cluster_and_is_kept(clusters: list[str], seed: int, limit: int) -> None:
    samples = samples_of(clusters)
    chosen = order(samples, seed=seed, limit=limit)
    taken = {cluster_of(samples[position]) for position in chosen}
    assert sorted(chosen) == [n for n, sample in enumerate(samples) if cluster_of(sample) in taken]
    assert len(chosen) <= limit or len(taken) == 1
    assert chosen


@given(CLUSTERS, SEEDS)
def test_a_cluster_stays_together_in_its_published_order(clusters: list[str], seed: int) -> None:
    samples = samples_of(clusters)
    chosen = order(samples, seed=seed, limit=None)
    runs = [list(run) for _, run in itertools.groupby(chosen, key=lambda n: cluster_of(samples[n]))]
    assert len(runs) == len({cluster_of(sample) for sample in samples})
    assert all(run == sorted(run) for run in runs)


@given(CLUSTERS, SEEDS, st.randoms(use_true_random=False))
def test_where_clusters_stand_in_the_file_does_not_matter(
    clusters: list[str], seed: int, shuffler: random.Random
) -> None:
    samples = samples_of(clusters)
    kept: dict[str, list[Sample]] = {}
    for sample in samples:
        kept.setdefault(cluster_of(sample), []).append(sample)
    names = [cluster_of(sample) for sample in samples]
    shuffler.shuffle(names)  # another interleaving; each cluster's own samples keep their order
    moved = [kept[name].pop(0) for name in names]
    assert named(moved, seed=seed) == named(samples, seed=seed)


def test_a_seed_gives_an_order_that_another_seed_does_not() -> None:
    samples = samples_of([""] * 30)
    orders = {tuple(named(samples, seed=seed)) for seed in range(20)}
    assert len(orders) == 20
    assert tuple(sample.id for sample in samples) not in orders


def test_the_order_is_the_same_on_every_machine() -> None:
    samples = samples_of(["b", "a", "b", "", "a", "c"])
    # by `printf 0:a | sha256sum` and so on
    assert named(samples, seed=0) == ["s3", "s1", "s4", "s5", "s0", "s2"]
    assert named(samples, seed=7) == ["s5", "s3", "s1", "s4", "s0", "s2"]


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_batches_hold_every_position_once_in_order(positions: list[int], size: int) -> None:
    planned = batches(positions, size)
    assert list(itertools.chain.from_iterable(planned)) == positions
    assert all(len(batch) == size for batch in planned[:-1])
    assert all(0 < len(batch) <= size for batch in planned)
    assert [list(batch) for batch in planned[1:4]] == [list(batch) for batch in list(planned)[1:4]]
