"""The Pareto front: the points that no other point beats on both axes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def front(points: Sequence[tuple[float, float]], *, x_up: bool, y_up: bool) -> list[int]:
    """Indices of the points on the front, from left to right. `x_up`: more is better along x.

    A point is off the front where another is at least as good on both axes and better on one; of equal
    points all are on it.

    >>> front([(6.0, 60.0), (3.0, 59.8), (2.0, 58.7), (4.0, 59.0)], x_up=False, y_up=True)
    [2, 1, 0]
    """
    good = [(x if x_up else -x, y if y_up else -y) for x, y in points]
    kept: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(good)), key=lambda index: good[index], reverse=True):
        equal = bool(kept) and good[kept[-1]] == good[index]
        if good[index][1] > best or equal:
            kept.append(index)
            best = max(best, good[index][1])
    return sorted(kept, key=lambda index: points[index])


def steps(corners: Sequence[tuple[float, float]], *, x_up: bool) -> tuple[tuple[float, float], ...]:
    """The staircase through a front's points: between two of them only the poorer y can be had.

    >>> steps([(2.0, 58.7), (3.0, 59.8)], x_up=False)
    ((2.0, 58.7), (3.0, 58.7), (3.0, 59.8))
    """
    line = list(corners[:1])
    for (x, y), (next_x, next_y) in pairwise(corners):
        line += [(x, next_y) if x_up else (next_x, y), (next_x, next_y)]
    return tuple(line)
