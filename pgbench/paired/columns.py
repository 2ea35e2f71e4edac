"""Columns of statistics folded for a baseline file: constant ones are a number, and of those that differ by a
constant the first is kept (a text has one 2-gram less than it has letters)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pgbench.paired.evidence import Units

# name -> a number for all, [place in each row], or [place, what is to be added]
Statistics: TypeAlias = dict[str, float | list[int]]
_WHOLE = 2**53  # below, sums and differences of whole numbers are exact


@dataclass(frozen=True, slots=True)
class Columns:
    """Metrics over the same units, those of `ids` that were scored."""

    statistics: dict[str, Statistics]  # by metric
    _varying: tuple[array[float], ...]
    _ids: Sequence[str]  # all units
    _scored: frozenset[str]

    @classmethod
    def of(cls, metrics: Sequence[Units], ids: Sequence[str]) -> Columns:
        places: dict[bytes, tuple[int, float]] = {}  # shape -> place, and the first value there
        varying: list[array[float]] = []
        statistics: dict[str, Statistics] = {}
        for units in metrics:
            found = statistics[units.metric] = {}
            for name, values in units.sums.items():
                column = array("d", values)
                if len(set(column)) <= 1:
                    found[name] = _short(column[0]) if column else 0
                    continue
                first = column[0]
                shape = _shape(column)
                if shape not in places:
                    places[shape] = len(varying), first
                    varying.append(column)
                place, start = places[shape]
                found[name] = [place] if first == start else [place, int(first - start)]
        scored = frozenset(metrics[0].ids) if metrics else frozenset[str]()
        return cls(statistics, tuple(varying), ids, scored)

    def rows(self) -> Iterator[list[float] | None]:
        """For each unit its numbers; None for what was not scored."""
        numbers = zip(*self._varying, strict=True) if self._varying else None
        for name in self._ids:
            if name not in self._scored:
                yield None
            else:
                yield [_short(value) for value in next(numbers)] if numbers else []


def _shape(column: array[float]) -> bytes:
    """Equal for columns that differ by a constant, if they are of whole numbers; else the column."""
    if not all(value.is_integer() and abs(value) < _WHOLE for value in column):
        return b"as it is" + column.tobytes()
    return array("d", [value - column[0] for value in column]).tobytes()


def _short(value: float) -> float:
    """A whole number without its ".0"."""
    return int(value) if value.is_integer() else value


def unfolded(statistics: Statistics, rows: Sequence[Sequence[float]]) -> dict[str, array[float]]:
    """The columns again. Raises IndexError for a row without the place that a name has, ValueError for a name
    without one, OverflowError for a number that is none of a column."""
    return {
        name: array("d", _kept(rows, where) if isinstance(where, list) else [where] * len(rows))
        for name, where in statistics.items()
    }


def _kept(rows: Sequence[Sequence[float]], where: Sequence[int]) -> list[float]:
    place, added = (*where, 0)[:2]
    return [row[place] + added for row in rows]
