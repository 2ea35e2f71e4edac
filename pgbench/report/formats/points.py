r"""Figures of a LaTeX column, one decimal point below the other. Pure.

A column is centred. A figure that is shorter than the longest of its column on one side of its point is
filled up with an invisible copy of what it lacks. (siunitx, which aligns too, is not in Debian's
texlive-latex-recommended; columns of the kind r@{}l stand at their left as soon as a head is wider.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pgbench.report.formats.heads import signs
from pgbench.report.formats.tex import LONGEST_FIGURE, escaped, figure
from pgbench.report.formats.words import shown
from pgbench.report.grid import Entry

_NUMBER = re.compile(r"(?P<whole>[+-]?[\d,]+)(?P<rest>.*)", re.DOTALL)
_SHAPE = str.maketrans("123456789", "000000000")  # the digits of a font are equally wide
_NARROW, _MINUS = 0.28, 0.78  # em, of the letters of Computer Modern; a digit has 0.5


@dataclass(frozen=True, slots=True)
class _Sides:
    """A number before its point, from its point on, and the signs behind it."""

    whole: str
    rest: str
    signs: tuple[str, ...]

    @staticmethod
    def of(entry: Entry) -> _Sides | None:
        found = _NUMBER.fullmatch(shown(entry.text, LONGEST_FIGURE))
        return None if found is None else _Sides(found["whole"], found["rest"], signs(entry))


def column(entries: Sequence[Entry]) -> list[list[str]]:
    """The lines of each figure of a column: the figure, then its interval if it has one."""
    sides = [_Sides.of(entry) for entry in entries]
    known = [one for one in sides if one is not None]
    whole = max((one.whole for one in known), key=_wide, default="")
    last = max(known, key=lambda one: _wide(one.rest) + 0.7 * _wide(",".join(one.signs)), default=None)
    lines = []
    for entry, one in zip(entries, sides, strict=True):
        if one is None or last is None:
            text = _bold(escaped(entry.text, LONGEST_FIGURE) or "--", entry) + raised(signs(entry))
        else:
            text = _filled(entry, one, whole, last)
        interval = rf"{{\scriptsize {figure(entry.interval)}}}"
        lines.append([text, interval] if entry.interval else [text])
    return lines


def raised(signs: Sequence[object]) -> str:
    """Marks and numbers of footnotes, small and high."""
    return (
        rf"\textsuperscript{{{','.join(escaped(str(sign), LONGEST_FIGURE) for sign in signs)}}}"
        if signs
        else ""
    )


def _filled(entry: Entry, own: _Sides, whole: str, last: _Sides) -> str:
    """A figure in one piece where only whole letters are lacking, else its two sides in boxes of no width."""
    text, behind = _bold(figure(own.whole + own.rest), entry), raised(own.signs)
    before, after = _lacking_before(own.whole, whole), _lacking_after(own, last)
    if before is not None and after is not None:
        return f"{_phantom(before)}{text}{behind}{_phantom(after)}"
    left = rf"{_phantom(figure(whole))}\llap{{{_bold(figure(own.whole), entry)}}}"
    right = rf"\rlap{{{_bold(escaped(own.rest), entry)}{behind}}}"
    return f"{left}{right}{_phantom(escaped(last.rest) + raised(last.signs))}"


def _lacking_before(own: str, longest: str) -> str | None:
    """What the longest has more in front; None if more than that differs."""
    one, other = own.translate(_SHAPE), longest.translate(_SHAPE)
    lacking = longest[: len(other) - len(one)]
    return figure(f"{lacking}0")[:-1] if other.endswith(one) else None  # 0: a minus stands before a digit


def _lacking_after(own: _Sides, longest: _Sides) -> str | None:
    """What the longest has more behind; None if more than that differs."""
    one, other = own.rest.translate(_SHAPE), longest.rest.translate(_SHAPE)
    if one == other and len(",".join(own.signs)) == len(",".join(longest.signs)):
        return ""
    if not own.signs and other.startswith(one):
        return escaped(longest.rest[len(one) :]) + raised(longest.signs)
    return None


def _phantom(text: str) -> str:
    return rf"\phantom{{{text}}}" if text else ""


def _bold(text: str, entry: Entry) -> str:
    return rf"\textbf{{{text}}}" if entry.bold and text else text


def _wide(text: str) -> float:
    """Width in em, about."""
    return sum(_MINUS if letter == "-" else _NARROW if letter in ",. " else 0.5 for letter in text)
