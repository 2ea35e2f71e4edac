"""What a sweep would do: every cell opened, nothing loaded, no weights fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pgbench import runner, store
from pgbench.batch import Cell
from pgbench.bench import kept
from pgbench.bench.figures import Bench
from pgbench.errors import PgbenchError, told
from pgbench.plan import order
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping import sizes, sizing
from pgbench.sweeping.benched import pace_of_bench
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.memory import SCORED, Load, Memory, estimate
from pgbench.sweeping.opening import EngineOf, open_cell, peek_of
from pgbench.sweeping.pace import Pace, Seen, pace_of, seen_below
from pgbench.sweeping.status import answers_of
from pgbench.sweeping.work import Told, judged, opened, same_checkpoint
from pgbench.types import Sample

_LOOKED_AT = 8  # samples of which the one with the most images is taken as the largest
_READ = 64  # whose prompts and references tell how long a cell will take, where a bench tells speeds


@dataclass(frozen=True, slots=True)
class Ahead:
    """One cell before it runs. Its `told.state` is waiting, stopped (answers are kept), done, or failed where
    it cannot run, or ran to its end with more failures than it may have."""

    told: Told
    kept: int = 0  # answers
    memory: Memory | None = None  # None: not known, or there is no model
    pace: Pace | None = None  # None: no record and no bench to tell it from
    loads: bool = False  # the first of the cells to run that share a loaded checkpoint
    auto: bool = False  # its batch size will be found when it runs; until then nothing else is known of it

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
        """Of what is left, loading included; None where nothing tells it."""
        if not self.runs or self.pace is None:
            return None
        return self.left / self.pace.rate + (self.pace.load if self.loads else 0.0)


def preview(asked: Sequence[AskedCell], out: Path, engine_of: EngineOf | None = None) -> tuple[Ahead, ...]:
    """The cells in order. `engine_of` is one that fetches no weights.

    A done cell is one that has a record; whether its data still are the same is looked at when it is run.
    """
    loans = Loans(engine_of or peek_of)  # opens each checkpoint once; none is loaded
    seen, benches = seen_below(out), kept.below(out)
    found: list[Ahead] = []
    held: AskedCell | None = None  # the cell whose checkpoint would be loaded by now
    for number, one in enumerate(asked):
        ahead = _look(one, out, loans, seen, benches)
        if number and not same_checkpoint(asked[number - 1], one):
            held = None
        found.append(replace(ahead, loads=ahead.runs and held is None))
        held = one if ahead.runs else held
    return tuple(found)


def _look(asked: AskedCell, out: Path, loans: Loans, seen: Sequence[Seen], benches: Sequence[Bench]) -> Ahead:
    try:
        cell, _ = open_cell(asked, loans.engine)
        if (sized := _sized(cell, out)) is None:
            count = len(order(cell.dataset.samples, seed=cell.spec.seed, limit=cell.spec.limit))
            return Ahead(Told(asked, samples=count), auto=True)
        cell = sized
        now = opened(Told(asked), cell, out)
        folder = store.folder_of(out, cell.spec)
        first = _first(cell)
        memory = _memory(cell, first[:_LOOKED_AT])
        pace = pace_of(cell.spec, seen) or pace_of_bench(cell, first, benches, asked.model.device)
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


def _sized(cell: Cell, out: Path) -> Cell | None:
    """With the batch size that is stored for it, where it has none of its own; None where none is stored,
    or those of several devices differ: asking which device this is would load what `preview` does without."""
    if cell.spec.batch:
        return cell
    known = sizes.foreseen(cell, out) if cell.engine.size() else sizing.DEFAULT
    return None if known is None else sizing.with_size(cell, known)


def _first(cell: Cell) -> list[Sample]:
    """Some of the samples that will be asked; none where there is no model to plan for."""
    if cell.engine.size() is None:
        return []
    samples, spec = cell.dataset.samples, cell.spec
    return [samples[place] for place in order(samples, seed=spec.seed, limit=spec.limit)[:_READ]]


def _memory(cell: Cell, first: Sequence[Sample]) -> Memory | None:
    size = cell.engine.size()
    if size is None:
        return None
    spec = cell.spec
    images = max((len(sample.images) for sample in first), default=1)
    scored = SCORED if spec.mode == "likelihood" else 0
    load = Load(spec.batch, images, cell.task.pixels.text_len, spec.max_new_tokens, scored)
    point = spec.checkpoint
    return estimate(size, point.quant, point.dtype, load, point.quant_scope)
