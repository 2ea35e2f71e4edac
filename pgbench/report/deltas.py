"""Differences between a cell and the one that it is held against. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgbench.errors import UsageError, unknown
from pgbench.report.axes import AXES, GOES_WITH, OF_MODEL, OF_QUESTIONS, ordered
from pgbench.report.entries import Item

_SAID = {
    "bf16": "none",
    "bfloat16": "none",
    "fp16": "none",
    "float16": "none",
    "fp32": "none",
    "float32": "none",
}


@dataclass(frozen=True, slots=True)
class Against:
    """The cell of comparison: the value of an axis. `quiet`: a layout's wish, no error if it is missing."""

    axis: str
    value: str
    quiet: bool = False

    def __str__(self) -> str:
        return f"{self.axis}={self.value}"


@dataclass(frozen=True, slots=True)
class Delta:
    """Candidate - baseline in fractions (a `number`: as it is), or why there is none."""

    value: float | None
    base: int | None = None  # position of the baseline
    reason: str = ""


def parse(text: str) -> Against:
    """AXIS=VALUE. Raises UsageError."""
    axis, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise UsageError(f"--delta is {text!r}; expected AXIS=VALUE, quant=none or resolution=224 say")
    if axis in OF_QUESTIONS:
        raise UsageError(f"--delta {axis}: cells of another {axis} are not held against each other")
    if axis not in AXES:
        raise UsageError(
            unknown("axis of --delta", axis, [name for name in AXES if name not in OF_QUESTIONS])
        )
    return Against(axis, _SAID.get(value, value) if axis == "quant" else value)


def lowest_resolution(items: Sequence[Item]) -> Against | None:
    """The lowest of several resolutions, which the others are held against; None where there is one only."""
    found = ordered("resolution", (item.keys.get("resolution", "") for item in items))
    known = [value for value in found if value]
    return Against("resolution", known[0], quiet=True) if len(known) > 1 else None


def deltas(items: Sequence[Item], against: Against) -> dict[int, Delta]:
    """The difference of every item that is not a baseline itself, by position.

    Raises UsageError where no cell has the value.
    """
    values = {item.keys.get(against.axis, "") for item in items}
    if against.value not in values and not against.quiet:
        raise UsageError(unknown(f"{against.axis} to hold cells against", against.value, values - {""}))
    places: dict[tuple[str, ...], list[int]] = {}
    for position, item in enumerate(items):
        if item.keys.get(against.axis, "") == against.value:
            places.setdefault(_rest(item, against.axis), []).append(position)
    return {
        position: _delta(items, position, places.get(_rest(item, against.axis), []), against)
        for position, item in enumerate(items)
        if item.keys.get(against.axis, "") != against.value
    }


def _rest(item: Item, axis: str) -> tuple[str, ...]:
    """All that a cell and its baseline have in common; of published ones the source and setting too."""
    loose = GOES_WITH.get(axis, frozenset()) | {axis}
    names = (*OF_QUESTIONS, *(OF_MODEL if item.match is None else ("model", "resolution", "quant", "source")))
    return (
        "" if item.match is None else "published",
        *(item.keys.get(n, "") for n in names if n not in loose),
    )


def _delta(items: Sequence[Item], position: int, found: Sequence[int], against: Against) -> Delta:
    item = items[position]
    if item.match is not None and len(found) != 1:
        return Delta(None)
    if not found:
        return Delta(None, reason=f"no difference: no cell with {against} that is like it otherwise")
    if len(found) > 1:
        return Delta(None, reason=f"no difference: {len(found)} cells with {against} are like it otherwise")
    base = items[found[0]]
    if reason := other_samples(item, base):
        return Delta(None, reason=f"no difference: {reason}")
    if item.value is None or base.value is None:
        return Delta(None, reason="no difference: a score is undefined")
    return Delta(item.value - base.value, found[0])


def other_samples(item: Item, base: Item) -> str:
    """Why two cells are not of the same samples, as far as records alone tell; "": they may be.

    Of training runs the first of each stands for all.
    """
    one, two = (each.members[0].run if each.members else each.run for each in (item, base))
    if one is None or two is None:
        return ""
    if one.record.data.digest != two.record.data.digest:
        return "other data than the cell that it is held against"
    counts = one.record.data.selected, two.record.data.selected
    if counts[0] != counts[1]:
        return f"{counts[0]:,} samples, {counts[1]:,} in the cell that it is held against"
    if (one.record.spec.limit, one.record.spec.seed) != (two.record.spec.limit, two.record.spec.seed):
        return "samples drawn with another --limit or --seed than the cell that it is held against"
    return ""


def text(delta: Delta, item: Item) -> str:
    """Points with their sign.

    >>> text(Delta(-0.0132), Item({}, 0.5872))
    '-1.32'
    """
    if delta.value is None:
        return ""
    digits = max(item.digits, 1) if item.match else 2
    shown = f"{(1 if item.number else 100) * delta.value:+.{digits}f}"
    return shown if shown.strip("+-0.") else shown.lstrip("+-")


def data(delta: Delta, against: Against, extra: Mapping[str, object]) -> dict[str, object]:
    """For machines."""
    return {"delta": delta.value, "against": str(against), **extra}
