"""The cells of a sweep in one process, in order: a cell that fails stops no other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import runner
from pgbench.batch import Cell
from pgbench.errors import PgbenchError, RunLocked, told
from pgbench.plan import WHOLE, Shard, order
from pgbench.recipe.asked import AskedCell
from pgbench.store import folder_of
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.opening import EngineOf, engine_of, open_cell
from pgbench.sweeping.sizing import settled
from pgbench.sweeping.state import Ledger
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.told import State, Swept, Told

__all__ = ["State", "Swept", "Told", "Watch", "judged", "opened", "same_checkpoint", "sweep"]


class Watch:
    """Hears how a sweep goes; this one does not listen."""

    def cell(self, asked: AskedCell) -> AbstractContextManager[runner.Progress]:
        """Around one cell; what it gives is told the answers kept and those to come."""
        return contextlib.nullcontext(lambda done, total: None)

    def several(self, done: int, total: int) -> None:
        """In place of `cell` where cells run at once: answers kept and to come, of all that have begun."""

    def ended(self, told: Told) -> None:
        return None


def sweep(
    asked: Sequence[AskedCell],
    out: Path,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
    engine_of: EngineOf = engine_of,
    loans: Loans | None = None,
    tell: Callable[[Sequence[Told]], object] | None = None,
    shard: Shard = WHOLE,
) -> Swept:
    """Run every cell to its record; consecutive cells of one checkpoint load it once.

    A KeyboardInterrupt, and `stop` at the end of a batch, end the sweep; what was answered is kept, and the
    same call goes on. `loans`: what may be loaded already, and stays so afterwards. `tell` hears every change
    of the cells, in place of OUT/sweep.json, where another process writes that. `shard`: only that part of
    every cell.
    Raises StoreError where `out` cannot be written.
    """
    with contextlib.ExitStack() as held:
        loans = loans or held.enter_context(contextlib.closing(Loans(engine_of)))
        tell = tell or held.enter_context(Ledger(out)).write
        work = _Work([Told(one) for one in asked], out, loans, stop or Stop(), watch or Watch(), tell, shard)
        tell(work.cells)
        work.go(range(len(asked)))
        if len(asked) > 1:  # what others wrote may be done by now, or they may be gone
            work.go([number for number, cell in enumerate(work.cells) if cell.state == "locked"], again=True)
    return Swept(tuple(work.cells), work.stopped)


def same_checkpoint(one: AskedCell, other: AskedCell) -> bool:
    """Whether the second cell can go on with what the first one loaded."""
    return (one.backend, one.model) == (other.backend, other.model)


@dataclass(slots=True)
class _Work:
    """The cells and what is known of them so far, which every change is told of."""

    cells: list[Told]
    out: Path
    loans: Loans
    stop: Stop
    watch: Watch
    tell: Callable[[Sequence[Told]], object]
    shard: Shard
    stopped: str = ""

    def go(self, numbers: Sequence[int], *, again: bool = False) -> None:
        """Those cells, in this order. A locked one has its turn again, so it is not told to have ended."""
        before: AskedCell | None = None
        for number in numbers:
            asked = self.cells[number].asked
            if before is not None and not same_checkpoint(before, asked):
                self.loans.close()
            before = asked
            if self.stopped or not self._turn(number, asked):
                return
            if again or self.cells[number].state != "locked" or len(self.cells) == 1:
                self.watch.ended(self.cells[number])

    def _turn(self, number: int, asked: AskedCell) -> bool:
        """Whether the sweep goes on."""
        try:
            self.stop.at_boundary(0, 1)
            with self.watch.cell(asked) as progress:
                found = self._run(number, asked, progress)
        except KeyboardInterrupt as error:
            self.stopped = str(error) or "interrupted"
            found = self.cells[number]
            if found.state == "running":
                found = replace(found, state="stopped", reason=self.stopped)
        self._now(number, found)
        return not self.stopped

    def _run(self, number: int, asked: AskedCell, progress: runner.Progress) -> Told:
        def heard(done: int, total: int) -> None:
            progress(done, total)
            self.stop.at_boundary(done, total)

        self._now(number, Told(asked, "running"))
        try:
            cell = settled(open_cell(asked, self.loans.engine)[0], self.out)
            self._now(number, opened(self.cells[number], cell, self.out))
            if self.shard != WHOLE:
                return answered(self.cells[number], runner.answer_part(cell, self.out, self.shard, heard))
            return judged(self.cells[number], runner.run(cell, self.out, heard))
        except RunLocked as error:
            return replace(self.cells[number], state="locked", reason=str(error))
        except PgbenchError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a defect, or a library's: the other cells still run
            reason = f"unexpected {told(error)}; please report it"
        self.loans.close_if_lent()
        return replace(self.cells[number], state="failed", reason=reason)

    def _now(self, number: int, told: Told) -> None:
        self.cells[number] = told
        self.tell(self.cells)


def opened(told: Told, cell: Cell, out: Path) -> Told:
    """With what is known of a cell before it runs."""
    count = len(order(cell.dataset.samples, seed=cell.spec.seed, limit=cell.spec.limit))
    return replace(told, spec=cell.spec, samples=count, folder=folder_of(out, cell.spec))


def judged(told: Told, outcome: runner.Outcome) -> Told:
    """Done, or failed where more samples failed than may."""
    failed, allowed = len(outcome.record.failures), told.asked.max_failures
    told = replace(told, state="done", already_done=outcome.already_done, record=outcome.record)
    if failed <= allowed:
        return told
    reason = (
        f"{failed:,} {'sample' if failed == 1 else 'samples'} failed, {allowed:,} allowed; see failures in "
        f"{told.folder}/record.json: mend the data and take another --out, or allow max_failures {failed}"
    )
    return replace(told, state="failed", reason=reason)


def answered(told: Told, part: runner.Part) -> Told:
    """One shard of it; done where the whole run was merged before."""
    if part.record is not None:
        return judged(told, runner.Outcome(part.record, part.folder, already_done=True))
    return replace(told, state="answered", samples=part.answers)
