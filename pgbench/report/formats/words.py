"""Text from outside as text that can be shown: no controls, no endless names, no line that commands. Pure."""

from __future__ import annotations

import re

from pgbench.report.render import printable, width

LONGEST_NAME, LONGEST_PROSE = 160, 2000  # characters; the JSON format holds all of a text
_COMMAND = re.compile(r":(?=:)")
_WORD = 16
_SPACES = re.compile(r"(?<=\s)")
_BREAKS = re.compile(r"(?<=[\s/_\-.,:;|])")


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Controls, invisible and bidirectional marks and lone surrogates escaped; the middle of what is longer
    than `longest` left out.

    >>> shown("a\x1bb"), shown("a" * 10_000, 4)
    ('a\\x1bb', 'aa…aa (10,000 characters)')
    """
    clean = printable(text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}")
    return clean if len(text) <= longest else f"{clean} ({len(text):,} characters)"


def prose(text: str) -> str:
    """A sentence, a caption or a footnote as it can be shown."""
    return shown(text, LONGEST_PROSE)


def uncommanded(text: str) -> str:
    r"""Text that no build log obeys, not even where one of its words comes to begin a line.

    GitHub Actions takes a line that begins with "::" for a command.

    >>> uncommanded("::error::x")
    '\\x3a:error\\x3a:x'
    """
    return _COMMAND.sub(r"\\x3a", text)


def wrapped(text: str, wanted: int, *, names: bool = True) -> list[str]:
    """Lines of at most `wanted` terminal columns, broken after spaces, in names also after slashes and such;
    where a line has none of them, anywhere."""
    lines, line = [], ""
    for piece in _pieces(text, wanted, _BREAKS if names else _SPACES):
        if line and width(line + piece.rstrip()) > wanted:
            lines.append(line.rstrip())
            line = piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]


def breakable(text: str) -> list[str]:
    """The pieces between which a line may break; none is much longer than a word."""
    return [piece[i : i + _WORD] for piece in _BREAKS.split(text) for i in range(0, len(piece), _WORD)]


def _pieces(text: str, wanted: int, breaks: re.Pattern[str]) -> list[str]:
    """Where a line may break; a piece too long for any line is cut."""
    pieces: list[str] = []
    for piece in breaks.split(text):
        while width(piece.rstrip()) > wanted:
            cut = max(1, wanted)
            while cut > 1 and width(piece[:cut]) > wanted:  # wide letters take two columns
                cut -= 1
            pieces.append(piece[:cut])
            piece = piece[cut:]
        pieces.append(piece)
    return pieces
