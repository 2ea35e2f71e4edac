"""Flips to look at: what was asked, what the two runs answered, and what would have been right."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from pgbench.paired.compare import Comparison, Row
from pgbench.paired.flips import Flip
from pgbench.paired.late import lines_of
from pgbench.records import SampleLine


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. Both None: its run is in a baseline file, which keeps no answers."""

    output: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One sample of a flip."""

    id: str
    prompt: str
    references: tuple[str, ...]
    before: Said
    after: Said


@dataclass(frozen=True, slots=True)
class Example:
    metric: str
    unit: str
    change: float
    samples: tuple[Told, ...]  # several where the unit is of several


def examples(comparison: Comparison, row: Row, count: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Up to `count` units that fell and as many that rose, the largest changes first, then in the order of
    the run. Reads the run folders. Raises StoreError."""
    fell = heapq.nsmallest(count, (flip for flip in row.flips if flip.change < 0), key=_change)
    rose = heapq.nlargest(count, (flip for flip in row.flips if flip.change > 0), key=_change)
    members = comparison.before.members.get(row.metric, {})
    wanted = [name for flip in (*fell, *rose) for name in members.get(flip.unit, (flip.unit,))]
    before, after = (lines_of(run, wanted) for run in (comparison.before, comparison.after))

    def example(flip: Flip) -> Example:
        names = members.get(flip.unit, (flip.unit,))
        return Example(
            row.metric, flip.unit, flip.change, tuple(_told(name, before, after) for name in names)
        )

    return tuple(map(example, fell)), tuple(map(example, rose))


def _change(flip: Flip) -> float:
    return flip.change


def _told(name: str, before: Mapping[str, SampleLine], after: Mapping[str, SampleLine]) -> Told:
    ours, theirs = before.get(name), after.get(name)
    line = ours or theirs
    if line is None:
        return Told(name, "", (), Said(None), Said(None))
    target = (line.target,) if isinstance(line.target, str) else tuple(line.target or ())
    return Told(name, line.prompt, tuple(dict.fromkeys(target)), _said(ours), _said(theirs))


def _said(line: SampleLine | None) -> Said:
    return Said(None) if line is None else Said(line.output, line.error)
