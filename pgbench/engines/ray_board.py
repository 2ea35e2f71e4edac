"""The cells of a sweep that others answer: opened in their order, and brought to their end one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pgbench.batch import Cell
from pgbench.engines import ray_cell, wire
from pgbench.engines.ray_cell import RemoteCell, Unit
from pgbench.errors import PgbenchError, RunLocked, UsageError, told
from pgbench.recipe.asked import AskedCell
from pgbench.records import RunRecord
from pgbench.runner import Outcome
from pgbench.sweeping import sizes, sizing
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.opening import EngineOf, open_cell
from pgbench.sweeping.work import State, Told, Watch, judged
from pgbench.sweeping.work import opened as seen
from pgbench.types import ModelRequest

Checkpoint: TypeAlias = tuple[str, ModelRequest]  # a backend's name and what is asked of it
Tell: TypeAlias = Callable[[Sequence[Told]], object]


@dataclass(slots=True, eq=False)
class Open:
    """A cell that is being answered."""

    number: int  # in the order of the sweep
    remote: RemoteCell
    asked: AskedCell  # as workers are asked
    refused: int = 0  # workers that must not answer it
    refusal: str = ""  # why the last of them must not

    @property
    def checkpoint(self) -> Checkpoint:
        return self.asked.backend, self.asked.model

    @property
    def job(self) -> bytes:
        return wire.dump(wire.Job("", self.asked, self.remote.stack))


class Board:
    """What became of each cell so far; `tell` hears every change of it."""

    def __init__(
        self,
        asked: Sequence[AskedCell],
        out: Path,
        watch: Watch,
        tell: Tell,
        elsewhere: Callable[[AskedCell], AskedCell],
        engine_of: EngineOf,
    ) -> None:
        """`elsewhere`: a cell as the workers are asked for it."""
        self._cells = [Told(one) for one in asked]
        self._out, self._watch, self._tell, self._elsewhere = out, watch, tell, elsewhere
        self._loans = Loans(engine_of)  # opens each checkpoint once; none is loaded here
        self._next = 0
        self._counted: dict[int, tuple[int, int]] = {}  # cell -> samples kept, samples in all
        self.open: list[Open] = []
        tell(self._cells)

    @property
    def cells(self) -> tuple[Told, ...]:
        return tuple(self._cells)

    @property
    def is_over(self) -> bool:
        return self._next == len(self._cells) and not self.open

    @property
    def waiting(self) -> list[Open]:
        """Cells with batches that no worker has."""
        return [one for one in self.open if one.remote.left]

    def advance(self) -> None:
        """Open cells until there are batches to give out, or no more cells."""
        while self._next < len(self._cells) and not self.waiting:
            number, self._next = self._next, self._next + 1
            self._set(number, replace(self._cells[number], state="running"))
            try:
                self._begin(number)
            except RunLocked as error:
                self._end(number, "locked", str(error))
            except PgbenchError as error:
                self._end(number, "failed", str(error))
            except Exception as error:  # noqa: BLE001 - a defect, or a library's: the other cells still run
                self._end(number, "failed", f"unexpected {told(error)}; please report it")

    def _begin(self, number: int) -> None:
        asked = self._cells[number].asked
        # a GPU that only other machines have is no reason to refuse the cell here
        cell, _ = open_cell(replace(asked, model=replace(asked.model, device="auto")), self._loans.engine)
        if asked.batch == "auto":
            cell = _with_stored_size(cell, self._out)
            asked = replace(asked, batch=cell.spec.batch)
        self._set(number, seen(self._cells[number], cell, self._out))
        found = ray_cell.begin(cell, self._out)
        if isinstance(found, RunRecord):
            self._judge(number, found, already_done=True)
            return
        one = Open(number, found, self._elsewhere(asked))
        self.open.append(one)
        self.heard(one)

    def of(self, unit: Unit) -> Open | None:
        """The cell of a unit; None where it has ended by now."""
        return next((one for one in self.open if one.remote is unit.cell), None)

    def heard(self, one: Open) -> None:
        """Count what a cell has; its record is made with its last answer."""
        self._counted[one.number] = (one.remote.done, one.remote.total)
        done, total = zip(*self._counted.values(), strict=True)
        self._watch.several(sum(done), sum(total))
        if one.remote.is_whole:
            self._conclude(one)

    def _conclude(self, one: Open) -> None:
        try:
            record = one.remote.conclude()
        except PgbenchError as error:
            self.fail(one, error)
        except Exception as error:  # noqa: BLE001 - a defect, or a task's: the other cells still run
            self._close(one, None)
            self._end(one.number, "failed", f"unexpected {told(error)}; please report it")
        else:
            self._close(one, None)
            self._judge(one.number, record, already_done=False)

    def fail(self, one: Open, error: PgbenchError) -> None:
        """End a cell with a reason; its answers are kept."""
        kept = f"; {one.remote.done:,} of {one.remote.total:,} answers are kept, the same command goes on"
        self._close(one, error)
        self._end(one.number, "failed", f"{error}{kept if one.remote.done else ''}")

    def stop(self, reason: str) -> None:
        """End all that is open; what was answered is kept."""
        for one in list(self.open):
            self._close(one, KeyboardInterrupt(reason))
            self._set(one.number, replace(self._cells[one.number], state="stopped", reason=reason))
        for number, cell in enumerate(self._cells):
            if cell.state == "running":  # interrupted while it was opened
                self._set(number, replace(cell, state="stopped", reason=reason))

    def _close(self, one: Open, error: BaseException | None) -> None:
        self.open.remove(one)
        one.remote.close(error)

    def _judge(self, number: int, record: RunRecord, *, already_done: bool) -> None:
        told_so_far = self._cells[number]
        if told_so_far.folder is not None:
            self._set(number, judged(told_so_far, Outcome(record, told_so_far.folder, already_done)))
        self._watch.ended(self._cells[number])

    def _end(self, number: int, state: State, reason: str) -> None:
        self._set(number, replace(self._cells[number], state=state, reason=reason))
        self._watch.ended(self._cells[number])

    def _set(self, number: int, now: Told) -> None:
        self._cells[number] = now
        self._tell(self._cells)


def _with_stored_size(cell: Cell, out: Path) -> Cell:
    """No worker may begin before the size is known, which is in the run's key. Raises UsageError."""
    known = sizes.foreseen(cell, out) if cell.engine.size() else sizing.DEFAULT
    if known is None:
        raise UsageError(
            "--batch-size auto: no size is stored for this cell, and --engine ray loads nothing here; let "
            "pgbench sweep find it on a machine like the workers (same --out, no --engine), or name a size"
        )
    return sizing.with_size(cell, known)
