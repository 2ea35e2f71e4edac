"""Comparison tables before they are text: figures with all that is said with them. Pure.

Text in a grid is raw, as records and papers have it; whoever writes a format escapes for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["score", "delta", "cost", "count", "published"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One figure, rounded for print. `data` has what a machine reads: value, low, high, n, unit, ..."""

    text: str = ""  # "60.04", "-1.32", "5.83 GiB"; "": nothing was measured
    interval: str = ""  # "58.61 to 61.47"; "": none
    bold: bool = False  # the best of its comparison, or not distinguishable from it
    mark: str = ""  # "*" a significant difference
    notes: tuple[int, ...] = ()  # numbers of footnotes, from 1
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """`heads`: a text for each header line, the outermost first; equal neighbours are one wide head."""

    heads: tuple[str, ...]
    role: Role = "score"
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """`heads`: a text for each column of heads. `published`: from a paper, set apart from what was run."""

    heads: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[int, ...] = ()
    published: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. `footnotes` are numbered from 1 and referred to; `remarks` hold for all of it; `warnings`
    say what its numbers cannot be taken for (demo, limited) and stand where nobody overlooks them."""

    name: str  # quant, resolution, ...: part of labels and file names, [a-z0-9-]
    caption: str
    row_heads: tuple[str, ...]  # names of the columns of heads
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
