"""Names as a figure can show them: one line, not too long, of letters that the font has."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

from pgbench.report.render import printable

LONGEST = 34  # characters of a name beside a row or in a legend


def drawable(text: str, known: Collection[int]) -> str:
    r"""Text of which every letter has a glyph; others are written as escapes.

    Trap: letters that are joined, stacked or set from right to left need other glyphs than their own, so they
    are escaped too.

    >>> drawable("a中", known={97})
    'a\\u4e2d'
    """
    return "".join(_letter(letter, known) for letter in printable(text))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text with its middle left out where it is too long: both ends of a name tell it from others.

    >>> shortened("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def distinct(names: Sequence[str], known: Collection[int], longest: int = LONGEST) -> list[str]:
    """Short drawable names; those that became equal are numbered."""
    short = [shortened(drawable(name, known), longest) for name in names]
    return [
        f"{shortened(name, longest - 4)} #{short[:index].count(name) + 1}" if short.count(name) > 1 else name
        for index, name in enumerate(short)
    ]


def _letter(letter: str, known: Collection[int]) -> str:
    joined = unicodedata.bidirectional(letter) in ("R", "AL", "AN") or unicodedata.combining(letter)
    if ord(letter) in known and not joined:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
