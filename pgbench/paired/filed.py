"""What a baseline file holds, checked field by field, and evidence made of it."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pgbench.errors import StoreError
from pgbench.paired.columns import Statistics, unfolded
from pgbench.paired.evidence import Asked
from pgbench.records import RunRecord

# id, prompt, image, target, number of the cluster and of the groups, failed, numbers (null: not scored)
SampleRow: TypeAlias = tuple[str, str, str, str, int, int, int, list[float] | None]
UnitRow: TypeAlias = tuple[str, list[int], list[float]]  # name, numbers of its samples, numbers
Single: TypeAlias = "tuple[list[str], dict[str, array[float]]]"  # ids and columns


@dataclass(frozen=True, slots=True)
class Larger:
    """A metric whose units are several samples."""

    columns: Statistics
    rows: list[UnitRow]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a baseline file."""

    record: RunRecord
    clusters: list[str]
    groups: list[dict[str, str]]
    metrics: dict[str, Statistics]
    samples: list[SampleRow]
    units: dict[str, Larger]


@dataclass(frozen=True, slots=True)
class Document:
    schema: int
    digest: str
    runs: list[Run]


def parsed(path: str | Path, document: object) -> Document:
    """Raises StoreError."""
    from pydantic import ValidationError

    try:
        found: Document = _reader().validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is no baseline file: {where}: {first['msg']}; save it anew") from error
    return found


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Document)


@dataclass(frozen=True, slots=True)
class Filed:
    """A run of a file as evidence has it. Its methods raise LookupError for numbers that lead nowhere,
    ValueError for a sample or unit that is there twice."""

    run: Run

    def samples(self) -> dict[str, Asked]:
        run = self.run
        found = {
            name: Asked(
                prompt, image, target, run.clusters[_place(cluster)], run.groups[_place(group)], bool(failed)
            )
            for name, prompt, image, target, cluster, group, failed, _ in run.samples
        }
        if len(found) != len(run.samples) or len(found) != run.record.data.selected:
            raise ValueError(f"{len(found)} samples of {run.record.data.selected}")
        return found

    def single(self, metric: str, ids: Sequence[str]) -> Single:
        """Of a metric that scores one sample at a time."""
        rows = {name: row[-1] for name, row in zip(ids, self.run.samples, strict=True)}
        scored = {name: row for name, row in rows.items() if row is not None}
        return list(scored), unfolded(self.run.metrics[metric], list(scored.values()))

    def larger(self, metric: str) -> Single:
        found = self.run.units[metric]
        return [name for name, _, _ in found.rows], unfolded(found.columns, [row[-1] for row in found.rows])

    def members(self, metric: str, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Which samples each larger unit has."""
        rows = self.run.units[metric].rows
        found = {name: tuple(ids[_place(number)] for number in numbers) for name, numbers, _ in rows}
        if len(found) != len(rows) or not all(found.values()):
            raise ValueError(f"{metric} has a unit twice, or one without samples")
        return found


def _place(number: int) -> int:
    """Python would count a negative number from the end."""
    if number < 0:
        raise LookupError(number)
    return number
