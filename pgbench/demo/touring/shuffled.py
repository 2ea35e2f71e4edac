"""Every question asked about another scene's picture: what is answered without looking at the right one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from pgbench.batch import Cell
from pgbench.errors import DataError
from pgbench.sources.files import digest
from pgbench.types import Dataset, Sample, cluster_of


def shuffled(dataset: Dataset, seed: str = "shuffled") -> Dataset:
    """The same questions and references in the same order, each with the pictures of another cluster.

    Samples of one cluster get the pictures of one other cluster, so that a pair stays a pair of different
    pictures. Raises DataError where a cluster has no other to take pictures from.
    """
    clusters: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        clusters.setdefault(cluster_of(sample), []).append(sample)
    alike: dict[tuple[tuple[int, ...], ...], list[str]] = {}
    for name, members in clusters.items():
        alike.setdefault(_shape(members), []).append(name)
    givers: dict[str, str] = {}
    for names in alike.values():
        givers |= _circle(names, clusters, seed)
    samples = tuple(_mixed(dataset.samples, clusters, givers))
    return replace(dataset, samples=samples, digest=digest(samples), id=f"{dataset.id}-shuffled")


def of_cell(cell: Cell) -> Cell:
    """The same cell over shuffled pictures, under a key of its own."""
    data = shuffled(cell.dataset)
    source = replace(cell.spec.source, id=data.id)
    return replace(cell, dataset=data, spec=replace(cell.spec, source=source), reuse=False)


def _pictures(members: Sequence[Sample]) -> list[tuple[str, ...]]:
    """The sets of pictures that the samples of a cluster are asked about, each once, in order."""
    return list(dict.fromkeys(tuple(image.name for image in sample.images) for sample in members))


def _shape(members: Sequence[Sample]) -> tuple[tuple[int, ...], ...]:
    """Clusters of equal shape can exchange pictures."""
    return (tuple(len(names) for names in _pictures(members)),)


def _circle(names: Sequence[str], clusters: dict[str, list[Sample]], seed: str) -> dict[str, str]:
    """Each cluster -> the next one of a shuffled circle, which is never itself."""
    if len(names) < 2:
        raise DataError(
            f"cluster {names[0]} has no other of its kind to take pictures from; take more samples"
        )
    generator = random.Random(seed)
    ring = sorted(names, key=lambda name: generator.random())
    found = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    for name, giver in found.items():
        if set(_pictures(clusters[name])) & set(_pictures(clusters[giver])):
            raise DataError(f"clusters {name} and {giver} share a picture; they should be one cluster")
    return found


def _mixed(
    samples: Sequence[Sample], clusters: dict[str, list[Sample]], givers: dict[str, str]
) -> Sequence[Sample]:
    found = []
    for sample in samples:
        own = cluster_of(sample)
        theirs = clusters[givers[own]]
        place = _pictures(clusters[own]).index(tuple(image.name for image in sample.images))
        wanted = _pictures(theirs)[place]
        giver = next(one for one in theirs if tuple(image.name for image in one.images) == wanted)
        found.append(replace(sample, images=giver.images))
    return found
