"""What quantization costs: the difference of each quantized cell from the same one in bfloat16. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from pgbench.report.figures import captions
from pgbench.report.figures.cells import Cell, measured, panels
from pgbench.report.figures.scene import Panel, Point, Scene, Sketch

NAME, TITLE = "quantization-deltas", "Quantized minus bfloat16"
_ROWS = 60  # that a page holds


class Span(Protocol):
    """A difference with its paired interval, as fractions: `stats.Difference`, or what looks like one."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


Spans: TypeAlias = Mapping[tuple[str, str], Span]  # (key of the bfloat16 record, key of the quantized) ->
_Couple: TypeAlias = tuple[Cell, Cell]


def differences(cells: Sequence[Cell], paired: Spans) -> Sketch:
    """A row for each checkpoint and level; a bar is the paired interval where there is one."""
    couples, left = _couples(cells)
    rows = tuple(dict.fromkeys(after.name for _, after in couples))
    if not couples or len(rows) > _ROWS:
        many = f"{len(rows)} rows are more than a page holds ({_ROWS}); name fewer runs"
        why = many if couples else "no quantized cell has one in bfloat16 beside it, with the same data"
        return Sketch(NAME, TITLE, captions.sentence(f"Nothing drawn: {why}"), None)
    both = list({id(cell): cell for couple in couples for cell in couple}.values())
    caption = captions.sentence(
        f"{TITLE} (Δ); left of the line is less than bfloat16 gives",
        captions.over(both),
        _bars(couples, paired),
        captions.hollow(both),
        captions.missing(left),
    )
    return Sketch(NAME, TITLE, caption, _scene(couples, paired, rows))


def unpaired(before: Cell, after: Cell) -> tuple[float | None, float | None]:
    """The interval of a difference from the two intervals alone, as if the runs shared no sample.

    Source: the square-and-add interval of Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10, for
    any two intervals: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702.
    """
    (low_b, high_b), (low_a, high_a) = before.bounds, after.bounds
    if low_b is None or high_b is None or low_a is None or high_a is None:
        return None, None
    d = after.y - before.y
    low = d - math.hypot(after.y - low_a, high_b - before.y)
    return low, d + math.hypot(high_a - after.y, before.y - low_b)


def _couples(cells: Sequence[Cell]) -> tuple[list[_Couple], list[str]]:
    """Each quantized cell with its bfloat16 cell, and why others have none."""
    plain: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        point = cell.record.spec.checkpoint
        if point.quant == "none" and point.dtype == "bfloat16":
            plain[cell.task, cell.metric, cell.series].append(cell)
    couples, left = [], defaultdict(list)
    for cell in cells:
        if cell.record.spec.checkpoint.quant == "none":
            continue
        beside = plain[cell.task, cell.metric, cell.series]
        fitting = [before for before in beside if _same_data(before, cell)]
        if len(fitting) == 1:
            couples.append((fitting[0], cell))
        else:
            left[_why(len(beside), len(fitting))].append(f"{cell.task}, {cell.name}")
    return couples, captions.grouped(left)


def _why(beside: int, fitting: int) -> str:
    if fitting:
        return f"{fitting} runs in bfloat16 fit"
    return "the run in bfloat16 is of other samples" if beside else "no run in bfloat16"


def _same_data(before: Cell, after: Cell) -> bool:
    return _samples(before) == _samples(after)


def _samples(cell: Cell) -> tuple[object, ...]:
    """Which samples were asked, as far as a record tells."""
    data, spec = cell.record.data, cell.record.spec
    return data.digest, data.selected, spec.seed if spec.limit else None, cell.score.n


def _bars(couples: Sequence[_Couple], paired: Spans) -> str:
    known = [couple for couple in couples if _key(couple) in paired]
    pair = "paired by sample"
    alone = (
        "unpaired: made of the two cells' own intervals, as if they shared no sample, hence mostly wider "
        "than a paired one"
    )
    if len(known) == len(couples):
        return f"Bars are 95 % intervals, {pair}"
    if not known:
        return f"Bars are 95 % intervals, {alone}"
    names = [
        f"{after.task}, {after.name}" for before, after in couples if _key((before, after)) not in paired
    ]
    return f"Bars are 95 % intervals, {pair}, except of {'; '.join(names)}, which are {alone}"


def _key(couple: _Couple) -> tuple[str, str]:
    return couple[0].record.key, couple[1].record.key


def _scene(couples: Sequence[_Couple], paired: Spans, rows: tuple[str, ...]) -> Scene:
    levels = tuple(dict.fromkeys(after.level for _, after in couples))
    befores = {id(after): before for before, after in couples}
    drawn = []
    for group in panels(after for _, after in couples).values():
        points = tuple(_point(befores[id(cell)], cell, paired, rows, levels) for cell in group)
        unit = "" if group[0].score.number else " (points)"
        label = f"Δ {group[0].metric}{unit}"
        drawn.append(Panel(f"{group[0].task}, {measured(group)}", label, "", points))
    ticks = tuple((float(index), name) for index, name in enumerate(rows))
    return Scene(NAME, "deltas", tuple(drawn), levels, ticks)


def _point(before: Cell, after: Cell, paired: Spans, rows: Sequence[str], levels: Sequence[str]) -> Point:
    span = paired.get(_key((before, after)))
    y, index = float(rows.index(after.name)), levels.index(after.level)
    if span is None:
        low, high = unpaired(before, after)
        return Point(after.y - before.y, y, low, high, index, hollow=bool(before.doubts or after.doubts))
    scale = after.scale
    low, high = (None if end is None else scale * end for end in (span.low, span.high))
    return Point(scale * span.value, y, low, high, index, hollow=bool(before.doubts or after.doubts))
