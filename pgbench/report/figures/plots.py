"""What is inside a figure's axes: points with intervals, fronts, lines, labels and the legend."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pgbench.report.figures.labels import Box, place
from pgbench.report.figures.letters import LONGEST, distinct, drawable, shortened
from pgbench.report.figures.scene import Panel, Point, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGIN = 0.12  # of an axis, so that points and labels stay off the frame
_WIDE_RANGE = 20  # largest over smallest x from which a logarithmic axis is easier to read
_FAR = 7.0  # points of 1/72 inch: a label farther away gets a line to its point
_ROW = 0.17  # inches
_LABEL = 30  # characters


def style(series: int) -> dict[str, Any]:
    """Marker, colour and line of a series: each told by its shape as well, for readers without colour."""
    from pgbench.report.figures.canvas import COLOURS, DASHES, MARKERS

    return {
        "marker": MARKERS[series % len(MARKERS)],
        "color": COLOURS[series % len(COLOURS)],
        "linestyle": DASHES[series % len(DASHES)],
    }


def fill(scene: Scene, grid: Sequence[Axes], known: Collection[int]) -> None:
    """All panels of a scene."""
    for axes, panel in zip(grid, scene.panels, strict=False):
        if scene.shape == "scatter":
            _scatter(axes, panel)
        elif scene.shape == "curves":
            _curves(axes, panel, scene)
        else:
            _deltas(axes, panel)
    if scene.shape == "deltas":
        names = distinct([name for _, name in scene.ticks], known)
        grid[0].set_yticks([position for position, _ in scene.ticks], names)
        grid[0].set_ylim(len(names) - 0.5, -0.5)


def rows_height(scene: Scene) -> float:
    """Inches that a panel of deltas takes."""
    return _ROW * len(scene.ticks) + 0.65


def names_width(scene: Scene) -> float:
    """Inches that the names of the rows of deltas take, at most."""
    longest = max((len(name) for _, name in scene.ticks), default=0)
    return 0.056 * min(longest, LONGEST) if scene.shape == "deltas" else 0.0


def legend(figure: Figure, scene: Scene, names: Sequence[str], columns: int) -> None:
    """Below the panels; what a hollow marker and the dashed line are is said where there are any."""
    from matplotlib.lines import Line2D

    lines = scene.shape == "curves"
    handles: list[Any] = []
    for index, name in enumerate(names):
        look = style(index) if lines else {**style(index), "linestyle": "none"}
        handles.append(Line2D([], [], label=name, linewidth=1.0, **look))
    if any(point.hollow for panel in scene.panels for point in panel.points):
        look = {"marker": "o", "color": "#777777", "markerfacecolor": "white", "linestyle": "none"}
        handles.append(Line2D([], [], label="hollow: see caption", **look))
    if any(drawn(panel) for panel in scene.panels):
        handles.append(Line2D([], [], color="#777777", linestyle="--", linewidth=0.8, label="Pareto front"))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, labelspacing=0.3)


def drawn(panel: Panel) -> bool:
    """Whether there is a line of the front: one point alone, or several in one place, give none."""
    return len(set(panel.front)) > 1


def label(figure: Figure, scene: Scene, grid: Sequence[Axes], known: Collection[int]) -> None:
    """Labels beside points, placed when the panels have their final places."""
    figure.draw_without_rendering()  # the layout is known after it
    for axes, panel in zip(grid, scene.panels, strict=False):
        texts = [shortened(drawable(point.label, known), _LABEL) for point in panel.points]
        anchors = [_pixels(axes, point) for point in panel.points]
        sizes = [_size(figure, text) for text in texts]
        inside = axes.get_window_extent()
        frame = Box(inside.x0, inside.y0, inside.x1, inside.y1)
        bars = [_bar(axes, point) for point in panel.points]
        boxes = place(anchors, sizes, frame, [*bars, *_front(axes, panel)])
        for point, text, anchor, box in zip(panel.points, texts, anchors, boxes, strict=True):
            if text:
                _write(axes, point, text, anchor, box)
    figure.set_layout_engine("none")  # labels do not move what they were placed on


def _write(axes: Axes, point: Point, text: str, anchor: tuple[float, float], box: Box) -> None:
    """Trap: a place is told as a distance in points; pixels of this canvas are others in a PNG."""
    x, y = anchor
    gap = math.hypot(max(box.left - x, x - box.right, 0.0), max(box.bottom - y, y - box.top, 0.0))
    line = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.4, "shrinkA": 0.5, "shrinkB": 2.5}
    axes.annotate(
        text,
        xy=(point.x, point.y),
        xytext=((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y),
        textcoords="offset points",
        ha="center",
        va="center",
        color="#222222",
        arrowprops=line if gap > _FAR else None,
        zorder=4,
    )


def _pixels(axes: Axes, point: Point) -> tuple[float, float]:
    x, y = axes.transData.transform((point.x, point.y))
    return float(x), float(y)


def _bar(axes: Axes, point: Point) -> Box:
    """What an interval takes on the canvas."""
    x, low = axes.transData.transform((point.x, point.y if point.low is None else point.low))
    high = axes.transData.transform((point.x, point.y if point.high is None else point.high))[1]
    return Box(float(x) - 1, float(low), float(x) + 1, float(high))


def _front(axes: Axes, panel: Panel) -> list[Box]:
    """What the steps of the front take on the canvas: each runs along one axis."""
    corners = [axes.transData.transform(corner) for corner in panel.front]
    return [
        Box(
            min(float(x), float(next_x)) - 1,
            min(float(y), float(next_y)) - 1,
            max(float(x), float(next_x)) + 1,
            max(float(y), float(next_y)) + 1,
        )
        for (x, y), (next_x, next_y) in pairwise(corners)
    ]


def _size(figure: Figure, text: str) -> tuple[float, float]:
    """Width and height of a label on the canvas, one point of air included."""
    if not text:
        return 0.0, 0.0
    written = figure.text(0, 0, text)
    box = written.get_window_extent()
    written.remove()
    return float(box.width) + 1.0, float(box.height) + 0.5


def _scatter(axes: Axes, panel: Panel) -> None:
    smallest, largest = (pick(point.x for point in panel.points) for pick in (min, max))
    if largest > _WIDE_RANGE * smallest > 0:
        _logarithmic(axes, smallest, largest)
    if drawn(panel):
        xs, ys = zip(*panel.front, strict=True)
        axes.plot(xs, ys, color="#777777", linestyle="--", linewidth=0.8, zorder=1.5)
    for point in panel.points:
        _mark(axes, point, faint=True)
    axes.margins(_MARGIN, _MARGIN)
    _cap(axes, panel)


def _curves(axes: Axes, panel: Panel, scene: Scene) -> None:
    lines: dict[int, list[Point]] = defaultdict(list)
    for point in panel.points:
        lines[point.series].append(point)
    for series, points in lines.items():
        look = {**style(series), "marker": "none"}
        axes.plot([p.x for p in points], [p.y for p in points], linewidth=1.0, zorder=2, **look)
        for point in points:
            _mark(axes, point)
    axes.set_xticks([position for position, _ in scene.ticks], [name for _, name in scene.ticks])
    axes.set_xlim(-0.5, len(scene.ticks) - 0.5)
    axes.margins(y=_MARGIN)
    _cap(axes, panel)


def _deltas(axes: Axes, panel: Panel) -> None:
    axes.axvline(0.0, color="#222222", linewidth=0.7, zorder=1.5)
    for point in panel.points:
        _mark(axes, point, across=True)
    axes.margins(x=_MARGIN)
    axes.grid(visible=False, axis="y")


def _mark(axes: Axes, point: Point, *, across: bool = False, faint: bool = False) -> None:
    """A marker over its interval, which lies along y, or along x; `faint`: where labels may lie over it."""
    look = style(point.series)
    if point.low is not None and point.high is not None:
        value = point.x if across else point.y
        reach = [[max(0.0, value - point.low)], [max(0.0, point.high - value)]]
        way: dict[str, Any] = {"xerr": reach} if across else {"yerr": reach}
        bar = {"ecolor": look["color"], "elinewidth": 0.7, "capthick": 0.7, "capsize": 0.0 if faint else 1.8}
        axes.errorbar([point.x], [point.y], fmt="none", alpha=0.4 if faint else 1.0, **bar, **way)
    face = "white" if point.hollow else look["color"]
    look = {**look, "linestyle": "none", "markerfacecolor": face}
    axes.plot([point.x], [point.y], zorder=3, **look)


def _cap(axes: Axes, panel: Panel) -> None:
    """An axis of percent shows nothing above 100 or below 0, but the marker at its end in full."""
    if panel.ceiling is None:
        return
    low, high = axes.get_ylim()
    span = high - low
    axes.set_ylim(max(low, -0.04 * span), min(high, panel.ceiling + 0.04 * span))


def _logarithmic(axes: Axes, smallest: float, largest: float) -> None:
    """Ticks at 1, 2 and 5 in plain figures: matplotlib would write powers with its own markup."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    decades = range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    inside = [tick for tick in ticks if smallest / 1.5 <= tick <= largest * 1.5]
    axes.set_xticks(inside, [f"{tick:g}" for tick in inside])
    axes.xaxis.set_minor_locator(NullLocator())
