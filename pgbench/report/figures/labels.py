"""Where labels go so that none hides another or a point. Pure: boxes in points of 1/72 inch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_ANGLES = (0, 90, 270, 180, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 112, 248)  # the best first
_REACHES = (4.0, 8.0, 13.0, 19.0, 26.0, 34.0, 44.0, 56.0)
_MARKER = 3.2  # half the side of what a marker takes
_ROUNDS = 4


class Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that two boxes have in common."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return wide * high if wide > 0 and high > 0 else 0.0


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    bars: Sequence[Box] = (),
) -> list[Box]:
    """A box for each label, beside its anchor: greedily, then each again while the others stay.

    Labels without a size take no place. `bars` are better left free too, but hide nothing.
    """
    markers = [Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in anchors]
    choices = [_around(*anchor, *size) for anchor, size in zip(anchors, sizes, strict=True)]
    placed: dict[int, Box] = {}
    order = [index for index, (wide, _) in enumerate(sizes) if wide > 0]
    for _ in range(_ROUNDS):
        for index in order:
            others = [*markers, *(box for other, box in placed.items() if other != index)]
            costs = [
                _outside(box, frame) + _hidden(box, others) + 0.15 * _hidden(box, bars) + 0.02 * rank
                for rank, box in enumerate(choices[index])
            ]
            placed[index] = choices[index][costs.index(min(costs))]
    empty = [Box(x, y, x, y) for x, y in anchors]
    return [placed.get(index, box) for index, box in enumerate(empty)]


def _around(x: float, y: float, wide: float, high: float) -> list[Box]:
    """Places for a label, the near ones first."""
    found = []
    for reach in _REACHES:
        for angle in _ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The middle is moved so far that the label's edge, not its middle, is `reach` away.
            cx, cy = x + dx * (reach + wide / 2), y + dy * (reach + high / 2)
            found.append(Box(cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2))
    return found


def _outside(box: Box, frame: Box) -> float:
    """The share of a label that is cut off, worth much more than what it could hide."""
    area = max((box.right - box.left) * (box.top - box.bottom), 1e-9)
    return 50 * (1 - box.shared(frame) / area)


def _hidden(box: Box, others: Sequence[Box]) -> float:
    return sum(box.shared(other) for other in others)
