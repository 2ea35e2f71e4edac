"""units.jsonl: the statistics of units of several samples, such as pairs, by which two runs are paired.

One line for each metric and unit, in the order of the run, written before the record. A sample line holds the
statistics of metrics that score one sample at a time; those of larger units are nowhere else.
A metric that takes the whole run as one unit (a distribution, a draw) has nothing to pair and no lines.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgbench.durable import encode, exists, write_pieces
from pgbench.errors import StoreError

UNITS = "units.jsonl"


@dataclass(frozen=True, slots=True)
class Unit:
    """What one unit adds to one metric."""

    metric: str
    unit: str  # as `Metric.unit_of` names it
    samples: tuple[str, ...]  # ids, in the order of the run
    sums: Mapping[str, float]


def write(folder: Path, units: Iterable[Unit]) -> None:
    """All lines or no file; nothing where there are no such units. Raises StoreError."""
    lines = (encode(_plain(unit), separators=(",", ":")) for unit in units)
    first = next(lines, None)
    if first is not None:
        write_pieces(folder / UNITS, itertools.chain([first], lines))


def read(folder: Path) -> Iterator[Unit]:
    """Nothing where the file is not there. Raises StoreError for a line that is none of these."""
    path = folder / UNITS
    if not exists(path):
        return
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                yield _parsed(raw, path, number)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def _plain(unit: Unit) -> dict[str, object]:
    return {"metric": unit.metric, "unit": unit.unit, "samples": unit.samples, "sums": dict(unit.sums)}


def _parsed(raw: bytes, path: Path, number: int) -> Unit:
    try:
        found = json.loads(raw)
        metric, unit, samples, sums = (found[name] for name in ("metric", "unit", "samples", "sums"))
        texts = [metric, unit, *samples, *sums]
        if not all(type(text) is str for text in texts) or type(samples) is not list or not samples:
            raise TypeError
        return Unit(metric, unit, tuple(samples), {name: float(value) for name, value in sums.items()})
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path}, line {number} is no unit of pgbench; restore the file") from error
