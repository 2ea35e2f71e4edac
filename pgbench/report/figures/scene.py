"""What a figure shows, before it is painted. Pure: fractions are percent here, bytes are GiB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = Literal["scatter", "curves", "deltas"]


@dataclass(frozen=True, slots=True)
class Point:
    """One cell. `series` chooses its marker, colour and line; the interval belongs to the score."""

    x: float
    y: float
    low: float | None
    high: float | None
    series: int  # index into Scene.series
    label: str = ""  # beside the point
    hollow: bool = False  # something is to be known about it; the caption says what


@dataclass(frozen=True, slots=True)
class Panel:
    """One task's part. `front`: the corners of the Pareto front, from left to right."""

    title: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...] = ()
    ceiling: float | None = None  # of the y axis: nothing is above it


@dataclass(frozen=True, slots=True)
class Scene:
    """All of a figure. `ticks`: positions with their names, x of curves, y (from the top) of deltas."""

    name: str
    shape: Shape
    panels: tuple[Panel, ...]
    series: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sketch:
    """A scene with its words, or, where `scene` is None, the reason why there is none in `caption`."""

    name: str
    title: str
    caption: str
    scene: Scene | None
