"""The order in which the chosen samples are asked, and their batches: longest first, clusters together or,
where padding costs more than that, a few of them sorted by length."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SPEC, TASK, Fake, make_cell
from hypothesis import given
from hypothesis import strategies as st

from pgbench import batching
from pgbench.batching import LONGEST_FIRST, USUAL, Planned, choose, planned
from pgbench.errors import RunStopped, UsageError
from pgbench.plan import Shard, order
from pgbench.runner import plan_of, run
from pgbench.types import Image, LikelihoodMode, RunSpec, Sample, cluster_of

NEW = replace(SPEC, batching=LONGEST_FIRST)  # 8 px: an image has no tokens
USUAL_WIDTH = USUAL + SPEC.max_new_tokens
# (cluster, characters of the question): interleaved as a benchmark may publish them
SAMPLES = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "图像"]), st.sampled_from([0, 4, 40, 400, 4000])),
    min_size=1,
    max_size=40,
).map(
    lambda drawn: [
        Sample(f"s{number}", (), "x" * size, "yes", cluster=cluster)
        for number, (cluster, size) in enumerate(drawn)
    ]
)
BATCHES = st.integers(1, 9)
LIMITS = st.none() | st.integers(1, 45)


def plan(samples: Sequence[Sample], spec: RunSpec = NEW) -> Planned:
    return planned(spec, choose(spec, TASK, samples))


def width(sample: Sample) -> int:
    """Tokens of a request, at four characters each, new ones included."""
    return len(f"default {sample.question}") // 4 + SPEC.max_new_tokens


def flat(found: Planned) -> list[int]:
    return list(itertools.chain.from_iterable(found.positions))


def plainly(samples: Sequence[Sample], chosen: Sequence[int], batch: int) -> list[int]:
    """The order as it is defined: the clusters of the shuffled order, sorted by their longest prompt; eight
    at a time by length, up and down, where that spares a twentieth of their tokens."""
    runs = [list(run) for _, run in itertools.groupby(chosen, key=lambda place: cluster_of(samples[place]))]
    runs.sort(key=lambda run: -max(width(samples[place]) for place in run))  # stable
    found: list[int] = []
    for number, first in enumerate(range(0, len(runs), 8)):
        window = list(itertools.chain.from_iterable(runs[first : first + 8]))
        lengths = sorted(window, key=lambda place: width(samples[place]) * (1 if number % 2 else -1))
        before, after = padded(samples, window, batch), padded(samples, lengths, batch)
        found += lengths if before - after >= max(before * 0.05, 1) else window
    return found


def padded(samples: Sequence[Sample], places: Sequence[int], batch: int) -> int:
    """Tokens of prompts in consecutive batches, padding included."""
    sizes = [width(samples[place]) - SPEC.max_new_tokens for place in places]
    parts = [sizes[start : start + batch] for start in range(0, len(sizes), batch)]
    return sum(len(part) * max(part) for part in parts)


@given(SAMPLES, BATCHES, LIMITS)
def test_the_longest_clusters_come_first_and_a_limit_chooses_as_ever(
    samples: list[Sample], batch: int, limit: int | None
) -> None:
    spec = replace(NEW, batch=batch, limit=limit)
    chosen = list(order(samples, seed=spec.seed, limit=limit))
    assert flat(plan(samples, spec)) == plainly(samples, chosen, batch)
    assert flat(plan(samples, replace(spec, batching=None))) == chosen


def test_many_questions_about_small_images_are_sorted_by_length_and_about_large_ones_are_not() -> None:
    picture = Image("1.png", bytes)
    samples = [
        Sample(f"s{n}", (picture,), "x" * (n * 7 % 12 * 10), "yes", cluster=f"c{n // 24}") for n in range(480)
    ]
    whole, spread = (
        plan(samples, replace(NEW, batch=16, checkpoint=replace(SPEC.checkpoint, resolution=side)))
        for side in (448, 56)
    )
    shuffled = list(order(samples, seed=NEW.seed, limit=None))
    assert flat(whole) == shuffled
    assert padded(samples, flat(spread), 16) < 0.8 * padded(samples, flat(whole), 16)
    lengths = [width(samples[place]) for place in flat(spread)]
    assert lengths[:192] == sorted(lengths[:192], reverse=True)  # eight clusters; the longest of all first
    assert lengths[192:384] == sorted(lengths[192:384])  # meets it at the shortest
    assert {*flat(spread)[:192]} == {*shuffled[:192]}


@given(SAMPLES, BATCHES)
def test_a_batch_has_as_many_samples_as_fit(samples: list[Sample], batch: int) -> None:
    found = plan(samples, replace(NEW, batch=batch)).positions
    most = batch * USUAL_WIDTH
    sizes = [[width(samples[place]) for place in places] for places in found]
    for here, after in itertools.zip_longest(sizes, sizes[1:]):
        assert 1 <= len(here) <= batch
        assert len(here) == 1 or len(here) * max(here) <= most
        if after is not None and len(here) < batch:  # full: one more would be too many tokens
            assert (len(here) + 1) * max(*here, after[0]) > most


def test_prompts_of_usual_length_fill_their_batches_and_long_ones_do_not() -> None:
    usual = [Sample(f"u{n}", (), "x" * 200, "yes") for n in range(20)]
    long = [Sample(f"l{n}", (), "x" * 2000, "yes") for n in range(5)]
    found = plan([*usual, *long], replace(NEW, batch=8))
    assert [len(batch) for batch in found.positions] == [1, 1, 1, 1, 1, 8, 8, 4]
    assert found.width == (len("default ") + 2000) // 4 + SPEC.max_new_tokens


def test_images_count_with_their_tokens() -> None:
    picture = Image("1.png", bytes)
    point = replace(SPEC.checkpoint, resolution=224)  # 256 tokens an image
    spec = replace(NEW, batch=8, checkpoint=point)
    one = [Sample(f"s{n}", (picture,), "which?", "yes") for n in range(16)]
    seven = [replace(sample, id=f"t{n}", images=(picture,) * 7) for n, sample in enumerate(one[:2])]
    found = plan([*one, *seven], spec).positions
    assert [len(batch) for batch in found] == [1, 1, 8, 8]
    assert {place for batch in found[:2] for place in batch} == {16, 17}


@given(SAMPLES, BATCHES, LIMITS)
def test_a_cluster_in_several_batches_is_alone_in_all(
    samples: list[Sample], batch: int, limit: int | None
) -> None:
    spec = replace(NEW, batch=batch, limit=limit)
    for found in (plan(samples, spec), plan(samples, replace(spec, batching=None))):
        homes: dict[str, set[int]] = {}
        for number, places in enumerate(found.positions):
            for place in places:
                homes.setdefault(cluster_of(samples[place]), set()).add(number)
        for places, alone in zip(found.positions, found.alone, strict=True):
            assert list(alone) == [len(homes[cluster_of(samples[place])]) > 1 for place in places]


@given(SAMPLES, BATCHES)
def test_ids_go_with_their_positions(samples: list[Sample], batch: int) -> None:
    found = plan(samples, replace(NEW, batch=batch))
    for places, ids in zip(found.positions, found.ids, strict=True):
        assert list(ids) == [hash(samples[place].id) for place in places]
    sizes = [len(places) for places in found.positions]
    assert [found.positions.first(number) for number in range(len(sizes))] == [
        sum(sizes[:number]) for number in range(len(sizes))
    ]


@given(SAMPLES, BATCHES, st.integers(1, 7))
def test_shards_are_ranges_of_these_batches(samples: list[Sample], batch: int, count: int) -> None:
    found = plan(samples, replace(NEW, batch=batch)).positions
    parts = [Shard(index, count).of(len(found)) for index in range(count)]
    assert list(itertools.chain.from_iterable(parts)) == list(range(len(found)))
    assert [list(one) for one in found[1:3]] == [list(one) for one in list(found)[1:3]]


def test_many_long_prompts_are_cut_as_few_are() -> None:
    samples = [
        Sample(f"s{n}", (), "x" * (n * 37 % 3000), "yes", cluster=f"c{n * 37 % 3000 // 9}")
        for n in range(3000)
    ]
    found = plan(samples, replace(NEW, batch=16)).positions
    most, rows = 16 * USUAL_WIDTH, 0
    assert sorted(itertools.chain.from_iterable(found)) == list(range(3000))
    for places in found:
        widths = [width(samples[place]) for place in places]
        assert len(places) == 1 or len(places) * max(widths) <= most
        rows = max(rows, len(places))
    assert rows == 16


def test_continuations_are_measured_where_they_are_scored() -> None:
    texts = {"s0": ("no", "y" * 400), "s1": ("no",), "s2": ()}
    task = replace(TASK, likelihood=LikelihoodMode(lambda sample, *_: texts[sample.id], lambda _: (), ()))
    samples = [Sample(name, (), "?", "yes") for name in texts]
    measure = batching.measured(replace(NEW, mode="likelihood"), task)
    assert [measure(sample) - measure(samples[2]) for sample in samples] == [100, 0, 0]


def test_other_alphabets_are_measured_by_their_bytes() -> None:
    measure = batching.measured(NEW, TASK)
    latin, chinese, lone = (Sample("s", (), text, "yes") for text in ("x" * 40, "图" * 40, "\ud800" * 40))
    assert measure(chinese) == measure(lone) == measure(latin) + 20


def test_a_prompt_that_cannot_be_made_is_told_when_it_is_asked(tmp_path: Path) -> None:
    def prompt(sample: Sample, *_: object) -> str:
        if sample.id == "s1":
            raise ValueError("no such template")
        return sample.question

    samples = [Sample(f"s{n}", (), "x" * 40, "yes") for n in range(3)]
    cell = make_cell(samples, Fake(), task=replace(TASK, prompt=prompt), spec=replace(NEW, batch=1))
    found = planned(cell.spec, choose(cell.spec, cell.task, samples))
    assert flat(found)[-1] == 1  # it has no length
    with pytest.raises(
        RunStopped, match=r"sample s1: ValueError: no such template .*2 of 3 answers are kept"
    ):
        run(cell, tmp_path)


def test_the_rule_is_in_the_key_and_an_old_spec_keeps_its_own() -> None:
    # of a spec as it was before there was a rule
    assert SPEC.key == "6d2fa76f1ee562e4341ff1081273f23fe549cad3ef9edbd576e1f4b7dc73b03f"
    assert NEW.key != SPEC.key
    with pytest.raises(UsageError, match=r"rule of batches 'shortest'\. Available: longest first"):
        choose(replace(SPEC, batching="shortest"), TASK, [])


def test_a_batch_may_be_larger_than_any_number_of_samples(tmp_path: Path) -> None:
    samples = [Sample(f"s{number}", (), "x" * 400 * number, "yes") for number in range(5)]
    huge, fitting = (plan(samples, replace(NEW, batch=size)) for size in (10**30, 10**6))
    assert list(map(list, huge.positions)) == list(map(list, fitting.positions)) == [flat(fitting)]


def test_a_size_that_is_still_to_be_found_cannot_be_planned() -> None:
    samples = [Sample("s0", (), "?", "yes")]
    with pytest.raises(UsageError, match="batch size is not known yet"):
        plan(samples, replace(NEW, batch=0))


def test_a_plan_is_what_the_runner_makes() -> None:
    samples = [Sample(f"s{n}", (), "x" * (n % 7 * 100), "yes") for n in range(30)]
    cell = make_cell(samples, Fake(), spec=NEW)
    made = plan_of(cell, Path("runs"))
    assert [list(one) for one in made.planned] == [list(one) for one in plan(samples).positions]
    assert made.sizes == [len(one) for one in plan(samples).positions]
