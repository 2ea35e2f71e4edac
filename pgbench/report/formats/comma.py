"""Grids as CSV in long form: a line for each figure, for spreadsheets and data frames. Pure.

A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay numbers. Controls
and invisible characters are written as backslash escapes. The JSON format has every text as it came.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence

from pgbench.report.formats.documents import plain
from pgbench.report.formats.heads import checked
from pgbench.report.grid import Column, Entry, Grid, Row
from pgbench.report.render import printable

# "Formula injection": what Excel, LibreOffice and Google Sheets begin a formula with, full-width signs too.
_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FIRST = ("value", "low", "high", "n", "failed", "unit")  # of the data, where there are any
_SAID = ("text", "interval", "bold", "mark", "notes", "remarks", "warnings")


def render(grids: Sequence[Grid]) -> str:
    """Columns: table, "row NAME" for each column of heads, "column 1" (outermost) and on, role, published;
    the machine data, value, low, high, n, failed, unit first; what was printed; footnotes, remarks and
    warnings as text, several joined by " | ". Lines end in a newline alone.
    """
    lines = [
        _line(grid, row, column, entry)
        for grid in checked(grids)
        for row in grid.rows
        for column, entry in zip(grid.columns, row.entries, strict=True)
    ]
    data = _data_names([entry for grid in grids for row in grid.rows for entry in row.entries])
    others = [*_head_names(grids), *_SAID]
    fields = [*others[: -len(_SAID)], *data, *_SAID]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([cell(_title(name, others)) for name in fields])
    writer.writerows([cell(line.get(name)) for name in fields] for line in lines)
    return out.getvalue()


def _title(name: str, others: Sequence[str]) -> str:
    """A field of the data is called as it is there, unless another column is."""
    short = name.removeprefix("data ")
    return name if short in others else short


def cell(value: object) -> object:
    """A value as it is written: numbers as they are, text that no spreadsheet runs."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=True)
    clean = printable(text)
    run = _FORMULA.match(text) or _FORMULA.match(clean)
    return f"'{clean}" if run and not _NUMBER.fullmatch(text) else clean


def _head_names(grids: Sequence[Grid]) -> list[str]:
    rows = [name for grid in grids for name in _row_names(grid)]
    depth = max((len(column.heads) for grid in grids for column in grid.columns), default=0)
    columns = [f"column {level}" for level in range(1, depth + 1)]
    return list(dict.fromkeys(["table", *rows, *columns, "role", "published"]))


def _row_names(grid: Grid) -> list[str]:
    """Two columns of heads may have one name; two fields of a CSV may not."""
    names: list[str] = []
    for head in grid.row_heads:
        name, count = f"row {head}", 2
        while name in names:
            name, count = f"row {head} {count}", count + 1
        names.append(name)
    return names


def _data_names(entries: Sequence[Entry]) -> list[str]:
    found = dict.fromkeys(str(key) for entry in entries for key in entry.data)
    return [f"data {name}" for name in dict.fromkeys([*(one for one in _FIRST if one in found), *found])]


def _line(grid: Grid, row: Row, column: Column, entry: Entry) -> Mapping[str, object]:
    notes = dict.fromkeys([*row.notes, *column.notes, *entry.notes])
    return {
        "table": grid.name,
        **dict(zip(_row_names(grid), row.heads, strict=True)),
        **{f"column {level}": head for level, head in enumerate(column.heads, start=1)},
        "role": column.role,
        "published": row.published or column.role == "published",
        **{f"data {key}": value for key, value in entry.data.items()},
        "text": entry.text,
        "interval": entry.interval,
        "bold": entry.bold,
        "mark": entry.mark,
        "notes": " | ".join(grid.footnotes[note - 1] for note in notes if 0 < note <= len(grid.footnotes)),
        "remarks": " | ".join(grid.remarks),
        "warnings": " | ".join(grid.warnings),
    }
