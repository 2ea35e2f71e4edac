"""Which worker answers which part of which cell: the half of `--engine ray` that knows no Ray."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pgbench.engines import ray_cell
from pgbench.engines.ray_board import Board, Checkpoint, Open
from pgbench.engines.ray_cell import RETRIES, OtherKernelsError, RefusedError, Unit
from pgbench.errors import PgbenchError, RunStopped, UsageError
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept

TICK = 0.2  # seconds between looks at what sends no message: a signal
GRACE = 10.0  # seconds that the batches in flight have to arrive after the wish to stop
PENDING = 60.0  # seconds in which a worker that was asked for may still become the one that fits

Happening: TypeAlias = Literal["ready", "said", "ended", "died"]


@dataclass(frozen=True, slots=True)
class Need:
    """What one worker takes of its node."""

    gpus: int = 0
    memory: int | None = None  # bytes; None: not known, hence not asked for

    def __str__(self) -> str:
        memory = f" and {self.memory / 2**30:.1f} GiB of memory" if self.memory else ""
        return f"{'a GPU and ' if self.gpus else ''}a core{memory}"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a worker did."""

    worker: int
    what: Happening
    message: bytes = b""
    reason: str = ""  # of a death, in one line


class Crew(Protocol):
    """Workers elsewhere, by number."""

    def need(self, one: Open) -> Need:
        """Of a worker for this cell."""
        ...

    def room(self, need: Need) -> int:
        """How many such workers there can be at once, were nothing else running."""
        ...

    def hire(self, need: Need) -> int: ...

    def give(self, worker: int, job: bytes, numbers: Sequence[int]) -> None: ...

    def events(self, seconds: float) -> list[Event]:
        """What happened, after waiting for so long at most. Raises RunStopped where nothing can any more."""
        ...

    def dismiss(self, worker: int) -> None: ...


@dataclass(slots=True, eq=False)
class Hired:
    """A worker as it is seen from here."""

    checkpoint: Checkpoint
    since: float  # time.monotonic() of the wish for it
    is_ready: bool = False
    unit: Unit | None = None
    told: bool = False  # the stack of the run that its unit is of


class Dispatch:
    """One sweep."""

    def __init__(self, board: Board, crew: Crew, stop: Stop, workers: int | None = None) -> None:
        """`workers`: at most so many at once, as many as the cluster has room for where it is not said."""
        self._board, self._crew, self._stop, self._most = board, crew, stop, workers
        self._hired: dict[int, Hired] = {}
        self._stillborn: dict[Checkpoint, int] = {}  # workers that died before they were ready, in a row

    def run(self) -> Swept:
        """Until every cell has ended; what stops it leaves every run resumable. Raises StoreError."""
        stopped = ""
        try:
            while not self._board.is_over and not self._stop.reason:
                self._board.advance()
                self._staff()
                self._listen(TICK)
            if not self._board.is_over:
                self._drain()
            if not self._board.is_over:  # the last answers may have come
                stopped = self._stop.reason
        except (KeyboardInterrupt, RunStopped) as error:
            stopped = str(error) or "interrupted"
        finally:
            self._board.stop(stopped or "stopped by an error")
            for worker in list(self._hired):
                self._dismiss(worker)
        return Swept(self._board.cells, stopped)

    def _drain(self) -> None:
        """Take in the batch that each worker is at."""
        busy = {worker: unit for worker, unit in self._busy().items() if unit.answered}
        before = {worker: len(unit.missing) for worker, unit in busy.items()}
        limit = time.monotonic() + GRACE
        while (left := limit - time.monotonic()) > 0:
            now = self._busy()
            if not any(
                now.get(worker) is unit and len(unit.missing) == before[worker]
                for worker, unit in busy.items()
            ):
                return
            self._listen(min(left, TICK))

    def _busy(self) -> dict[int, Unit]:
        return {worker: hired.unit for worker, hired in self._hired.items() if hired.unit is not None}

    def _staff(self) -> None:
        """Give work to whoever is ready, let go whom none is left for, and hire where there is more."""
        for one in self._board.waiting:
            if not self._room(one):
                need = self._crew.need(one)
                self._fail(
                    one, UsageError(f"no node has {need} to give; start one that has, or say --workers")
                )
            elif one.refused and not self._can_go_on(one):
                self._fail(one, RefusedError(one.refusal))
        for worker, hired in self._hired.items():
            if hired.is_ready and hired.unit is None:
                self._give(worker, hired)
        wanted = {one.checkpoint for one in self._board.waiting}
        for worker, hired in list(self._hired.items()):
            if hired.unit is None and hired.checkpoint not in wanted:
                self._dismiss(worker)
        for one in self._board.waiting:
            self._hire(one)

    def _room(self, one: Open) -> int:
        return self._most or self._crew.room(self._crew.need(one))

    def _team(self, one: Open) -> list[Hired]:
        return [hired for hired in self._hired.values() if hired.checkpoint == one.checkpoint]

    def _give(self, worker: int, hired: Hired) -> None:
        for one in self._board.waiting:
            if one.checkpoint == hired.checkpoint:
                hired.told = bool(one.remote.stack)
                hired.unit = one.remote.take(len(self._team(one)))
                self._crew.give(worker, one.job, list(hired.unit.missing))
                return

    def _hire(self, one: Open) -> None:
        """As many as there is room for and units to give; none in place of those that were refused."""
        team, room = self._team(one), self._room(one)
        idle = sum(hired.unit is None for hired in team)
        units = -(-one.remote.left // ray_cell.SMALLEST)
        seats = units if self._most is None else self._most - len(self._hired)
        for _ in range(min(room - len(team) - one.refused, seats, units - idle)):
            self._hired[self._crew.hire(self._crew.need(one))] = Hired(one.checkpoint, time.monotonic())

    def _can_go_on(self, one: Open) -> bool:
        """Whether anybody is left who may fit a cell that workers were refused for."""
        if self._room(one) > len(self._team(one)) + one.refused:
            return True
        limit = time.monotonic() - PENDING
        return any(hired.is_ready or hired.since > limit for hired in self._team(one))

    def _listen(self, seconds: float) -> None:
        for event in self._crew.events(seconds) if self._hired else ():
            hired = self._hired.get(event.worker)
            if hired is not None:  # else it was dismissed after what happened just before
                self._hear(hired, event)

    def _hear(self, hired: Hired, event: Event) -> None:
        unit = hired.unit
        if event.what == "ready":
            hired.is_ready = True
            self._stillborn.pop(hired.checkpoint, None)
        elif event.what == "died":
            del self._hired[event.worker]
            self._died(hired, event.reason)
        elif unit is not None and event.what == "said":
            self._said(event, unit)
        elif unit is not None:
            hired.unit = None
            self._lost(unit, "it ended before its last batch")

    def _said(self, event: Event, unit: Unit) -> None:
        one = self._board.of(unit)
        if one is None:
            return
        try:
            if unit.cell.hear(unit, event.message):
                self._board.heard(one)
        except RefusedError as error:
            if self._hired[event.worker].told or not isinstance(error, OtherKernelsError):
                one.refused, one.refusal = one.refused + 1, str(error)  # else another takes its place
            one.remote.give_back(unit)
            self._dismiss(event.worker)
        except PgbenchError as error:
            self._fail(one, error)

    def _died(self, hired: Hired, reason: str) -> None:
        if hired.unit is not None:
            self._lost(hired.unit, reason)
        elif not hired.is_ready:
            count = self._stillborn[hired.checkpoint] = self._stillborn.get(hired.checkpoint, 0) + 1
            if count > RETRIES:
                error = RunStopped(
                    f"{count} workers in a row died while they started, the last one so: {reason}"
                )
                for one in [one for one in self._board.open if one.checkpoint == hired.checkpoint]:
                    self._fail(one, error)

    def _lost(self, unit: Unit, reason: str) -> None:
        one = self._board.of(unit)
        if one is None or not unit.missing:
            return
        try:
            unit.cell.lost(unit, reason)
        except PgbenchError as error:
            self._fail(one, error)

    def _fail(self, one: Open, error: PgbenchError) -> None:
        """End a cell; whoever still answers it would do so for nothing."""
        self._board.fail(one, error)
        for worker, unit in self._busy().items():
            if unit.cell is one.remote:
                self._dismiss(worker)

    def _dismiss(self, worker: int) -> None:
        del self._hired[worker]
        self._crew.dismiss(worker)
