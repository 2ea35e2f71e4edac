"""Grids as one JSON document: all that is in them, text as it came, in ASCII escapes. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from pgbench.report.formats.heads import checked
from pgbench.report.grid import Column, Entry, Grid, Row

SCHEMA = 1


def render(grids: Sequence[Grid]) -> str:
    """The document as text, with a final newline."""
    text = json.dumps(document(grids), ensure_ascii=True, allow_nan=False, indent=1)
    return text.replace("##[", r"#\u0023[") + "\n"  # a build log obeys "##["; it can only be inside a string


def document(grids: Sequence[Grid]) -> dict[str, object]:
    """Grids as JSON values. In `data` fractions are fractions; what is nan or infinite is null."""
    return {"schema": SCHEMA, "kind": "pgbench tables", "tables": [_grid(grid) for grid in checked(grids)]}


def _grid(grid: Grid) -> dict[str, object]:
    return {
        "name": grid.name,
        "caption": grid.caption,
        "warnings": list(grid.warnings),
        "row_heads": list(grid.row_heads),
        "columns": [_column(column) for column in grid.columns],
        "rows": [_row(row) for row in grid.rows],
        "footnotes": [{"number": n, "text": text} for n, text in enumerate(grid.footnotes, start=1)],
        "remarks": list(grid.remarks),
    }


def _column(column: Column) -> dict[str, object]:
    return {"heads": list(column.heads), "role": column.role, "notes": list(column.notes)}


def _row(row: Row) -> dict[str, object]:
    entries = [_entry(entry) for entry in row.entries]
    return {
        "heads": list(row.heads),
        "published": row.published,
        "notes": list(row.notes),
        "entries": entries,
    }


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "text": entry.text,
        "interval": entry.interval,
        "bold": entry.bold,
        "mark": entry.mark,
        "notes": list(entry.notes),
        "data": plain(entry.data),
    }


def plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
