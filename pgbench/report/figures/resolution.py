"""Accuracy over resolution: a line for each model and number format. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from pgbench.report.figures import captions
from pgbench.report.figures.cells import Cell, panels
from pgbench.report.figures.scene import Point, Scene, Sketch
from pgbench.report.figures.tradeoff import panel_of

NAME, TITLE = "accuracy-resolution", "Accuracy over resolution"
_TELLABLE = 24  # lines
_STEP = 0.05  # between neighbouring lines, in steps of the axis: bars side by side


def curves(cells: Sequence[Cell]) -> Sketch:
    """One line for each model and level; checkpoints of one name and several resolutions are one model."""
    lines: dict[tuple[str, str, str], dict[int, Cell]] = defaultdict(dict)
    left: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        px, line = cell.record.spec.checkpoint.resolution, (cell.task, cell.metric, model(cell))
        full = f"{cell.task}, {cell.name}"
        if not px:
            left["no resolution"].append(full)
        elif px in lines[line]:
            left["a second run at its resolution"].append(full)
        else:
            lines[line][px] = cell
    shown = [cell for line in lines.values() if len(line) > 1 for cell in line.values()]
    left["one resolution only"] += [
        f"{cell.task}, {cell.name}" for line in lines.values() if len(line) == 1 for cell in line.values()
    ]
    missing = captions.missing(captions.grouped(left))
    series = tuple(dict.fromkeys(model(cell) for cell in shown))
    if not shown or len(series) > _TELLABLE:
        many = f"{len(series)} lines are more than can be told apart ({_TELLABLE}); name fewer runs"
        why = many if shown else "no model was run at two resolutions on one task"
        return Sketch(NAME, TITLE, captions.sentence(f"Nothing drawn: {why}"), None)
    caption = captions.sentence(
        TITLE,
        captions.over(shown),
        captions.intervals(shown),
        "A line joins checkpoints of one model at several resolutions, set side by side where they meet",
        captions.hollow(shown),
        missing,
    )
    return Sketch(NAME, TITLE, caption, _scene(shown, series))


def model(cell: Cell) -> str:
    """What a line is called: the checkpoint without its resolution, and its level.

    A number that is the resolution is taken out of the name: paligemma2-3b-mix-448 is a model of 224 px too.
    """
    px = cell.record.spec.checkpoint.resolution
    name = re.sub(rf"[-_]{px}(?=$|[-_,@])", "", cell.series) if px else cell.series
    return f"{name.replace(f', {px} px', '')} {cell.level}"


def _scene(cells: Sequence[Cell], series: tuple[str, ...]) -> Scene:
    sizes = sorted({cell.record.spec.checkpoint.resolution for cell in cells})
    drawn = []
    for group in panels(cells).values():
        ordered = sorted(group, key=lambda cell: cell.record.spec.checkpoint.resolution)
        drawn.append(
            panel_of(group, "resolution (px)", tuple(_point(cell, sizes, series) for cell in ordered))
        )
    ticks = tuple((float(index), str(px)) for index, px in enumerate(sizes))
    return Scene(NAME, "curves", tuple(drawn), series, ticks)


def _point(cell: Cell, sizes: Sequence[int], series: Sequence[str]) -> Point:
    index = series.index(model(cell))
    step = min(_STEP, 0.4 / len(series))
    x = sizes.index(cell.record.spec.checkpoint.resolution) + step * (index - (len(series) - 1) / 2)
    return Point(x, cell.y, *cell.bounds, series=index, hollow=bool(cell.doubts))
