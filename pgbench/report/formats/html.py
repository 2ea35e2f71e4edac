"""Grids, figures and methods as one self-contained HTML file: no outside request, light and dark, for phones.

Scripts run by their hash alone (Content-Security-Policy); the data of the tables are in the page as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from pgbench.report.formats import documents
from pgbench.report.formats.documents import plain
from pgbench.report.formats.heads import Head, checked, levels, signs
from pgbench.report.formats.words import LONGEST_PROSE, breakable, shown
from pgbench.report.grid import Entry, Grid, Row

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


_COUNT = re.compile(r" \([0-9,]+ of [0-9,]+ cells, see footnotes\)$")  # of one table: see report.saying
_LARGER = 2.0  # letters of 6 points, which suit a printed column, on a screen


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing: `name` as in file names, `caption` a sentence, `svg` a whole SVG document."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows. `methods`: the paragraphs for an appendix; `command`: what made the page."""

    title: str
    grids: tuple[Grid, ...]
    figures: tuple[Figure, ...] = ()
    methods: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    behind: str
    interval: str
    bold: bool
    key: str  # what the column is sorted by: the exact value, or nothing
    word: bool  # no figure: failed, undefined, a dash


@dataclass(frozen=True, slots=True)
class _Line:
    heads: tuple[list[str], ...]  # in the pieces between which a line may break
    notes: str
    cells: tuple[_Cell, ...]
    published: bool


@dataclass(frozen=True, slots=True)
class _Head:
    text: str
    span: int
    start: int
    notes: str


@dataclass(frozen=True, slots=True)
class _Table:
    """A grid whose text can be shown; the template escapes it for HTML."""

    label: str
    caption: str
    warnings: tuple[str, ...]
    row_heads: tuple[str, ...]
    outer: tuple[tuple[_Head, ...], ...]
    inner: tuple[_Head, ...]
    lines: tuple[_Line, ...]
    remarks: tuple[str, ...]
    footnotes: tuple[str, ...]


def render(page: Page | Sequence[Grid]) -> str:
    """The whole file; grids alone make a page that is called after the first."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    whole = page if isinstance(page, Page) else _of_grids(page)
    loader = PackageLoader("pgbench.report.formats", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = _asset("page.js")
    tables = [_table(grid, number) for number, grid in enumerate(checked(whole.grids), start=1)]
    values = {
        "title": shown(whole.title),
        "policy": f"{_POLICY}; script-src '{_digest(script)}'",
        "style": _asset("page.css"),
        "script": script,
        "tables": tables,
        "warnings": tuple(dict.fromkeys(_COUNT.sub("", text) for table in tables for text in table.warnings)),
        "figures": [_drawn(figure) for figure in whole.figures],
        "methods": [shown(part, 10**6) for part in whole.methods.split("\n")],
        "command": shown(whole.command, LONGEST_PROSE),
        "data": _data(whole.grids),
    }
    return environment.get_template("page.html").render(values)


def _of_grids(grids: Sequence[Grid]) -> Page:
    return Page(grids[0].caption if grids else "pgbench", tuple(grids))


def _asset(name: str) -> str:
    return (files("pgbench.report.formats") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(grids: Sequence[Grid]) -> str:
    """JSON that cannot end the element it stands in."""
    text = documents.render(grids)
    for sign in "<>&":
        text = text.replace(sign, rf"\u{ord(sign):04x}")
    return text


def _drawn(figure: Figure) -> dict[str, str]:
    """As an image, not as elements: a browser runs no script of an image and fetches nothing for it, and
    two drawings cannot mix their ids and styles."""
    code = base64.b64encode(figure.svg.encode(errors="backslashreplace")).decode()
    source = f"data:image/svg+xml;base64,{code}"
    caption = shown(figure.caption, LONGEST_PROSE)
    return {
        "name": shown(figure.name),
        "caption": caption,
        "alt": caption.partition(". ")[0],  # the rest stands below, where a screen reader reads it
        "width": _pixels(figure.svg),
        "source": source,
    }


def _pixels(svg: str) -> str:
    """How wide a drawing is shown where there is room; "": as it is."""
    found = re.search(r'<svg\b[^>]*?\swidth="([0-9]{1,4}(?:\.[0-9]+)?)pt"', svg)
    return str(round(float(found[1]) * _LARGER)) if found else ""


def _table(grid: Grid, number: int) -> _Table:
    lines = levels(grid.columns)
    return _Table(
        label=f"table-{number}",
        caption=_prose([grid.caption])[0],
        warnings=_prose(grid.warnings),
        row_heads=tuple(shown(name) for name in grid.row_heads),
        outer=tuple(tuple(map(_head, line)) for line in lines[:-1]),
        inner=tuple(map(_head, lines[-1])) if lines else (),
        lines=tuple(map(_line, grid.rows)),
        remarks=_prose(grid.remarks),
        footnotes=_prose(grid.footnotes),
    )


def _prose(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown(text, LONGEST_PROSE) for text in texts)


def _head(head: Head) -> _Head:
    return _Head(shown(head.text), head.span, head.start, ",".join(map(str, head.notes)))


def _line(row: Row) -> _Line:
    heads = tuple(breakable(shown(head)) for head in row.heads)
    return _Line(heads, ",".join(map(str, row.notes)), tuple(map(_cell, row.entries)), row.published)


def _cell(entry: Entry) -> _Cell:
    value = plain(entry.data.get("value"))
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    behind = ",".join(shown(sign) for sign in signs(entry))
    return _Cell(
        text=shown(entry.text) or "–",
        behind=behind,
        interval=shown(entry.interval),
        bold=entry.bold,
        key=repr(value) if known else "",
        word=not any(map(str.isdigit, entry.text)),
    )
