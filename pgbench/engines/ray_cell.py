"""One cell of a sweep at the one process that writes it, while workers elsewhere answer it."""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import store
from pgbench.batch import Cell
from pgbench.concluding import conclude, require_same, require_same_judges
from pgbench.durable import exists, read_json
from pgbench.engines.ray_worker import Begun, Failed, read
from pgbench.errors import ResumeError, RunStopped, StoreError
from pgbench.lines import parse
from pgbench.plan import WHOLE
from pgbench.records import RunRecord, SampleLine, Session, Stack
from pgbench.runner import Plan, finished, look_again, opened, plan_of
from pgbench.samples import Samples

RETRIES = 2  # times that a unit is given out again after its worker died without a single answer
SMALLEST, LARGEST = 4, 512  # batches of a unit: messages and tails are small, and so is what is asked twice


@dataclass(slots=True, eq=False)
class Unit:
    """Batches of one cell that are one worker's."""

    cell: RemoteCell
    missing: list[int]  # batch numbers, in plan order
    fruitless: int = 0  # workers that died over it without an answer, in a row
    answered: bool = False  # since it was given out last


class RefusedError(ResumeError):
    """A worker that cannot answer this cell, since it would answer differently; others can."""


def begin(cell: Cell, out: Path) -> RemoteCell | RunRecord:
    """The cell, open for writing, or its record where that is there already.

    Raises PgbenchError; RunLocked where another process writes this run.
    """
    plan = plan_of(cell, out)
    if (record := finished(cell, plan)) is not None:
        return record
    with contextlib.ExitStack() as held:
        samples, started = held.enter_context(opened(cell, plan, WHOLE))
        if (record := finished(cell, plan)) is not None:  # by a process that has just let go
            return record
        look_again(cell, plan, samples.answers)
        return RemoteCell(cell, plan, samples, started, held.pop_all())


class OtherKernelsError(RefusedError):
    """One that found others to be the fastest; with those of the run it could go on."""


class RemoteCell:
    """Holds the lock of a run until `close`."""

    def __init__(
        self, cell: Cell, plan: Plan, samples: Samples, started: str, held: contextlib.ExitStack
    ) -> None:
        self.cell, self.plan = cell, plan
        self._samples, self._started, self._held = samples, started, held
        self._waiting = deque(samples.pending())  # batches that no unit holds
        self._returned: list[Unit] = []
        self._session: Session | None = None  # the costliest so far, figure by figure
        self.done = self.total - sum(len(plan.planned[batch]) for batch in self._waiting)  # samples

    @property
    def total(self) -> int:
        return self.plan.data.selected

    @property
    def stack(self) -> str:
        """What began the run, as JSON; "" while nobody has. Raises StoreError."""
        path = self.plan.folder / "stack.json"
        return json.dumps(read_json(path)) if exists(path) else ""

    @property
    def left(self) -> int:
        """Batches that wait for a worker."""
        return len(self._waiting) + sum(len(unit.missing) for unit in self._returned)

    def take(self, workers: int) -> Unit:
        """The next unit, of a size that lets all workers end at about the same time."""
        if self._returned:
            unit = self._returned.pop()
            unit.answered = False
            return unit
        size = min(LARGEST, max(SMALLEST, math.ceil(len(self._waiting) / (2 * max(1, workers)))))
        count = min(size, len(self._waiting))
        return Unit(self, [self._waiting.popleft() for _ in range(count)])

    def give_back(self, unit: Unit) -> None:
        """A unit that its worker did not end, for another one."""
        if unit.missing:
            self._returned.append(unit)

    def lost(self, unit: Unit, reason: str) -> None:
        """Its worker died. Raises RunStopped where that happened too often."""
        unit.fruitless = 0 if unit.answered else unit.fruitless + 1
        if unit.fruitless > RETRIES:
            raise RunStopped(
                f"{unit.fruitless} workers in a row died over batch {unit.missing[0]}, "
                f"the last one so: {reason}"
            )
        self.give_back(unit)

    def hear(self, unit: Unit, message: bytes) -> bool:
        """Take in a message; whether it held answers.

        Raises RefusedError for a worker that must not answer, PgbenchError where the cell fails.
        """
        letter, content = message[:1], message[1:]
        if letter == b"F":
            raise StoreError(read(Failed, content).reason)
        if letter == b"B":
            self._meet(read(Begun, content))
        elif letter == b"S":
            self._spent(read(Session, content))
        else:
            self._keep(unit, content)
        return letter == b"L"

    def _meet(self, begun: Begun) -> None:
        here = {"key": self.cell.spec.key, "data": store.plain(self.plan.data)}
        there = {"key": begun.key, "data": store.plain(begun.data)}
        if found := list(store.differences(here, there, "run")):
            raise RefusedError(
                f"a worker sees another run: {'; '.join(found)}; give all nodes the same checkpoint and data"
            )
        try:
            store.keep_stack(self.plan.folder, begun.stack)
        except ResumeError as error:
            kind = OtherKernelsError if self._chose_others(begun.stack) else RefusedError
            raise kind(f"a worker has another stack: {error}") from error
        self._spent(begun.session)

    def _chose_others(self, stack: Stack) -> bool:
        """Whether a stack is that of the run but for what may be chosen by speed."""
        began = store.read_stack(self.plan.folder)
        chosen = {name: getattr(began, name) for name in ("threads", "attention", "numerics", "tried")}
        return not list(store.differences(store.plain(began), store.plain(replace(stack, **chosen)), "stack"))

    def _spent(self, session: Session) -> None:
        """On disk before the answers that it is about."""
        costliest = session if self._session is None else self._session.costliest(session)
        if costliest != self._session:
            self._session = costliest
            store.keep_session(self.plan.folder, WHOLE, costliest)

    def _keep(self, unit: Unit, content: bytes) -> None:
        lines = [line for raw in content.splitlines(keepends=True) if (line := parse(raw)) is not None]
        number = self._checked(unit, lines)
        self._samples.append(lines)
        unit.missing.remove(number)
        unit.answered = True
        self.done += len(lines)

    def _checked(self, unit: Unit, lines: Sequence[SampleLine]) -> int:
        """The number of a whole batch of this unit. Raises StoreError, ResumeError."""
        number = lines[0].batch if lines else -1
        wanted = len(self.plan.planned[number]) if number in unit.missing else -1
        if len(lines) != wanted or any(line.batch != number for line in lines):
            raise StoreError(
                f"a worker sent {len(lines)} answers of batch {number}, which it was not asked for as such; "
                "install one pgbench on all nodes"
            )
        for position, line in zip(self.plan.planned[number], lines, strict=True):
            require_same(self.cell.dataset.samples[position], line.id)
        return number

    @property
    def is_whole(self) -> bool:
        """Whether every batch is on disk."""
        return self._samples.answers.done == len(self.plan.planned)

    def conclude(self) -> RunRecord:
        """Make the record. Raises RunStopped where it cannot be made or written."""
        parts = (self.plan.folder, self.plan.planned, self._samples.answers, self.plan.data, self._started)
        require_same_judges(self.cell, self.plan.folder)
        return conclude(self.cell, *parts)

    def close(self, error: BaseException | None = None) -> None:
        """Let go of the run; after an error and without an answer it leaves nothing behind."""
        self._held.__exit__(type(error) if error else None, error, None)
