"""Heads above heads, and the small signs behind a figure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgbench.report.grid import Column, Entry, Grid, Row


@dataclass(frozen=True, slots=True)
class Head:
    """A head over `span` columns from `start`; its text is raw."""

    text: str
    start: int
    span: int
    notes: tuple[int, ...] = ()


def levels(columns: Sequence[Column]) -> tuple[tuple[Head, ...], ...]:
    """Header lines, the outermost first; neighbours that are equal, and lie below equal heads, are one.

    A column with fewer heads than others has empty ones on top. Notes stand at the innermost head.
    """
    depth = max((len(column.heads) for column in columns), default=0)
    full = [("",) * (depth - len(column.heads)) + column.heads for column in columns]
    lines = []
    for level in range(depth):
        starts = [
            i for i, heads in enumerate(full) if not i or heads[: level + 1] != full[i - 1][: level + 1]
        ]
        spans = zip(starts, [*starts[1:], len(full)], strict=True)
        lines.append(tuple(_head(columns, full, level, start, stop) for start, stop in spans))
    return tuple(lines)


def _head(
    columns: Sequence[Column], full: Sequence[tuple[str, ...]], level: int, start: int, stop: int
) -> Head:
    inner = level == len(full[start]) - 1
    notes = {note for column in columns[start:stop] for note in column.notes} if inner else set()
    return Head(full[start][level], start, stop - start, tuple(sorted(notes)))


def signs(entry: Entry) -> tuple[str, ...]:
    """What stands behind a figure: its mark, then the numbers of its footnotes."""
    return (*([entry.mark] if entry.mark else []), *map(str, entry.notes))


def repeated(rows: Sequence[Row], index: int) -> int:
    """How many leading heads of a row are those of the row above, so that they need not be said again."""
    if not 0 < index < len(rows):
        return 0
    row = rows[index]
    if row.published != rows[index - 1].published or row.notes or rows[index - 1].notes:
        return 0
    above = rows[index - 1].heads
    same = 0
    while same < len(row.heads) - 1 and row.heads[same] == above[same]:
        same += 1
    return same


def checked(grids: Sequence[Grid]) -> Sequence[Grid]:
    """The same grids. Raises ValueError where a row has not one entry for each column and one head for each
    name of heads: a figure must never stand below another's head."""
    for grid in grids:
        for row in grid.rows:
            if (len(row.heads), len(row.entries)) != (len(grid.row_heads), len(grid.columns)):
                raise ValueError(
                    f"table {grid.name!r}: a row has {len(row.heads)} heads and {len(row.entries)} figures, "
                    f"expected {len(grid.row_heads)} and {len(grid.columns)}"
                )
    return grids
