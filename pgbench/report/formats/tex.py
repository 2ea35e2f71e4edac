r"""Text as LaTeX sets it, in ASCII and with nothing but the kernel, so that any engine takes it. Pure.

Accented Latin letters become accents, common signs their commands; every other character, Chinese say, is
written as its number, U+4E2D: pdflatex has no letters for it and would stop.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from pgbench.report.formats.words import LONGEST_NAME, LONGEST_PROSE, shown

LONGEST_FIGURE, LONGEST_CAPTION = 60, 600  # letters; TeX measures a caption in one line, of 16,383 pt at most
_WORD = 30
# Brackets and stars too: after a row's end LaTeX would take them for its options.
_ASCII: Mapping[str, str] = MappingProxyType({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}", "[": "{[}", "]": "{]}", "*": "{*}",
})  # fmt: skip
# Ligatures that make other signs of two; and two colons, which a build log obeys where they begin a line.
_LIGATURE = re.compile(r"(?<=[-,'`?!:])(?=[-,'`:])")
_SIGNS: Mapping[str, str] = MappingProxyType({
    "–": "--", "—": "---", "‘": "`{}", "’": "'{}", "“": "``{}", "”": "''{}", "…": r"\ldots{}",
    "·": r"$\cdot$", "×": r"$\times$", "±": r"$\pm$", "−": "$-$",
    "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$",
    "≈": r"$\approx$", "∞": r"$\infty$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "Δ": r"$\Delta$",
    "α": r"$\alpha$", "β": r"$\beta$", "σ": r"$\sigma$", "µ": r"$\mu$", "μ": r"$\mu$", "°": r"$^\circ$",
    "²": "$^2$", "³": "$^3$", "¹": "$^1$", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "¶": r"\P{}",
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "¡": "!`{}", "¿": "?`{}", "©": r"\copyright{}", "\u00a0": "~",
})  # fmt: skip
_ACCENTS: Mapping[str, str] = MappingProxyType({
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c",
})  # fmt: skip
_UNKNOWN = re.compile(r"[^\x00-\x7f]+")
_OPENING = re.compile(r'(?<![^\s(\[])"(?=\S)')
_MINUS = re.compile(r"(?<![^\s(\[])-(?=\d)")


def spelled(text: str, longest: int = LONGEST_NAME) -> str:
    """Text whose every letter LaTeX has; at most twice `longest` letters, so that no width overflows."""
    clean = _OPENING.sub("“", unicodedata.normalize("NFC", shown(text, longest)))
    clean = _UNKNOWN.sub(_numbers, clean)
    return clean if len(clean) <= 2 * longest else f"{clean[: 2 * longest]}…"


def escaped(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Text with nothing in it that LaTeX obeys.

    >>> escaped("a_b & 5% é 中")
    "a\\_b \\& 5\\% \\'{e} U+4E2D"
    """
    return "{}".join("".join(map(_letter, part)) for part in _LIGATURE.split(spelled(text, longest)))


def prose(text: str, longest: int = LONGEST_PROSE) -> str:
    """A caption, a remark or a footnote; words that are longer than a line may be broken."""
    words = [
        [word[i : i + _WORD] for i in range(0, len(word), _WORD)]
        for word in spelled(text, longest).split(" ")
    ]
    return " ".join(r"\allowbreak{}".join(escaped(part, longest) for part in word) for word in words)


def figure(text: str) -> str:
    r"""A figure: a hyphen before a digit is a minus.

    >>> figure("-1.32")
    '$-$1.32'
    """
    return "$-$".join(escaped(part, LONGEST_FIGURE) for part in _MINUS.split(text))


def _letter(letter: str) -> str:
    if letter in _ASCII:
        return _ASCII[letter]
    if letter in _SIGNS:
        return _SIGNS[letter]
    accent = _accented(letter)
    return letter if accent is None else rf"\{accent[1]}{{{accent[0]}}}"


def _accented(letter: str) -> tuple[str, str] | None:
    """A Latin letter and the command of its accent."""
    parts = unicodedata.normalize("NFD", letter)
    known = len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS
    return (parts[0], _ACCENTS[parts[1]]) if known else None


def _numbers(found: re.Match[str]) -> str:
    """A run of letters; those without a command as their numbers, with spaces so that lines can break."""
    pieces: list[str] = []
    for letter in found[0]:
        known = letter in _SIGNS or _accented(letter) is not None
        number = f"U+{ord(letter):04X}"
        between = " " if pieces and not known and pieces[-1].startswith("U+") else ""
        pieces += [between, letter if known else number] if between else [letter if known else number]
    return "".join(pieces)
