"""Where something was said, what is wrong there, and how both are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pgbench.errors import UsageError

ALL = "*"  # in place of a key: nothing can be said of any
SHOWN = 60  # characters of a value in a message
_LINES = 100  # mistakes in one message


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file; `file` is None for flags."""

    file: Path | None = None
    line: int = 0  # from 1, as editors count
    column: int = 0

    def __str__(self) -> str:
        return "flags" if self.file is None else f"{plain_name(self.file)}:{self.line}:{self.column}"

    def __hash__(self) -> int:  # places are compared and looked up for every cell, and a Path hashes slowly
        return hash((self.line, self.column))

    @property
    def folder(self) -> Path:
        """What relative paths said here are relative to."""
        return Path() if self.file is None else self.file.parent


class Mistakes(UsageError):  # noqa: N818 - it is a list of them
    """Everything that is wrong with a sweep; `lines` has one text per mistake, with its place."""

    def __init__(self, what: str, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        count = f"{len(self.lines)} mistakes" if len(self.lines) > 1 else "1 mistake"
        more = [f"and {len(self.lines) - _LINES} more"] if len(self.lines) > _LINES else []
        super().__init__("\n".join([f"{what}: {count}", *self.lines[:_LINES], *more]))


@dataclass(slots=True)
class Problems:
    """Collects what is wrong, in place of stopping at the first; one mistake per place and text."""

    found: dict[tuple[str, int, int, str], str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)  # keys of which a mistake took something; ALL: who knows

    def add(self, spot: Spot, text: str, *, takes: str = "") -> None:
        """`takes`: the key whose value is left out, or ALL."""
        self.doubtful |= {takes} if takes else set()
        key = (str(spot.file or ""), spot.line, spot.column, text)
        self.found[key] = f"{spot}: {text}"

    def stop(self, what: str) -> None:
        """Raises Mistakes where there are any, in the order of the file."""
        if self.found:
            raise Mistakes(what, (self.found[key] for key in sorted(self.found)))


def plain_name(path: Path) -> str:
    """A path for a message; one with control characters or line ends is escaped."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def shown(value: object) -> str:
    """A value for a message, short."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
