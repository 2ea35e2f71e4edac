"""The order of samples and their batches: fixed, nested, and never through a cluster."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pgbench.plan import batches, order
from pgbench.types import Sample, cluster_of

# Clusters of unequal size, interleaved as a benchmark may publish them; "": a sample by itself.
CLUSTERS = st.lists(
    st.sampled_from(["", "a", "b", "c", "image 1", "图像", "\ud800"]), min_size=1, max_size=40
)
SEEDS = st.integers(0, 9)


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
