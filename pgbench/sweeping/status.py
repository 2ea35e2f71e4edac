"""How far the runs below a folder are, told from what lies there: while they run, and afterwards.

Nothing is written and no lock is taken. The run folders are the truth; sweep.json adds the cells that have
none yet, and why cells failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

from pgbench.durable import exists, read_json
from pgbench.errors import StoreError
from pgbench.samples import files_of
from pgbench.specs import called
from pgbench.sweeping import state
from pgbench.sweeping.live import Written, looked_at
from pgbench.types import ModelRequest

# done: has its record; running: a process holds a lock of it; stopped: begun, and no process is at it;
# failed: the latest sweep said why; waiting: asked for, and no run folder yet
Condition: TypeAlias = Literal["done", "running", "stopped", "failed", "waiting"]
CONDITIONS: tuple[Condition, ...] = ("done", "running", "stopped", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class CellStatus:
    """One cell. `folder` is relative to the folder that was looked at."""

    task: str
    checkpoint: str
    quant: str
    dtype: str
    condition: Condition
    folder: str | None = None
    answers: int = 0  # lines kept
    samples: int | None = None  # in all, where it is known
    failed: int | None = None  # samples, of a cell that is done
    rate: float | None = None  # samples a second over the latest batches
    holders: tuple[str, ...] = ()  # processes that write it now, where they say so
    reason: str = ""
    where: str = ""  # file and line that ask for it
    mode: str = "generate"  # or likelihood


@dataclass(frozen=True, slots=True)
class Status:
    """All cells: those of sweep.json in their order, then run folders that it does not know."""

    cells: tuple[CellStatus, ...]

    @property
    def counts(self) -> dict[str, int]:
        return {word: sum(cell.condition == word for cell in self.cells) for word in CONDITIONS}

    @property
    def rate(self) -> float | None:
        """Samples a second of all that run now; None where nothing does, or none has answered yet."""
        rates = [cell.rate for cell in self.cells if cell.condition == "running" and cell.rate]
        return sum(rates) if rates else None

    @property
    def unknown(self) -> int:
        """Cells not done whose number of samples is not known: no time left can be told for them."""
        return sum(cell.samples is None for cell in self._open)

    @property
    def seconds_left(self) -> float | None:
        """Of the cells that can go on, at the rate of what runs now, else at the median rate of all cells.

        0 where nothing is left; None where no rate is known.
        """
        left = sum(max(0, cell.samples - cell.answers) for cell in self._open if cell.samples is not None)
        rates = [cell.rate for cell in self.cells if cell.rate]
        rate = self.rate or (median(rates) if rates else None)
        if not left:
            return None if self.unknown else 0.0
        return left / rate if rate else None

    @property
    def _open(self) -> list[CellStatus]:
        return [cell for cell in self.cells if cell.condition in ("running", "stopped", "waiting")]


def read_status(out: Path) -> Status:
    """Without cells where nothing of pgbench lies. Raises StoreError for a folder that is not there."""
    if not out.is_dir():
        raise StoreError(f"{out} is no folder; name the --out of a sweep or of runs")
    found = {folder: cell for folder in sorted(_folders(out)) if (cell := _of_folder(out, folder))}
    told = state.read(out)
    alive = state.is_written(out)
    rows = [_joined(cell, found.get(str(cell.get("folder"))), alive=alive) for cell in told]
    known = {row.folder for row in rows}
    others = [row for name, row in found.items() if name not in known]
    return Status((*_with_sizes(rows, told), *others))


def answers_of(folder: Path) -> int:
    """Lines of all samples files of a run; what a kill tore at an end is among them. Raises StoreError."""
    return sum(looked_at(path).answers for path in files_of(folder))


# What `called` tells, as far as a spec has it.
_UNUSUAL = (
    "protocol pixels_from quant quant_scope adapter adapter_mode adapter_order chat_attention attention cache"
).split()


def _folders(out: Path) -> Iterator[str]:
    for path in out.glob("*/*/spec.json"):
        yield path.parent.relative_to(out).as_posix()


def _of_folder(out: Path, name: str) -> CellStatus | None:
    """None for a folder of somebody else's."""
    folder = out / name
    try:
        document = read_json(folder / "spec.json")
        spec, data = document["spec"], document["data"]
        point, samples = spec["checkpoint"], int(data["selected"])
        task, quant, dtype = str(spec["task"]), point["quant"], point["dtype"]
        mode = str(spec.get("mode", "generate"))
        how = ModelRequest(**{name: point.get(name) for name in _UNUSUAL})
        checkpoint = called(str(point["id"]), how)
    except (StoreError, TypeError, KeyError, ValueError) as error:
        if not _answered(folder):
            return None
        reason = str(error) if isinstance(error, StoreError) else f"{name}/spec.json is no spec of a run"
        return CellStatus(name.split("/")[0], "?", "?", "?", "failed", name, reason=reason)
    cell = CellStatus(task, checkpoint, str(quant), str(dtype), "stopped", name, samples=samples, mode=mode)
    try:
        cell = _with_answers(cell, folder)
        if exists(folder / "record.json"):
            record = read_json(folder / "record.json")
            failed = len(record["failures"])
            return replace(cell, condition="done", answers=samples, failed=failed, holders=())
    except (StoreError, TypeError, KeyError) as error:
        reason = str(error) if isinstance(error, StoreError) else f"{name}/record.json is no record"
        return replace(cell, condition="failed", reason=reason)
    return cell


def _answered(folder: Path) -> bool:
    try:
        return bool(files_of(folder))
    except StoreError:
        return False


def _with_answers(cell: CellStatus, folder: Path) -> CellStatus:
    """All writers together; the speed of those that write now, else of the last ones."""
    written: list[Written] = [looked_at(path) for path in files_of(folder)]
    live = [one for one in written if one.held]
    rates = [one.rate for one in live or written if one.rate]
    answers = sum(one.answers for one in written)
    return replace(
        cell,
        condition="running" if live else "stopped",
        answers=min(answers, cell.samples) if cell.samples is not None else answers,
        rate=sum(rates) if rates else None,
        holders=tuple(one.holder for one in live if one.holder),
    )


def _joined(cell: Mapping[str, Any], found: CellStatus | None, *, alive: bool) -> CellStatus:
    """What sweep.json says of a cell, where its run folder says nothing newer. `alive`: a sweep runs."""
    said, reason, where = (str(cell.get(name) or "") for name in ("state", "reason", "where"))
    if found is not None:  # a cell that failed and was run again by itself is what its record says
        failed = said == "failed" and (found.condition == "stopped" or bool(found.failed))
        found = replace(found, where=where)
        return replace(found, condition="failed", reason=reason) if failed else found
    task, checkpoint, quant, dtype = (
        str(cell.get(name)) for name in ("task", "checkpoint", "quant", "dtype")
    )
    count = cell.get("samples") if type(cell.get("samples")) is int else None
    mode = str(cell.get("mode") or "generate")
    missing = CellStatus(task, checkpoint, quant, dtype, "waiting", samples=count, where=where, mode=mode)
    if said == "failed":
        return replace(missing, condition="failed", reason=reason)
    return replace(missing, condition="running") if said == "running" and alive else missing


def _with_sizes(rows: list[CellStatus], told: list[dict[str, Any]]) -> Iterator[CellStatus]:
    """Cells that were not opened yet have as many samples as those of the same data."""
    sizes = {cell.get("data"): row.samples for cell, row in zip(told, rows, strict=True) if row.samples}
    for cell, row in zip(told, rows, strict=True):
        yield row if row.samples is not None else replace(row, samples=sizes.get(cell.get("data")))
