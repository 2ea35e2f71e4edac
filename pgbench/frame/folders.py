"""The run folders below a folder, and what can be read of each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from pgbench.errors import StoreError, UsageError, unknown

Errors: TypeAlias = Literal["raise", "skip"]
T = TypeVar("T")

_MARK = re.compile(r"(record|spec)\.json|samples-[0-9]+-of-[0-9]+\.jsonl")  # a folder with one is a run's


@dataclass(slots=True)
class Reading:
    """Where to read, and what to do with a file that cannot be read: stop, or leave it out and say so."""

    top: Path
    errors: str
    skipped: list[dict[str, str]]

    @classmethod
    def of(cls, root: str | Path, errors: str) -> Reading:
        """Raises UsageError for a folder that is not there. A file of a run stands for its folder."""
        if errors not in ("raise", "skip"):
            raise UsageError(unknown("errors", errors, ("raise", "skip")))
        top = Path(root)
        if top.is_file():
            if not any(_MARK.fullmatch(beside.name) for beside in top.parent.iterdir()):
                raise UsageError(f"{top} is no folder; name a run folder, or one that holds run folders")
            top = top.parent
        if not top.is_dir():
            raise UsageError(f"there is no folder {top}; name a run folder, or one that holds run folders")
        return cls(top, errors, [])

    def each(self, read: Callable[[Path], T]) -> Iterator[tuple[str, T]]:
        """What `read` makes of each run folder, by the folder's name relative to the top, in order."""
        for folder, reason in sorted(_runs(self.top), key=lambda one: one[0]):
            name = folder.relative_to(self.top).as_posix()
            try:
                if reason:
                    raise StoreError(reason)
                found = read(folder)
            except StoreError as error:
                self.refuse(name, error)
                continue
            yield name, found

    def refuse(self, name: str, error: StoreError) -> None:
        """Raises StoreError, or notes what is left out."""
        if self.errors == "raise":
            raise StoreError(f'{error}; errors="skip" leaves it out') from error
        self.skipped.append({"folder": name, "reason": str(error)})


def _runs(top: Path) -> Iterator[tuple[Path, str]]:
    """Run folders, and folders that cannot be looked into, with the reason. Links come after what is really
    there, so that a folder reached by both keeps its own name."""
    seen: set[tuple[int, int]] = set()
    waiting, links = [top], list[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            place = folder.stat()
            if (place.st_dev, place.st_ino) in seen:
                continue
            seen.add((place.st_dev, place.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"cannot read {folder}: {error.strerror}"
            continue
        if any(_MARK.fullmatch(entry.name) for entry in entries):
            yield folder, ""
            continue
        links += [Path(entry.path) for entry in entries if entry.is_symlink() and Path(entry.path).is_dir()]
        waiting += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
