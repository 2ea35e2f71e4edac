"""Shuffled pictures: every question is asked about another scene, and nothing else changes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import sweeps

from pgbench.demo.touring import shuffled
from pgbench.errors import DataError
from pgbench.sources.files import digest
from pgbench.sweeping.opening import open_cell
from pgbench.types import Dataset, Image, Sample


def sample(name: str, cluster: str, *pictures: str) -> Sample:
    images = tuple(Image(one, lambda one=one: one.encode()) for one in pictures)  # type: ignore[misc]
    return Sample(name, images, f"what is {name}?", (name,), cluster=cluster)


def data(samples: Sequence[Sample]) -> Dataset:
    return Dataset(tuple(samples), digest(samples), "demo-x", demo=True)


def scenes(count: int) -> Iterator[Sample]:
    for number in range(count):
        for place in range(2):
            yield sample(f"{number}-{place}", f"c{number}", f"{number}.ppm")


def test_shuffled_pictures_are_of_other_scenes_and_nothing_else_moves() -> None:
    before = data([*scenes(7)])
    after = shuffled.shuffled(before)
    assert shuffled.shuffled(before) == after
    assert [dataclasses.replace(one, images=()) for one in before.samples] == [
        dataclasses.replace(one, images=()) for one in after.samples
    ]
    own = {one.id: one.images[0].name for one in before.samples}
    given = {one.id: one.images[0].name for one in after.samples}
    assert all(own[name] != given[name] for name in own)
    assert Counter(own.values()) == Counter(given.values())
    assert all(given[f"{number}-0"] == given[f"{number}-1"] for number in range(7))
    assert (after.id, after.demo, after.digest != before.digest) == ("demo-x-shuffled", True, True)


def test_a_shuffled_pair_is_a_pair_of_different_pictures() -> None:
    pairs = [sample(f"{n}{side}", f"pair{n}", f"{n}{side}.ppm") for n in range(5) for side in "ab"]
    after = shuffled.shuffled(data(pairs)).samples
    for one, two in zip(after[::2], after[1::2], strict=True):
        assert one.images[0].name[:-5] == two.images[0].name[:-5] != one.id[:-1]
        assert (one.images[0].name[-5], two.images[0].name[-5]) == ("a", "b")


def test_nothing_to_shuffle_with_is_refused() -> None:
    with pytest.raises(DataError, match="no other of its kind"):
        shuffled.shuffled(data([sample("a", "c", "1"), sample("b", "d", "1", "2")]))
    with pytest.raises(DataError, match="share a picture"):
        shuffled.shuffled(data([sample("a", "c", "1"), sample("b", "d", "1")]))


def test_a_shuffled_cell_is_another_cell() -> None:
    cell, _ = open_cell(sweeps.asked())
    other = shuffled.of_cell(cell)
    assert other.spec.key != cell.spec.key
    assert other.spec.source.id == f"{cell.spec.source.id}-shuffled"
    assert not other.reuse
    assert len(other.dataset.samples) == len(cell.dataset.samples)
