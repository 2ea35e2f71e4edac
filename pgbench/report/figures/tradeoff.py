"""Accuracy against what it costs: memory, and throughput on one device. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgbench.report.axes import device
from pgbench.report.figures import captions
from pgbench.report.figures.cells import Cell, listed, measured, panels
from pgbench.report.figures.front import front, steps
from pgbench.report.figures.scene import Panel, Point, Scene, Sketch

_GIB, _MIB = 1 << 30, 1 << 20
_TELLABLE = 24  # checkpoints; more of them cannot be told apart by marker and colour
_LABELLED = 16  # points of a panel; of more, only those on the front have a label


@dataclass(frozen=True, slots=True)
class Axis:
    """What x is. `value`: None where a record lacks it, with `lacking` as the reason."""

    name: str  # of the figure
    title: str
    label: str  # with the unit
    value: Callable[[Cell], float | None]
    up: bool  # more is better
    lacking: str
    remark: str = ""


def memory(cells: Sequence[Cell]) -> Sketch:
    """Accuracy against peak device memory, or against weight bytes where peaks cannot be compared."""
    why = _incomparable(cells)
    values = [_weights(cell) if why else _peak(cell) for cell in cells]
    large = max((value for value in values if value), default=0.0) >= _GIB / 4
    unit, size = ("GiB", _GIB) if large else ("MiB", _MIB)
    source = _weights if why else _peak

    def scaled(cell: Cell) -> float | None:
        value = source(cell)
        return None if value is None else value / size

    if why:
        remark = f"Memory is that of all weights as stored, quantization state included, since {why}"
        return _sketch(cells, _axis("memory", "weights", unit, scaled, "no weight bytes", remark))
    record = cells[0].record
    where = f"{device(cells[0].record)}, batch {record.spec.batch}"
    remark = f"Memory is the most that was allocated on the device ({where})"
    return _sketch(cells, _axis("memory", "peak device memory", unit, scaled, "no peak memory", remark))


def throughput(cells: Sequence[Cell]) -> list[Sketch]:
    """Accuracy against samples per second: a figure for each device, since speeds of two do not compare."""
    by_device: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_device[device(cell.record)].append(cell)
    found = []
    for number, (name, group) in enumerate(by_device.items(), start=1):
        batches = sorted({cell.record.spec.batch for cell in group})
        batch = f"batch {batches[0]}" if len(batches) == 1 else f"batches of {listed(map(str, batches))}"
        other = "; speeds on other devices are in figures of their own" if len(by_device) > 1 else ""
        where = name or "no named device"
        remark = f"Generated samples per second on {where}, {batch}, warm-up excluded{other}"
        axis = Axis(
            f"accuracy-throughput{f'-{number}' if len(by_device) > 1 else ''}",
            "Accuracy against throughput",
            "samples per second",
            lambda cell: cell.record.cost.samples_per_second,
            True,
            "no sample was timed",
            remark,
        )
        found.append(_sketch(group, axis))
    return found


def _axis(
    short: str, what: str, unit: str, value: Callable[[Cell], float | None], lacking: str, remark: str
) -> Axis:
    return Axis(
        f"accuracy-{short}", f"Accuracy against {what}", f"{what} ({unit})", value, False, lacking, remark
    )


def _incomparable(cells: Sequence[Cell]) -> str:
    """Why peaks of these cells do not belong on one axis; "" if they do."""
    costs = [cell.record.cost for cell in cells]
    if any(cost.peak_memory.kind != "device allocated" or not cost.peak_memory.bytes for cost in costs):
        return "not every cell ran on a device that counts what is allocated"
    if len({device(cell.record) for cell in cells}) > 1:
        return "the cells ran on several devices"
    if len({cell.record.spec.batch for cell in cells}) > 1:
        return "the cells ran with several batch sizes, which peak memory depends on"
    return ""


def _peak(cell: Cell) -> float | None:
    return float(cell.record.cost.peak_memory.bytes) or None


def _weights(cell: Cell) -> float | None:
    return float(cell.record.cost.weight_bytes) or None


def _sketch(cells: Sequence[Cell], axis: Axis) -> Sketch:
    lacking = [f"{cell.task}, {cell.name}" for cell in cells if not axis.value(cell)]
    shown, alone = [], []
    for group in panels(cell for cell in cells if axis.value(cell)).values():
        if len(group) > 1:
            shown += group
        else:
            alone.append(f"{group[0].task}, {group[0].name}")
    left = captions.grouped({axis.lacking: lacking, "the only point of its task": alone})
    series = tuple(dict.fromkeys(cell.series for cell in shown))
    if not shown or len(series) > _TELLABLE:
        many = f"{len(series)} checkpoints are more than can be told apart ({_TELLABLE}); name fewer runs"
        why = many if shown else "no task has two cells with both a score and this cost"
        return Sketch(axis.name, axis.title, captions.sentence(f"Nothing drawn: {why}"), None)
    drawn = [_panel(group, axis, series) for group in panels(shown).values()]
    caption = captions.sentence(
        axis.title,
        captions.over(shown),
        axis.remark,
        captions.intervals(shown),
        "Labels name the number format",
        _front_words(shown, axis),
        captions.hollow(shown),
        captions.missing(left),
    )
    return Sketch(axis.name, axis.title, caption, Scene(axis.name, "scatter", tuple(drawn), series))


def _panel(cells: Sequence[Cell], axis: Axis, series: Sequence[str]) -> Panel:
    on_front = _front(cells, axis)
    points = [
        Point(
            axis.value(cell) or 0.0,
            cell.y,
            *cell.bounds,
            series=series.index(cell.series),
            label=cell.level if len(cells) <= _LABELLED or index in on_front else "",
            hollow=bool(cell.doubts),
        )
        for index, cell in enumerate(cells)
    ]
    corners = [(points[index].x, points[index].y) for index in on_front]
    return panel_of(cells, axis.label, tuple(points), steps(corners, x_up=axis.up))


def panel_of(
    cells: Sequence[Cell],
    x_label: str,
    points: tuple[Point, ...],
    front: tuple[tuple[float, float], ...] = (),
) -> Panel:
    """A panel with its score on the y axis."""
    first = cells[0]
    unit = "" if first.score.number else " (%)"
    down = ", lower is better" if first.direction == "down" else ""
    ceiling = None if first.score.number else 100.0
    title = f"{first.task}, {measured(cells)}"
    return Panel(title, x_label, f"{first.metric}{unit}{down}", points, front, ceiling)


def _front(cells: Sequence[Cell], axis: Axis) -> list[int]:
    """Indices of the cells on the front, among those without a doubt where there are any."""
    if cells[0].direction is None:
        return []
    trusted = [index for index, cell in enumerate(cells) if not cell.doubts] or list(range(len(cells)))
    points = [(axis.value(cells[index]) or 0.0, cells[index].y) for index in trusted]
    return [trusted[index] for index in front(points, x_up=axis.up, y_up=cells[0].direction == "up")]


def _front_words(cells: Sequence[Cell], axis: Axis) -> str:
    parts, alone, unknown = [], [], []
    for (task, metric), group in panels(cells).items():
        on_front = [group[index] for index in _front(group, axis)]
        names = [cell.name for cell in on_front]
        if len({(axis.value(cell), cell.y) for cell in on_front}) == 1:
            alone.append(f"{task}: {listed(names)}")
        elif names:
            parts.append(f"{task}: {listed(names)}")
        else:
            unknown.append(f"{task} ({metric})")
    words = "Dashed: the Pareto front of the values as measured, whatever their intervals"
    mixed = any(cell.doubts for cell in cells) and not all(cell.doubts for cell in cells)
    words += "; hollow points are on it only where all of a task's are" if mixed else ""
    lacking = (
        f"No front where it is not known which direction is better: {listed(unknown)}" if unknown else ""
    )
    best = f"Best on both axes, so that no front is drawn: {'; '.join(alone)}" if alone else ""
    return captions.sentence(f"{words}. On it: {'; '.join(parts)}" if parts else "", best, lacking)
