"""Which numbers of a table are the best, and which differences are real: paired tests of its cells. Pure.

The tests themselves come in: a function that holds two cells' answers against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pgbench.report.axes import OF_QUESTIONS
from pgbench.report.deltas import Delta
from pgbench.report.entries import Item
from pgbench.stats import holm
from pgbench.types import Direction

ALPHA = 0.05
_OTHERS = "in no comparison for the best: other samples than most cells beside it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two cells' answers held against each other: fractions, or why they cannot be."""

    low: float | None = None
    high: float | None = None
    p: float | None = None  # two-sided, before Holm; None: no test
    interval: str = ""  # its kind
    test: str = ""  # its kind
    disagreeing: int = 0  # clusters that the two answer differently
    draws: int = 0
    seed: int | None = None
    refusal: str = ""  # why they cannot be compared
    level: float = 0.95


class Paired(Protocol):
    """What a table asks of answers. Both raise StoreError for runs whose answers are lost."""

    def verdict(self, before: Item, after: Item, family: int) -> Verdict:
        """`family`: tests that Holm will correct for, so that p is found finely enough."""
        ...

    def direction(self, item: Item) -> Direction | None: ...


@dataclass(frozen=True, slots=True)
class Marks:
    """By position of the item."""

    verdicts: Mapping[int, Verdict] = field(default_factory=dict)  # of deltas
    adjusted: Mapping[int, float] = field(default_factory=dict)  # their p by Holm
    bold: frozenset[int] = frozenset()
    reasons: Mapping[int, str] = field(default_factory=dict)  # why a cell is in no comparison
    remarks: tuple[str, ...] = ()
    footnote: str = ""  # what the mark of a difference stands for


UNPAIRED = Marks(
    remarks=("no difference here is tested: intervals are of single scores, and no significance is claimed",)
)


def of(items: Sequence[Item], deltas: Mapping[int, Delta], paired: Paired) -> Marks:
    """The marks of a table. Raises StoreError."""
    asked = {place: delta.base for place, delta in deltas.items() if delta.base is not None}
    usable = {
        place: base for place, base in asked.items() if _is_one_run(items[place]) and _is_one_run(items[base])
    }
    verdicts = {
        place: paired.verdict(items[base], items[place], max(1, len(usable)))
        for place, base in usable.items()
    }
    tested = {place: one.p for place, one in verdicts.items() if one.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    reasons = {place: f"not compared: {one.refusal}" for place, one in verdicts.items() if one.refusal}
    bold, others = _best(items, paired)
    return Marks(
        verdicts,
        adjusted,
        bold,
        {**others, **reasons},
        tuple(_remarks(items, verdicts, adjusted, bold)),
        _footnote(verdicts, adjusted),
    )


def _is_one_run(item: Item) -> bool:
    return item.run is not None and not item.keys.get("rater") and item.value is not None


def _best(items: Sequence[Item], paired: Paired) -> tuple[frozenset[int], dict[int, str]]:
    """Per question asked: the best cell, and those that a two-sided test does not tell from it."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, item in enumerate(items):
        if _is_one_run(item):
            alike.setdefault(tuple(item.keys[axis] for axis in OF_QUESTIONS), []).append(place)
    bold: set[int] = set()
    reasons: dict[int, str] = {}
    for places in alike.values():
        direction = paired.direction(items[places[0]]) if len(places) > 1 else None
        if direction is None:
            continue
        found, why = _best_of(items, _largest(items, places), direction, paired)
        bold |= found
        reasons |= why
        reasons |= dict.fromkeys(set(places) - set(_largest(items, places)), _OTHERS)
    return frozenset(bold), reasons


def _largest(items: Sequence[Item], places: Sequence[int]) -> list[int]:
    """Those of the same samples, where most are; of as many the ones with more samples."""
    classes: dict[object, list[int]] = {}
    for place in places:
        run = items[place].run
        data = run.record.data if run else None
        spec = run.record.spec if run else None
        same = (data.digest, data.selected, spec.limit, spec.seed) if data and spec else None
        classes.setdefault(same, []).append(place)
    return max(classes.values(), key=lambda one: (len(one), items[one[0]].n or 0))


def _best_of(
    items: Sequence[Item], places: Sequence[int], direction: Direction, paired: Paired
) -> tuple[set[int], dict[int, str]]:
    if len(places) < 2:
        return set(), {}
    sign = 1 if direction == "up" else -1
    best = max(places, key=lambda place: sign * (items[place].value or 0.0))
    held = {place: paired.verdict(items[best], items[place], 1) for place in places if place != best}
    reasons = {
        place: f"not compared with the best: {one.refusal}" for place, one in held.items() if one.refusal
    }
    left = [place for place in held if place not in reasons]
    # Of equal values none is more the best than another: which run comes first decides nothing.
    tied = [best, *(place for place in left if _equal(items[place], items[best]))]
    bold = set(tied) | {
        place for place in left if all(_alike(items[one], items[place], paired) for one in tied)
    }
    return (bold, reasons) if len(reasons) < len(places) - 1 else (set(), reasons)


def _equal(one: Item, other: Item) -> bool:
    return math.isclose(one.value or 0.0, other.value or 0.0)


def _alike(best: Item, other: Item, paired: Paired) -> bool:
    found = paired.verdict(best, other, 1)
    return not found.refusal and (found.p is None or found.p >= ALPHA)


def _remarks(
    items: Sequence[Item],
    verdicts: Mapping[int, Verdict],
    adjusted: Mapping[int, float],
    bold: frozenset[int],
) -> list[str]:
    told = []
    if bold:
        told.append(
            "bold: the best of all cells that were asked the same, and every one that a two-sided paired "
            f"swap test does not tell from it (p >= {ALPHA}, each test by itself; of equal ones from any)"
        )
    if verdicts:
        kinds = sorted({one.interval for one in verdicts.values() if one.interval})
        told.append(f"intervals of differences: paired by sample, 95 % ({', '.join(kinds) or 'none'})")
    if any(p < ALPHA and _holds_zero(verdicts[place]) for place, p in adjusted.items()):
        told.append(
            "a marked difference whose interval holds 0: few samples differ, and the interval, not the test, "
            "allows for differences that none of the samples shows"
        )
    if any(item.members for item in items):
        told.append("means over seeds are in no paired test")
    return told


def _holds_zero(verdict: Verdict) -> bool:
    return verdict.low is not None and verdict.high is not None and verdict.low <= 0 <= verdict.high


def _footnote(verdicts: Mapping[int, Verdict], adjusted: Mapping[int, float]) -> str:
    """The family of the marks, its tests and draws."""
    if not adjusted:
        return ""
    ran = [verdicts[place] for place in adjusted]
    drawn = [one for one in ran if not one.test.startswith("exact")]
    counts = " or ".join(f"{count:,}" for count in sorted({one.draws for one in drawn}))
    seeds = ", ".join(map(str, sorted({one.seed for one in drawn if one.seed is not None})))
    exact = f"all swaps in {len(ran) - len(drawn)}" if len(drawn) < len(ran) else ""
    swaps = f"{counts} random swaps{f', seed {seeds}' if seeds else ''}, in {len(drawn)}" if drawn else ""
    return (
        f"* a difference with p < {ALPHA} after Holm over the family of {len(ran)} tested in this table "
        f"(two-sided paired label swap by cluster: {'; '.join(filter(None, (exact, swaps)))})"
    )
