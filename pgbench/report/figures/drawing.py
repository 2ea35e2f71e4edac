"""From records to figures, and from figures to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench.errors import UsageError, unknown
from pgbench.records import RunRecord
from pgbench.report.figures import cells, resolution, tradeoff
from pgbench.report.figures.canvas import Format, paint
from pgbench.report.figures.captions import missing, sentence
from pgbench.report.figures.deltas import Spans, differences
from pgbench.report.figures.inline import HEADER, inlined
from pgbench.report.figures.scene import Scene, Sketch
from pgbench.report.render import printable
from pgbench.types import Quant, Task

_LEVELS: tuple[Quant, ...] = ("none", "8bit", "4bit", "fp4")
FORMATS: tuple[Format, ...] = ("svg", "pdf", "png")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its words, which are raw text: whoever writes a format escapes for it.

    `svg` can stand in a page as it is, beside others. It is "" where nothing could be drawn; `caption` then
    says why.
    """

    name: str  # of its files and ids: [a-z0-9-], each once
    title: str
    caption: str
    alt: str  # for those who do not see it
    svg: str
    scene: Scene | None = None


def draw(
    records: Sequence[RunRecord],
    *,
    tasks: Mapping[str, Task] | None = None,
    metric: str | None = None,
    paired: Spans | None = None,
) -> tuple[Figure, ...]:
    """Accuracy against memory and throughput, accuracy over resolution, quantization deltas.

    `tasks`: by name, for which direction of a metric is better (no Pareto front without). `metric`: instead
    of each record's primary one. `paired`: (key of the bfloat16 record, key of the quantized one) -> the
    paired difference, as fractions; cells without get the unpaired interval, and the caption says so.
    """
    found, lacking = cells.of(sorted(records, key=_place), tasks or {}, metric)
    if not found:
        why = "no record has a score" if records else "there are no records"
        return (
            _figure(Sketch("figures", "Figures", sentence(f"Nothing drawn: {why}", missing(lacking)), None)),
        )
    sketches = (
        tradeoff.memory(found),
        *tradeoff.throughput(found),
        resolution.curves(found),
        differences(found, paired or {}),
    )
    return tuple(_figure(sketch, lacking) for sketch in sketches)


def _place(record: RunRecord) -> tuple[str, int, int]:
    """Where a cell stands in legends and rows, whatever order its folder was found in."""
    point = record.spec.checkpoint
    return point.id, point.resolution, _LEVELS.index(point.quant)


def save(figures: Sequence[Figure], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write each figure that was drawn, in each format, with its caption in NAME.txt; the files written.

    Raises UsageError for an unknown format, and for a folder that is a file; OSError where it cannot write.
    """
    for form in formats:
        if form not in FORMATS:
            raise UsageError(unknown("figure format", form, FORMATS))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; expected a folder for figures; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures:
        if figure.scene is None:
            continue
        for form in FORMATS:
            if form in formats:
                written.append(folder / f"{figure.name}.{form}")
                svg = f"{HEADER}{figure.svg}".encode()
                written[-1].write_bytes(svg if form == "svg" else paint(figure.scene, form))
        written.append(folder / f"{figure.name}.txt")
        written[-1].write_text(f"{printable(figure.caption)}\n", encoding="utf-8")
    return written


def _figure(sketch: Sketch, lacking: Sequence[str] = ()) -> Figure:
    if sketch.scene is None:  # why nothing is drawn is enough: the list of all cells would not be read
        return Figure(sketch.name, sketch.title, sketch.caption, sketch.title, "")
    caption = sentence(sketch.caption, missing(lacking))
    alt = _alt(sketch.title, sketch.scene)
    svg = inlined(paint(sketch.scene, "svg").decode(), sketch.name, sketch.title, alt)
    return Figure(sketch.name, sketch.title, caption, alt, svg, sketch.scene)


def _alt(title: str, scene: Scene) -> str:
    """Every point in words: those who do not see a figure get its numbers."""
    parts = [f"{title}."]
    for panel in scene.panels:
        told = []
        for point in panel.points:
            name = ", ".join(part for part in (_row(scene, point.y, point.series), point.label) if part)
            known = point.low is not None and point.high is not None
            bounds = f" (95 % interval {point.low:.2f} to {point.high:.2f})" if known else ""
            x, y = (point.x, "") if scene.shape == "deltas" else (_x(scene, point.x), f", {point.y:.2f}")
            told.append(f"{name}: {x if isinstance(x, str) else f'{x:.2f}'}{y}{bounds}")
        axes = " and ".join(part for part in (panel.x_label, panel.y_label) if part)
        parts.append(f"{panel.title}; {axes}: {'; '.join(told)}.")
    return " ".join(parts)


def _row(scene: Scene, y: float, series: int) -> str:
    return dict(scene.ticks)[y] if scene.shape == "deltas" else scene.series[series]


def _x(scene: Scene, x: float) -> str | float:
    return dict(scene.ticks)[round(x)] if scene.shape == "curves" else x
