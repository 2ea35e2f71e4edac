"""From answers to a score: units, clusters, intervals, and what a metric may not do."""

from __future__ import annotations

import math
import pickle
import random
import re
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgbench import stats
from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.metrics.scoring import Clusters, ClusterSums, Rows, score, unit_sums
from pgbench.metrics.vqa import PAPER_ACCURACY, TEXTVQA_ACCURACY
from pgbench.types import Metric, Sample, Sums


def sample(name: str, *answers: str, cluster: str = "") -> Sample:
    return Sample(name, (), "what?", answers, cluster=cluster)


def test_the_two_metrics_are_told_apart() -> None:
    assert (TEXTVQA_ACCURACY.name, TEXTVQA_ACCURACY.primary) == ("accuracy", True)
    assert (PAPER_ACCURACY.name, PAPER_ACCURACY.primary) == ("paper_accuracy", False)
    assert re.fullmatch(r"facebookresearch/mmf:mmf/\S+\.py@[0-9a-f]{40}", TEXTVQA_ACCURACY.source)
    assert re.fullmatch(r"google-research/big_vision:big_vision/\S+\.py@[0-9a-f]{40}", PAPER_ACCURACY.source)
    unit = [(sample("1", *["wii"] * 10), "Wii")]
    assert TEXTVQA_ACCURACY.stat(unit) == {"sum": 1.0, "n": 1.0, "invalid": 0.0}
    assert PAPER_ACCURACY.stat(unit) == {"sum": 0.0, "n": 1.0, "invalid": 0.0}


@pytest.mark.parametrize("metric", [TEXTVQA_ACCURACY, PAPER_ACCURACY])
def test_an_empty_answer_is_invalid_and_scored_by_the_rule(metric: Metric) -> None:
    unit = sample("1", "the", "", "?", "...", *["x"] * 6)
    assert metric.stat([(unit, " \n")]) == {"sum": 1.0, "n": 1.0, "invalid": 1.0}
    assert metric.stat([(sample("1", *"bcdefghijk"), "")]) == {"sum": 0.0, "n": 1.0, "invalid": 1.0}


@pytest.mark.parametrize("target", ["wii", (), None])
def test_a_target_that_is_no_tuple_of_answers_is_named(target: str | tuple[str, ...] | None) -> None:
    with pytest.raises(DataError, match="sample q7: expected a tuple of answers"):
        TEXTVQA_ACCURACY.stat([(Sample("q7", (), "?", target), "wii")])


def test_metrics_travel_between_processes() -> None:
    travelled = pickle.loads(pickle.dumps(TEXTVQA_ACCURACY))
    unit = [(sample("1", "x", "x", "y"), "x")]
    assert travelled.stat(unit) == TEXTVQA_ACCURACY.stat(unit)
    assert travelled.reduce is mean  # or it would be given a bootstrap there


def test_mean_of_nothing_is_undefined() -> None:
    assert mean({"sum": 0.0, "n": 0.0}) is None
    assert mean({"sum": 3.0, "n": 4.0}) == 0.75


def test_score_counts_everything_once() -> None:
    rows = [
        (sample("1", *["x"] * 10, cluster="i"), "x"),
        (sample("2", *["x"] * 10, cluster="i"), ""),
        (sample("3", *["x"] * 10, cluster="j"), None),
        (sample("4", *["x"] * 10), "x"),
        (Sample("5", (), "no references", None, cluster="k"), "x"),
        (Sample("6", (), "no references", None, cluster="k"), None),
    ]
    got = score(TEXTVQA_ACCURACY, rows)
    assert (got.value, got.n, got.units, got.clusters, got.invalid, got.failed) == (0.5, 4, 4, 3, 1, 1)
    bounds = stats.clustered_t([1.0, 0.0, 1.0], [2.0, 1.0, 1.0], bounded=True)
    assert bounds
    assert (got.low, got.high, got.stderr, got.interval) == (
        bounds.low,
        bounds.high,
        bounds.stderr,
        "clustered t",
    )


def test_nothing_scored_is_undefined_not_zero() -> None:
    got = score(TEXTVQA_ACCURACY, [(Sample("5", (), "no references", None), "x")])
    assert (got.value, got.low, got.high, got.stderr, got.n, got.clusters) == (None, None, None, None, 0, 0)
    assert got.interval == "none"


@pytest.mark.parametrize("clusters", [1, 7])
def test_all_right_is_not_certain(clusters: int) -> None:
    rows = [(sample(str(i), *["x"] * 10, cluster=f"c{i % clusters}"), "x") for i in range(70)]
    got = score(TEXTVQA_ACCURACY, rows)
    assert (got.value, got.stderr, got.interval, got.n, got.clusters) == (1.0, None, "wilson", 70, clusters)
    assert (got.low, got.high) == stats.wilson(1.0, clusters)


def alone(unit: Sequence[tuple[Sample, str]]) -> Sums:
    ((_, text),) = unit
    return {"sum": float(text), "n": 1.0, "invalid": 0.0}


def metric(**changes: object) -> Metric:
    return Metric(**{"name": "m", "stat": alone, "reduce": mean, "source": "here", **changes})  # type: ignore[arg-type]


class Text(str):
    """A string whose living instances are counted."""

    __slots__ = ()
    alive = 0

    def __new__(cls, value: str) -> Text:
        cls.alive += 1
        return super().__new__(cls, value)

    def __del__(self) -> None:
        Text.alive -= 1


def test_rows_of_single_samples_are_not_kept() -> None:
    most = 0

    def rows() -> Iterator[tuple[Sample, str]]:
        nonlocal most
        for i in range(200):
            yield sample(str(i), "x", cluster="one"), Text("1")
            most = max(most, Text.alive)

    assert score(metric(), rows()).n == 200
    assert most <= 3


def test_only_a_fraction_is_clipped_or_given_wilsons_interval() -> None:
    """A count per sample, lower being better, may exceed 1, and all zeros are no proportion."""
    rows = [(sample(str(i), "x"), text) for i, text in enumerate(["5", "0", "0"])]
    got = score(metric(direction="down"), rows)
    assert got.low is not None
    assert got.high is not None
    assert got.low < 0 < 1 < got.high
    same = score(metric(direction="down"), [(sample(str(i), "x"), "0") for i in range(3)])
    assert (same.value, same.low, same.high, same.interval) == (0.0, None, None, "none")


@pytest.mark.parametrize("text", ["1.5", "-0.5"])
def test_a_mean_that_is_no_fraction_names_its_metric(text: str) -> None:
    rows = [(sample(str(i), "x"), value) for i, value in enumerate([text, "0.5", "0.5"])]
    with pytest.raises(ValueError, match="metric m: a sum of"):
        score(metric(), rows)
    assert score(metric(direction=None), rows).n == 3


def pair_of(one: Sample) -> str:
    return one.id[:-1]


def both(unit: Sequence[tuple[Sample, str]]) -> Sums:
    right = [text == one.target for one, text in unit]
    return {"right": float(all(right)), "pairs": 1.0, "invalid": sum(text == "?" for _, text in unit)}


def neither(samples: Sequence[Sample]) -> Sums:
    return {"right": 0.0, "pairs": 1.0, "invalid": 0.0}


def share(total: Mapping[str, float]) -> float | None:
    return total["right"] / total["pairs"] if total["pairs"] else None


PAIRS = metric(stat=both, reduce=share, unit_of=pair_of, failed=neither)


def paired(*answers: str | None) -> list[tuple[Sample, str | None]]:
    """Rows of pairs 0a 0b 1a 1b ..., a different image each, the pair being its cluster; x is right."""
    names = [f"{i // 2}{'ab'[i % 2]}" for i in range(len(answers))]
    return [(Sample(n, (), "?", "x", cluster=f"p{n[:-1]}"), a) for n, a in zip(names, answers, strict=True)]


def test_a_unit_of_two_is_right_as_a_whole_and_fails_as_a_whole() -> None:
    rows = paired("x", "x", "x", "y", "?", "x", "x", None, "x", "x")
    got = score(PAIRS, rows)
    assert (got.value, got.n, got.units, got.clusters, got.invalid, got.failed) == (0.4, 10, 5, 5, 1, 1)
    assert got.interval == "bootstrap"
    assert got.low is not None
    assert got.high is not None
    assert 0 <= got.low < 0.4 < got.high <= 1
    assert score(PAIRS, random.Random(1).sample(rows, len(rows))) == got
    assert unit_sums(PAIRS, rows[6:8]) == neither([])


def test_a_bootstrap_without_variance_falls_back_to_wilson() -> None:
    got = score(PAIRS, paired(*["x"] * 12))
    assert (got.value, got.low, got.high, got.stderr) == (1.0, *stats.wilson(1.0, 6), None)
    assert got.interval == "wilson"


def test_sums_of_clusters_come_interleaved_and_with_new_names() -> None:
    """A name that a cluster has not had is a zero there, whether it came before the name or after it."""
    tally = ClusterSums()
    tally.add("b", {"x": 1.0})
    tally.add("a", {"y": 2.0})
    tally.add("b", {"y": 4.0, "x": 8.0}, samples=2, failed=1)
    tally.add("c", {})
    assert tally.total() == {"x": 9.0, "y": 6.0}
    zeros = {"x": 0.0, "y": 0.0}
    assert tally.ordered() == [zeros | {"y": 2.0}, {"x": 9.0, "y": 4.0}, zeros]
    assert (tally.units, tally.samples, tally.failed) == (4, 5, 1)


def test_sums_read_back_give_the_same_score_in_any_order() -> None:
    rng = random.Random(3)
    rows = [(sample(str(i), *["x"] * (i % 5), *["y"] * 8, cluster=f"c{i}"), "x") for i in range(100)]
    whole = score(TEXTVQA_ACCURACY, rows)
    for _ in range(5):
        rng.shuffle(rows)
        tally = ClusterSums()
        for one, text in rows:
            tally.add(one.cluster, unit_sums(TEXTVQA_ACCURACY, [(one, text)]))
        assert tally.score(TEXTVQA_ACCURACY) == whole


UNITS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c", "图"]),
        st.dictionaries(st.sampled_from("xyn"), st.floats(-9, 9)),
        st.booleans(),  # in the group
    ),
    max_size=30,
)


@given(UNITS)
def test_sums_that_share_their_clusters_are_those_of_each_alone(
    units: list[tuple[str, dict[str, float], bool]],
) -> None:
    """Clusters in any order, also such as come back; each float added in the order it comes."""
    clusters, rows = Clusters(), Rows()
    whole = ClusterSums(clusters)
    group = [ClusterSums(clusters, rows), ClusterSums(clusters, rows)]
    expected: list[dict[str, dict[str, float]]] = [{}, {}]
    for cluster, sums, inside in units:
        whole.add(cluster, sums)
        for one in group if inside else ():
            one.add_to(rows.row(clusters.number(cluster)), sums)
        for by_cluster in expected[: 1 + inside]:
            told = by_cluster.setdefault(cluster, {})
            for name, value in sums.items():
                told[name] = told.get(name, 0.0) + value
    for found, by_cluster in ((whole, expected[0]), (group[0], expected[1]), (group[1], expected[1])):
        names = {name for told in by_cluster.values() for name in told}
        zeros = dict.fromkeys(names, 0.0)
        assert found.ordered() == [zeros | by_cluster[cluster] for cluster in sorted(by_cluster)]
        assert found.total() == {
            name: math.fsum(told.get(name, 0.0) for told in by_cluster.values()) for name in names
        }
