r"""Grids as LaTeX tables that compile as they are: booktabs, graphicx, and rotating for very wide ones. Pure.

Not pandas' Styler.to_latex: it escapes neither captions nor labels, has no footnotes, rules below wide heads,
second lines or alignment on the decimal point, and one escape more than it knows (a cell that begins with a
bracket or a star) is needed for text that nobody vetted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from pgbench.report.formats.heads import Head, checked, levels, repeated, signs
from pgbench.report.formats.points import column, raised
from pgbench.report.formats.tex import LONGEST_CAPTION, escaped, prose, spelled
from pgbench.report.formats.words import shown, wrapped
from pgbench.report.grid import Grid, Row
from pgbench.report.render import width

_NAME, _HEAD = 32, 16  # letters in a line of a row's or a column's head
_LINES = 44  # printed lines of a table that one page takes
_ONE_COLUMN, _UPRIGHT = 70, 150  # letters: up to which a table stays in a column, and its page upright
_HELD = 12  # tables that LaTeX is left to place; it gives up on more than 52 that wait
_NUMBERED = "% A character that pdflatex has no letter for is written as its number: U+4E2D.\n"
_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,margin=2.5cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{rotating}
\begin{document}
"""


def render(grids: Sequence[Grid]) -> str:
    """A complete table environment for each grid, to be read by \\input, or pasted.

    A table too long for a page comes in parts; one too wide for a column is a table*, a turned page
    (sidewaystable) where it is wider still, and shrinks to what is there.
    """
    tables = _tables(grids)
    return _needs(tables) + "\n".join(tables)


def render_document(grids: Sequence[Grid], methods: str = "") -> str:
    """The tables in a document of their own, for pdflatex; `methods`: paragraphs that are LaTeX already."""
    tables = _tables(grids)
    for i in range(_HELD, len(tables), _HELD):
        tables[i] = "\\clearpage\n" + tables[i]
    return _needs(tables) + _PREAMBLE + "\n".join([*tables, methods]) + "\\end{document}\n"


def _tables(grids: Sequence[Grid]) -> list[str]:
    parts = [part for grid in checked(grids) for part in _parts(grid)]
    labels = _labels([grid.name for grid in parts])
    return ["\n".join(_lines(grid, label)) + "\n" for grid, label in zip(parts, labels, strict=True)]


def _needs(tables: Sequence[str]) -> str:
    turned = r", \usepackage{rotating}" if any("{sidewaystable}" in table for table in tables) else ""
    needs = rf"% Needs \usepackage{{booktabs}}, \usepackage{{graphicx}}{turned}." + "\n"
    return needs + (_NUMBERED if any("U+" in table for table in tables) else "")


def _labels(names: Sequence[str]) -> list[str]:
    """Safe and different: what LaTeX takes in a label, numbered where two are equal."""
    found: list[str] = []
    for name in names:
        label = re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "table"
        count = found.count(label)
        found.append(label)
        while count and f"{label}-{count + 1}" in found:
            count += 1
        found[-1] = f"{label}-{count + 1}" if count else label
    return found


def _parts(grid: Grid) -> list[Grid]:
    """The table, in pieces of a page each where it is long; cut between rows, all said on each piece."""
    pieces: list[list[Row]] = [[]]
    used = 0
    for row in grid.rows:
        tall = _tall(row)
        if pieces[-1] and used + tall > _LINES:
            pieces.append([])
            used = 0
        pieces[-1].append(row)
        used += tall
    if len(pieces) == 1:
        return [grid]
    said = [f"{grid.caption} (part {i} of {len(pieces)})" for i in range(1, len(pieces) + 1)]
    return [replace(grid, rows=tuple(rows), caption=text) for rows, text in zip(pieces, said, strict=True)]


def _tall(row: Row) -> int:
    heads = max((len(wrapped(spelled(head), _NAME)) for head in row.heads), default=1)
    return max(heads, 1 + any(entry.interval for entry in row.entries))


def _lines(grid: Grid, label: str) -> Iterator[str]:
    letters = _letters(grid)
    kind = "table" if letters <= _ONE_COLUMN else "table*" if letters <= _UPRIGHT else "sidewaystable"
    yield rf"\begin{{{kind}}}" + ("" if kind == "sidewaystable" else "[tbp]")
    yield r"\centering"
    yield rf"\caption{{{prose(grid.caption, LONGEST_CAPTION)}}}"
    yield rf"\label{{tab:pgbench-{label}}}"
    yield r"\vspace{4pt}"  # most classes leave no room between a caption and what is below it
    for warning in grid.warnings:
        yield rf"\parbox{{\linewidth}}{{\centering\bfseries {prose(warning)}}}\par\smallskip"
    yield r"\small"
    yield r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    yield from _tabular(grid)
    yield "}"
    yield from _below(grid)
    yield rf"\end{{{kind}}}"


def _letters(grid: Grid) -> int:
    """How wide the table is about, in letters."""
    heads = [[grid.row_heads[j], *(row.heads[j] for row in grid.rows)] for j in range(len(grid.row_heads))]
    names = [max(width(line) for text in texts for line in wrapped(spelled(text), _NAME)) for texts in heads]
    figures = [0] * len(grid.columns)
    for i in range(len(grid.columns)):
        entries = [row.entries[i] for row in grid.rows]
        texts = [f"{entry.text}{','.join(signs(entry))}" for entry in entries]
        small = [round(width(shown(entry.interval)) * 0.75) for entry in entries]
        own = [width(line) for head in grid.columns[i].heads[-1:] for line in wrapped(spelled(head), _HEAD)]
        figures[i] = max([0, *(width(shown(text)) for text in texts), *small, *own])
    return sum(names) + sum(figures) + 2 * (len(names) + len(figures))


def _tabular(grid: Grid) -> Iterator[str]:
    left = len(grid.row_heads)
    yield rf"\begin{{tabular}}{{@{{}}{'l' * left}{'c' * len(grid.columns)}@{{}}}}"
    yield r"\toprule"
    lines = levels(grid.columns)
    for line in lines[:-1]:
        yield _row([*[""] * left, *map(_over, line)])
        yield from _rules(line, left)
    inner = map(_over, lines[-1]) if lines else ()
    yield _row([*(_stack(name, _NAME) for name in grid.row_heads), *inner])
    yield r"\midrule"
    figures = [column([row.entries[i] for row in grid.rows]) for i in range(len(grid.columns))]
    for i in range(len(grid.rows)):
        yield from _body(grid, i, [cells[i] for cells in figures])
    yield r"\bottomrule"
    yield r"\end{tabular}%"


def _rules(line: Sequence[Head], left: int) -> Iterator[str]:
    """Below each wide head."""
    for head in line:
        if head.text:
            yield rf"\cmidrule(lr){{{left + head.start + 1}-{left + head.start + head.span}}}"


def _over(head: Head) -> str:
    text = _stack(head.text, _HEAD * head.span, "c") + raised(head.notes)
    return text if head.span == 1 else rf"\multicolumn{{{head.span}}}{{c}}{{{text}}}"


def _stack(text: str, room: int, side: str = "l") -> str:
    """A head in lines of `room` letters, its last on the line of the others' last."""
    lines = [escaped(line) for line in wrapped(spelled(text), room)]
    if len(lines) == 1:
        return lines[0]
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}" + r" \\ ".join(lines) + r"\end{tabular}"


def _body(grid: Grid, i: int, figures: Sequence[Sequence[str]]) -> Iterator[str]:
    """Printed lines of a row: names may take several, a figure and its interval take two."""
    row, same = grid.rows[i], repeated(grid.rows, i)
    if i and row.published != grid.rows[i - 1].published:
        yield r"\midrule"
    elif i and not same and (repeated(grid.rows, i - 1) or repeated(grid.rows, i + 1)):
        yield r"\addlinespace"  # between groups of rows, not between rows
    heads = [[""] if j < same else _name(head) for j, head in enumerate(row.heads)]
    for last in heads[-1:]:
        last[-1] += raised(row.notes)
    lines = list(zip_longest(*heads, *figures, fillvalue=""))
    yield from (_row(line) + ("[-2pt]" if line is not lines[-1] else "") for line in lines)


def _name(head: str) -> list[str]:
    return [escaped(line) for line in wrapped(spelled(head), _NAME)]


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _below(grid: Grid) -> Iterator[str]:
    lines = [prose(remark) for remark in grid.remarks]
    lines += [rf"\textsuperscript{{{i}}}~{prose(note)}" for i, note in enumerate(grid.footnotes, start=1)]
    if lines:
        yield r"\par\smallskip"
        yield r"\begin{minipage}{\linewidth}\footnotesize\raggedright"
        yield "\\par\n".join(lines)
        yield r"\end{minipage}"
