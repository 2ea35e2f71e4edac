"""Tables and model text as text for a terminal. Pure; whoever prints decides where it goes."""

from __future__ import annotations

import re
import unicodedata

from pgbench.report.table import Table

_HIDDEN = {
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
    "Zl",
    "Zp",
}  # controls, bidi and other invisible marks, line separators
_COMMAND = re.compile(r"^(\s*)(:)(?=:)|()(#)(?=#\[)")


def terminal(table: Table) -> str:
    """Title lines, aligned columns, notes; figures to the right."""
    lines = [table.columns, *table.rows]
    shown = [[printable(cell) for cell in line] for line in lines]
    widths = [max(width(line[column]) for line in shown) for column in range(len(table.columns))]
    body = [
        "  ".join(_pad(cell, widths[i], left=i < table.left) for i, cell in enumerate(line)).rstrip()
        for line in shown
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    title = [printable(line) for line in table.title]
    notes = [printable(line) for line in table.notes]
    return "\n".join([*title, "", body[0], rule, *body[1:], rule, *notes])


def printable(text: str) -> str:
    r"""Text that cannot steer a terminal: every control or invisible character is shown escaped.

    Nor a build log: GitHub Actions obeys `##[command]` anywhere in a line, and `::command::` at its start.

    >>> printable("\x1b[31mred\n"), printable("::error::x")
    ('\\x1b[31mred\\n', '\\x3a:error::x')
    """
    clean = "".join(
        _escaped(letter) if unicodedata.category(letter) in _HIDDEN else letter for letter in text
    )
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[2] or found[4]):02x}", clean)


def width(text: str) -> int:
    """Columns that text takes in a terminal: wide East Asian letters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _pad(cell: str, wanted: int, *, left: bool) -> str:
    gap = " " * (wanted - width(cell))
    return cell + gap if left else gap + cell


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
