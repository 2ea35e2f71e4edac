"""Bars on stderr, for people: none where stderr is no terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any


class CellBar:
    """The progress of one cell. A bar that is switched off counts nothing, so it is counted here too."""

    def __init__(self, bar: Any, name: str) -> None:
        self._bar, self._name = bar, name
        self.kept, self.of = 0, 0  # answers, and how many there will be

    def __call__(self, done: int, total: int) -> None:
        self.kept, self.of = done, total
        bar = self._bar
        if bar.total is None:  # told once before loading: a resumed run starts where it stopped
            bar.total, bar.initial, bar.n = total, done, done
            bar.refresh()
            return
        if bar.n == bar.initial:
            bar.unpause()  # loading is in no rate
            bar.set_description(self._name, refresh=False)
        bar.update(done - bar.n)


@contextlib.contextmanager
def of_cell(name: str, *, below: int = 0) -> Iterator[CellBar]:
    """`below`: lines of other bars above this one, which then goes when the cell is done."""
    with _bar(unit="sample", desc="loading", position=below or None, leave=not below) as bar:
        yield CellBar(bar, name)


@contextlib.contextmanager
def of_sweep(total: int) -> Iterator[Any]:
    """One step a cell."""
    with _bar(unit="cell", desc="cells", total=total) as bar:
        yield bar


@contextlib.contextmanager
def of_work(total: int, unit: str, doing: str) -> Iterator[Any]:
    """For work that is mostly done in a moment: shown after a second, and gone when it is done."""
    with _bar(unit=unit, desc=doing, total=total, delay=1.0, leave=False) as bar:
        yield bar


def _bar(**options: Any) -> Any:
    from tqdm import tqdm

    columns, rows = shutil.get_terminal_size()  # never 0, with which tqdm would show nothing
    return tqdm(disable=None, file=sys.stderr, ncols=columns, nrows=rows, **options)
