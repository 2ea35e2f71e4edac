"""Grids as aligned text. Pure; whoever prints says how wide the terminal is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from pgbench.report.formats.heads import Head, checked, levels, repeated
from pgbench.report.formats.words import LONGEST_NAME, LONGEST_PROSE, shown, uncommanded, wrapped
from pgbench.report.grid import Entry, Grid
from pgbench.report.render import width

_HEAD, _NAME, _PROSE, _GAP = 16, 36, 100, 2  # columns of a terminal; heads and names are wrapped to these
_BEST = "> stands where other formats print bold."


def render(grids: Sequence[Grid], columns: int = 0) -> str:
    """Caption, warnings, table, remarks and footnotes of each grid.

    A table wider than `columns` (0: no limit) goes on below with its row heads again; figures are never cut.
    """
    return "\n".join("\n".join(_lines(grid, columns)) + "\n" for grid in checked(grids))


def _lines(grid: Grid, columns: int) -> Iterator[str]:
    limit = columns or _PROSE
    yield from _sentence(grid.caption, limit)
    for warning in grid.warnings:
        yield from _sentence(warning, limit, "! ")
    yield ""
    for start, stop in _parts(grid, columns):
        rows = tuple(replace(row, entries=row.entries[start:stop]) for row in grid.rows)
        yield from _table(replace(grid, columns=grid.columns[start:stop], rows=rows))
    if any(entry.bold for row in grid.rows for entry in row.entries):
        yield _BEST
    for remark in grid.remarks:
        yield from _sentence(remark, limit)
    for number, note in enumerate(grid.footnotes, start=1):
        yield from _sentence(note, limit, f"[{number}] ")


def _clean(text: str, longest: int = LONGEST_NAME) -> str:
    return uncommanded(shown(text, longest))


def _sentence(text: str, limit: int, first: str = "") -> list[str]:
    """Wrapped, with a sign in front of the first line."""
    lines = wrapped(_clean(text, LONGEST_PROSE), max(20, limit - len(first)), names=False)
    return [(" " * len(first) if i else first) + line for i, line in enumerate(lines)]


def _parts(grid: Grid, columns: int) -> list[tuple[int, int]]:
    """Ranges of columns that fit side by side, at least one column in each."""
    count, starts = len(grid.columns), [0]
    for i in range(1, count) if columns else ():
        if not _fits(grid, starts[-1], i, columns):
            score = _score_of(grid, i)
            starts.append(score if starts[-1] < score and _fits(grid, score, i, columns) else i)
    return list(zip(starts, [*starts[1:], count], strict=True))


def _fits(grid: Grid, first: int, last: int, columns: int) -> bool:
    rows = tuple(replace(row, entries=row.entries[first : last + 1]) for row in grid.rows)
    part = replace(grid, columns=grid.columns[first : last + 1], rows=rows)
    return _total([*_names(part)[1], *_widths(part)]) <= columns


def _score_of(grid: Grid, i: int) -> int:
    """The score that a difference or a published number beside it is read together with."""
    while i > 0 and grid.columns[i].role in ("delta", "published"):
        i -= 1
    return i


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _table(grid: Grid) -> Iterator[str]:
    names, sizes = _names(grid)
    figures, widths = [_figures(grid, i) for i in range(len(grid.columns))], _widths(grid)
    rule = "─" * _total([*sizes, *widths])
    lines = levels(grid.columns)
    for line in lines[:-1]:
        yield from _outer(line, sizes, widths)
    spans = [_total(widths[head.start : head.start + head.span]) for head in (lines[-1] if lines else ())]
    heads = [_head(head, span) for head, span in zip(lines[-1] if lines else (), spans, strict=True)]
    yield from _band([*names[0], *heads], [*sizes, *spans], len(sizes), bottom=True)
    yield rule
    for i, row in enumerate(grid.rows):
        if i and row.published != grid.rows[i - 1].published:
            yield "┄" * len(rule)
        same = repeated(grid.rows, i)
        said = [[""] if j < same else cell for j, cell in enumerate(names[i + 1])]
        yield from _band([*said, *(column[i] for column in figures)], [*sizes, *widths], len(sizes))
    yield rule


def _names(grid: Grid) -> tuple[list[list[list[str]]], list[int]]:
    """Lines of each cell of the row heads, their own names first, and the widths of their columns."""
    texts = [[_clean(name) for name in grid.row_heads], *([*map(_clean, row.heads)] for row in grid.rows)]
    for row, line in zip(grid.rows, texts[1:], strict=True):
        line[-1:] = [f"{text}{_numbered(row.notes)}" for text in line[-1:]]
    cells = [[wrapped(text, _NAME) for text in line] for line in texts]
    widths = [max(width(line) for cell in column for line in cell) for column in zip(*cells, strict=True)]
    return cells, widths


def _figures(grid: Grid, i: int) -> list[list[str]]:
    """Lines of each figure of a column: figures end, and what stands behind them begins, in one place."""
    entries = [row.entries[i] for row in grid.rows]
    before, behind = [_figure(entry) for entry in entries], [_signs(entry) for entry in entries]
    left, right = max(map(width, before), default=0), max(map(width, behind), default=0)
    return [
        [
            " " * (left - width(text)) + text + sign + " " * (right - width(sign)),
            *([_clean(entry.interval)] if entry.interval else []),
        ]
        for entry, text, sign in zip(entries, before, behind, strict=True)
    ]


def _figure(entry: Entry) -> str:
    return (">" if entry.bold else "") + (_clean(entry.text) or "–")


def _signs(entry: Entry) -> str:
    return _clean(entry.mark) + _numbered(entry.notes)


def _numbered(notes: Sequence[int]) -> str:
    return f" [{','.join(map(str, notes))}]" if notes else ""


def _widths(grid: Grid) -> list[int]:
    """Of the columns of figures, widened where the heads above need it."""
    columns = [_figures(grid, i) for i in range(len(grid.columns))]
    widths = [max((width(line) for cell in column for line in cell), default=1) for column in columns]
    for line in reversed(levels(grid.columns)):
        for head in line:
            span = _total(widths[head.start : head.start + head.span])
            wanted = max(map(width, _head(head, span)))
            widths[head.start + head.span - 1] += max(0, wanted - span)
    return widths


def _head(head: Head, span: int) -> list[str]:
    return wrapped(_clean(head.text) + _numbered(head.notes), max(_HEAD, span))


def _outer(line: Sequence[Head], sizes: Sequence[int], widths: Sequence[int]) -> Iterator[str]:
    """Heads in the middle of a line drawn over their columns."""
    spans = [_total(widths[head.start : head.start + head.span]) for head in line]
    cells = [_head(head, span) if head.text else [""] for head, span in zip(line, spans, strict=True)]
    tallest = max(map(len, cells))
    for i in range(tallest):
        row = [cell[i - tallest + len(cell)] if i >= tallest - len(cell) else "" for cell in cells]
        drawn = [_over(text, span) for text, span in zip(row, spans, strict=True)]
        yield (" " * (_total(sizes) + _GAP if sizes else 0) + (" " * _GAP).join(drawn)).rstrip()


def _over(text: str, span: int) -> str:
    gap = span - width(text)
    fill = "─" if text and gap >= 4 else " "
    spaced = f" {text} " if text and gap >= 4 else text
    left = (span - width(spaced)) // 2
    return fill * left + spaced + fill * (span - width(spaced) - left)


def _band(
    cells: Sequence[Sequence[str]], widths: Sequence[int], left: int, *, bottom: bool = False
) -> Iterator[str]:
    """Cells of several lines side by side; the first `left` begin, the others end in one place."""
    tallest = max(map(len, cells), default=0)
    filled = [[*[""] * (tallest - len(cell) if bottom else 0), *cell] for cell in cells]
    for line in zip_longest(*filled, fillvalue=""):
        padded = []
        for i, (text, size) in enumerate(zip(line, widths, strict=True)):
            gap = " " * (size - width(text))
            padded.append(text + gap if i < left else gap + text)
        yield (" " * _GAP).join(padded).rstrip()
