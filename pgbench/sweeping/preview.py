"""What a sweep would do: every cell opened, nothing loaded, no weights fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import runner, store
from pgbench.batch import Cell
from pgbench.errors import PgbenchError, told
from pgbench.plan import order
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.memory import SCORED, Load, Memory, estimate
from pgbench.sweeping.opening import EngineOf, open_cell, peek_of
from pgbench.sweeping.pace import Pace, Seen, pace_of, seen_below
from pgbench.sweeping.status import answers_of
from pgbench.sweeping.work import Told, judged, opened, same_checkpoint

_LOOKED_AT = 8  # samples of which the one with the most images is taken as the largest


@dataclass(frozen=True, slots=True)
class Ahead:
    """One cell before it runs. Its `told.state` is waiting, stopped (answers are kept), done, or failed where
    it cannot run, or ran to its end with more failures than it may have."""

    told: Told
    kept: int = 0  # answers
    memory: Memory | None = None  # None: not known, or there is no model
    pace: Pace | None = None  # None: no record to tell it from
    loads: bool = False  # the first of the cells to run that share a loaded checkpoint

    @property
    def runs(self) -> bool:
        return self.told.state in ("waiting", "stopped")

    @property
    def failed_before(self) -> bool:
        """It has a record, which asking again does not change."""
        return self.told.state == "failed" and self.told.record is not None

    @property
    def left(self) -> int:
        """Samples to answer, where the cell can run."""
        return max(0, (self.told.samples or 0) - self.kept) if self.runs else 0

    @property
    def seconds(self) -> float | None:
        """Of what is left, loading included; None where no record tells it."""
        if not self.runs or self.pace is None:
            return None
        return self.left / self.pace.rate + (self.pace.load if self.loads else 0.0)


def preview(asked: Sequence[AskedCell], out: Path, engine_of: EngineOf | None = None) -> tuple[Ahead, ...]:
    """The cells in order. `engine_of` is one that fetches no weights.

    A done cell is one that has a record; whether its data still are the same is looked at when it is run.
    """
    loans = Loans(engine_of or peek_of)  # opens each checkpoint once; none is loaded
    seen = seen_below(out)
    found: list[Ahead] = []
    held: AskedCell | None = None  # the cell whose checkpoint would be loaded by now
    for number, one in enumerate(asked):
        ahead = _look(one, out, loans, seen)
        if number and not same_checkpoint(asked[number - 1], one):
            held = None
        found.append(replace(ahead, loads=ahead.runs and held is None))
        held = one if ahead.runs else held
    return tuple(found)


def _look(asked: AskedCell, out: Path, loans: Loans, seen: Sequence[Seen]) -> Ahead:
    try:
        cell, _ = open_cell(asked, loans.engine)
        now = opened(Told(asked), cell, out)
        folder = store.folder_of(out, cell.spec)
        memory, pace = _memory(cell), pace_of(cell.spec, seen)
        if (record := store.read_record(folder)) is not None:
            done = judged(now, runner.Outcome(record, folder, already_done=True))
            return Ahead(done, record.data.selected, memory, pace)
        kept = min(answers_of(folder), now.samples or 0)
    except PgbenchError as error:
        return Ahead(Told(asked, "failed", str(error)))
    except Exception as error:  # noqa: BLE001 - a defect, or a library's: the other cells are still looked at
        return Ahead(Told(asked, "failed", f"unexpected {told(error)}; please report it"))
    if kept:
        now = replace(now, state="stopped", reason=f"{kept:,} answers are kept")
    return Ahead(now, kept, memory, pace)


def _memory(cell: Cell) -> Memory | None:
    size = cell.engine.size()
    if size is None:
        return None
    samples, spec = cell.dataset.samples, cell.spec
    first = order(samples, seed=spec.seed, limit=spec.limit)[:_LOOKED_AT]
    images = max((len(samples[position].images) for position in first), default=1)
    scored = SCORED if spec.mode == "likelihood" else 0
    load = Load(spec.batch, images, cell.task.pixels.text_len, spec.max_new_tokens, scored)
    point = spec.checkpoint
    return estimate(size, point.quant, point.dtype, load, point.quant_scope)
