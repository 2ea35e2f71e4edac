"""Grids as Markdown tables that GitHub renders. Pure.

Text is escaped for GitHub: no HTML, link, mention, issue reference, formula or template comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pgbench.report.formats.heads import checked, signs
from pgbench.report.formats.words import LONGEST_NAME, prose, shown
from pgbench.report.grid import Column, Entry, Grid, Row

_SPECIAL = re.compile(r"[\\`*{}\[\]<>&|~$@#!]|(?<=\{)%|(?<![^\W_])_|_(?![^\W_])|:(?=/|:)|(?i:(?<=www)\.)")
# GitHub looks for mentions, issue numbers and formulas after Markdown is HTML, where escapes are gone: a
# character of no width, or an element, must stand between.
_ESCAPES = {
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "@": "@&#8203;",
    "#": r"\#&#8203;",
    "$": "<span>$</span>",
}
_STARTS = re.compile(r"^(?=[-+=])|^(\d+)(?=[.)])")


def render(grids: Sequence[Grid]) -> str:
    """A heading, warnings, the table, remarks and numbered footnotes for each grid."""
    return "\n".join("\n".join(_lines(grid)) for grid in checked(grids))


def escaped(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Text that Markdown leaves as it is.

    >>> escaped("exact_match *a|b* <b> @you")
    'exact_match \\*a\\|b\\* &lt;b&gt; @&#8203;you'
    """
    clean = shown(text, longest).strip()
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"\\{found[0]}"), clean)


def _sentence(text: str) -> str:
    """Escaped also where it begins a line: no list, no heading."""
    return _STARTS.sub(lambda found: f"{found[1] or ''}\\", escaped(prose(text), 10**9))


def _lines(grid: Grid) -> Iterator[str]:
    yield f"### {_sentence(grid.caption or grid.name)}"
    yield ""
    for warning in filter(str.strip, grid.warnings):
        yield f"> **{_sentence(warning)}**\n"
    yield _joined([*map(escaped, grid.row_heads), *map(_column, grid.columns)])
    yield _joined([*[":--"] * len(grid.row_heads), *["--:"] * len(grid.columns)])
    for row in grid.rows:
        yield _joined([*_row_heads(row), *map(_entry, row.entries)])
    yield ""
    for number, note in enumerate(grid.footnotes, start=1):
        yield f"{number}. {_sentence(note)}"
    if grid.footnotes:
        yield ""
    for remark in filter(str.strip, grid.remarks):
        yield f"{_sentence(remark)}\n"


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _column(column: Column) -> str:
    return "<br>".join(escaped(head) for head in column.heads if head) + _raised(column.notes)


def _row_heads(row: Row) -> list[str]:
    heads = [escaped(head) for head in row.heads]
    if row.published:
        heads[:1] = [f"*{heads[0]}*"] if heads and heads[0] else heads[:1]
    return [*heads[:-1], heads[-1] + _raised(row.notes)] if heads else heads


def _entry(entry: Entry) -> str:
    figure = escaped(entry.text) or "–"
    behind = [escaped(sign) for sign in signs(entry)]
    interval = f"<br>{escaped(entry.interval)}" if entry.interval else ""
    return (f"**{figure}**" if entry.bold else figure) + _raised(behind) + interval


def _raised(signs: Sequence[object]) -> str:
    return f"<sup>{','.join(map(str, signs))}</sup>" if signs else ""
