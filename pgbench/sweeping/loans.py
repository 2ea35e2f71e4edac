"""One loaded checkpoint, lent to the cells that name it one after the other.

What a record says of load and memory stays what a run by itself would have said: the seconds of the one
load that there was (`Cost.shared_load` marks a cell that did not pay them), and as peak memory the larger of
what loading took and what this cell took, the figures of the cells before it being cleared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pgbench.backends import Backend, Engine
from pgbench.records import PeakMemory, Stack
from pgbench.sweeping.opening import EngineOf, engine_of
from pgbench.types import ModelRequest, Prepared, Reply, Request


class Loans:
    """Gives engines whose `load` loads once, until another checkpoint is asked for or `close` is called.

    A backend is lent on where it has `restart_peak()`, after which its `peak_memory` speaks of the next cell;
    one without it is loaded afresh for every cell.
    """

    def __init__(self, engine_of: EngineOf = engine_of) -> None:
        self._engine_of = engine_of
        self._asked: tuple[str, ModelRequest] | None = None
        self._engine: Engine | None = None
        self._backend: Backend | None = None
        self._restart: Callable[[], None] | None = None  # of the backend's peak memory
        self._seconds = 0.0
        self._loading = PeakMemory(0, "process resident")
        self._lent = False  # since a cell asked last
        self._loaded = False  # likewise

    def engine(self, backend: str, model: ModelRequest) -> Engine:
        """What is asked for, opened once. Raises UsageError, CheckpointError, HubError."""
        self._lent = self._loaded = False
        if self._engine is None or self._asked != (backend, model):
            self.close()
            self._engine = None  # a checkpoint that does not open leaves none of another
            self._engine = self._engine_of(backend, model)
            self._asked = (backend, model)
        engine = self._engine
        return replace(engine, load=lambda: self._lend(engine), kept=self._kept, shared=self._shared)

    def _kept(self) -> float | None:
        """Seconds that loading took, where `load` would only hand on what is loaded."""
        return self._seconds if self._backend is not None and self._restart is not None else None

    def _shared(self) -> bool:
        """Not where this cell itself had it loaded before, to find its batch size."""
        return self._kept() is not None and not self._loaded

    def _lend(self, engine: Engine) -> Backend:
        self._lent = True
        if self._backend is not None and self._restart is not None:
            self._restart()
            return _Lent(self._backend, self._loading)
        self.close()
        before = time.perf_counter()
        self._backend = loaded = engine.load()
        self._seconds, self._loaded = time.perf_counter() - before, True
        self._restart = getattr(loaded, "restart_peak", None)
        self._loading = loaded.peak_memory()
        return _Lent(loaded, self._loading)

    def close_if_lent(self) -> None:
        """After a cell that failed while it had the backend: what it left in it is not known."""
        if self._lent:
            self.close()

    def close(self) -> None:
        """Let go of the weights; the next `load` loads again."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()


class _Lent:
    """A backend that its borrower cannot close."""

    def __init__(self, backend: Backend, loading: PeakMemory) -> None:
        self._backend, self._loading = backend, loading
        self.opens_images: bool = getattr(backend, "opens_images", True)

    def describe(self) -> Stack:
        return self._backend.describe()

    def go_on_with(self, stack: Stack) -> None:
        if callable(go_on := getattr(self._backend, "go_on_with", None)):
            go_on(stack)

    def prepare(self, request: Request) -> Prepared:
        return self._backend.prepare(request)

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        return self._backend.generate(batch)

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        return self._backend.score(batch, continuations)

    def peak_memory(self) -> PeakMemory:
        found = self._backend.peak_memory()
        return replace(found, bytes=max(found.bytes, self._loading.bytes))

    def close(self) -> None:
        """The lender closes, after the last cell."""
