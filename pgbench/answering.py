"""Batches of a plan answered by a loaded backend, one after the other; nothing is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Hashable, Sequence
from typing import TypeAlias

from pgbench import reuse
from pgbench.ahead import Turn, in_threads, in_turn
from pgbench.backends import Backend
from pgbench.batch import Cell, Ready, answer, ask, askable, prepare, warm_up
from pgbench.batching import Planned
from pgbench.fitting import Fitting
from pgbench.records import SampleLine
from pgbench.types import Prepared, Request, RunSpec, Sample, cluster_of
from pgbench.witness import Witness

_Item: TypeAlias = tuple[Sample, bool]  # whether its pictures are encoded by themselves
_Attempt: TypeAlias = Prepared | tuple[Request, str]
_PIXEL = 12  # bytes: three floats
_LONG = 224  # px: from there on the operations of a model are so long that threads hardly hold them up
_ROOM = 256 << 20  # bytes of pixels that may wait beside the batch in hand


class Answering:
    """One loaded backend on one cell, for one session."""

    def __init__(
        self, cell: Cell, backend: Backend, planned: Planned, known: reuse.Known | None = None
    ) -> None:
        """`known`: answers of other cells, which are taken over instead of generated."""
        self._cell, self._backend, self._planned = cell, backend, planned
        self._known = known or reuse.Known()
        self._fitting = Fitting(lambda asked: ask(cell, backend, asked))
        self._warm = False
        self.warmup_seconds = 0.0  # known once a batch is generated

    def batches(self, numbers: Sequence[int]) -> Generator[list[SampleLine], None, None]:
        """The lines of each batch, in this order; its seconds are those since the one before was finished.

        Raises PgbenchError, OSError. To be closed where it is not read to its end.
        """
        witness = Witness(self._cell, self._planned.positions)
        before = time.perf_counter()
        with contextlib.closing(self._coming(numbers)) as coming:
            for turn in coming:
                batch = self._ready(turn, witness)
                del turn
                if batch.asked and not self._warm:
                    self._warm = True
                    self.warmup_seconds = warm_up(self._fitting, batch.asked)
                    before += self.warmup_seconds
                lines = answer(self._cell, self._fitting, batch, before)
                before = time.perf_counter()
                del batch  # its pixels, while those of the next ones are there
                yield lines

    def _coming(self, numbers: Sequence[int]) -> Generator[Turn[_Item, _Attempt], None, None]:
        if not getattr(self._backend, "opens_images", True):
            return in_turn(numbers, self._gathered, self._prepared)
        short = self._cell.spec.checkpoint.resolution < _LONG
        alike = _pictures if short and self._backend.describe().device == "cpu" else None
        return in_threads(numbers, self._gathered, self._prepared, ahead(self._cell.spec), alike)

    def _gathered(self, number: int) -> list[_Item]:
        samples, planned = self._cell.dataset.samples, self._planned
        positions, alone = planned.positions[number], planned.alone[number]
        return [(samples[position], one == 1) for position, one in zip(positions, alone, strict=True)]

    def _prepared(self, item: _Item) -> _Attempt:
        sample, alone = item
        return prepare(self._cell, self._backend, sample, alone)

    def _ready(self, turn: Turn[_Item, _Attempt], witness: Witness) -> Ready:
        samples = [sample for sample, _ in turn.items]
        prepared = witness.heard(samples, turn.prepared, lambda number: self._prepared(turn.items[number]))
        given = self._known.given(askable(prepared))
        return Ready(turn.number, samples, prepared, given, self._planned.positions.first(turn.number))


def _pictures(item: _Item) -> Hashable:
    """Equal for questions about the same pictures."""
    sample, _ = item
    return cluster_of(sample), tuple(image.name for image in sample.images)


def ahead(spec: RunSpec) -> int:
    """Batches that are prepared while one is answered: two, or one where their pixels are many."""
    one = spec.batch * spec.checkpoint.resolution**2 * _PIXEL
    return 2 if 2 * one <= _ROOM else 1
