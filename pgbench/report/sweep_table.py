"""The cells of a sweep as one table, afterwards and on the way. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pgbench.recipe.asked import AskedCell
from pgbench.report.table import Table, caveats, in_parts, plural, row_of
from pgbench.specs import called
from pgbench.sweeping.state import model_name, task_name
from pgbench.sweeping.status import CellStatus, Status
from pgbench.sweeping.work import Swept, Told

_WORDS = {"waiting": "not begun", "answered": "shard answered"}
_COLUMNS = ("task", "checkpoint", "quant", "status", "metric", "score", "95 % interval", "n", "failed")


def of_swept(swept: Swept) -> Table:
    """The primary score of each cell, and why cells have none."""
    rows = [(*name(cell), _state(cell), *_figures(cell)) for cell in swept.cells]
    columns: tuple[str, ...] = _COLUMNS
    if any(cell.record and cell.record.cost.reused for cell in swept.cells):
        columns = (*columns, "reused")
        rows = [(*row, _reused(cell)) for row, cell in zip(rows, swept.cells, strict=True)]
    return Table(
        title=(counted(swept),),
        columns=columns,
        rows=tuple(rows),
        notes=(*reasons(swept.cells), *_in_parts(swept.cells), *shared_caveats(swept.cells)),
        left=5,
    )


def of_status(status: Status) -> Table:
    """How far each cell is, and all of them together."""
    counts = ", ".join(f"{count:,} {word}" for word, count in status.counts.items() if count)
    answers = sum(cell.answers for cell in status.cells)
    notes = [] if status.counts["done"] == len(status.cells) else [_pace(status)]
    unmerged = sum(cell.condition == "stopped" and cell.answers == cell.samples for cell in status.cells)
    if unmerged:
        notes.append(f"{unmerged:,} stopped with all answers: pgbench merge, or the same command, concludes")
    for cell in status.cells:
        where = f"{_asked(cell)} · {cell.checkpoint} · {level(cell.quant, cell.dtype)}{_place(cell.where)}"
        notes += [f"{where}: {cell.reason}"] if cell.reason else []
        notes += [f"{where}: written by {', '.join(cell.holders)}"] if cell.holders else []
    return Table(
        title=(f"{plural(len(status.cells), 'cell')}: {counts}; {plural(answers, 'answer')}",),
        columns=("task", "checkpoint", "quant", "status", "answers", "of", "failed", "samples/s"),
        rows=tuple(_status_row(cell) for cell in status.cells),
        notes=tuple(notes),
        left=4,
    )


def name(cell: Told) -> tuple[str, str, str]:
    """Task, checkpoint and level; of a cell that could not be opened, as they were asked for."""
    asked, spec = cell.asked, cell.spec
    if spec is None:
        return task_name(asked), called(model_name(asked), asked.model), _level_of(asked)
    point = spec.checkpoint
    variant = f" [{spec.variant}]" if spec.variant != "default" else ""
    mode = "" if spec.mode == "generate" else f" ({spec.mode})"
    return (
        f"{spec.task} v{spec.version} {spec.split}{variant}{mode}",
        called(point.id, point),
        level(point.quant, point.dtype),
    )


def level(quant: str, dtype: str) -> str:
    """What a checkpoint computes with: of a quantized one the rest's dtype too, where it is unusual.

    >>> level("none", "float16"), level("4bit", "bfloat16"), level("4bit", "float32")
    ('float16', '4bit', '4bit, float32')
    """
    if quant == "none":
        return dtype
    return quant if dtype == "bfloat16" else f"{quant}, {dtype}"


def clock(seconds: float) -> str:
    """A duration for people.

    >>> clock(75), clock(3 * 3600 + 240), clock(12)
    ('1 min 15 s', '3 h 4 min', '12 s')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def counted(swept: Swept) -> str:
    """One line: how many cells came to what."""
    states = [cell.state for cell in swept.cells]
    before = sum(cell.already_done and cell.state == "done" for cell in swept.cells)
    again = f" ({before:,} of them before)" if before else ""
    others = [
        f"{count:,} {_WORDS.get(word, word)}"
        for word in ("answered", "failed", "locked", "stopped", "waiting")
        if (count := states.count(word))
    ]
    return ", ".join([f"{states.count('done'):,} of {len(states):,} cells done{again}", *others])


def reasons(cells: Sequence[Told]) -> tuple[str, ...]:
    """Why cells have no result, a line each."""
    return tuple(f"{cell.state}: {reason_of(cell)}" for cell in cells if cell.reason)


def reason_of(cell: Told) -> str:
    """Which cell, where it was asked for, and why it has no result."""
    return f"{' · '.join(name(cell))}{_place(cell.asked.where)}: {cell.reason}"


def _place(where: str) -> str:
    return f" ({where})" if where else ""


def _in_parts(cells: Sequence[Told]) -> list[str]:
    """Cells of which batches were halved."""
    return [
        f"{' · '.join(name(cell))}: {in_parts(cell.record.cost.halved)}"
        for cell in cells
        if cell.record and cell.record.cost.halved
    ]


def shared_caveats(cells: Sequence[Told]) -> tuple[str, ...]:
    """What the numbers cannot be taken for: each caveat once, with the tasks that it is about."""
    about: dict[str, dict[str, None]] = {}
    for cell in cells:
        for line in caveats(cell.record) if cell.record else ():
            about.setdefault(line, {})[name(cell)[0]] = None
    every = {name(cell)[0] for cell in cells if cell.record}
    return tuple(
        line if set(tasks) == every else f"{', '.join(tasks)}: {line}" for line, tasks in about.items()
    )


def _level_of(asked: AskedCell) -> str:
    return level(asked.model.quant, asked.model.dtype)


def _state(cell: Told) -> str:
    return (
        "already done" if cell.already_done and cell.state == "done" else _WORDS.get(cell.state, cell.state)
    )


def _figures(cell: Told) -> tuple[str, ...]:
    if cell.record is None:
        return "", "", "", "", ""
    metric, value, interval, n, _, _, failed = row_of(
        cell.record.primary, cell.record.scores[cell.record.primary]
    )
    return metric, value, interval, n, failed


def _reused(cell: Told) -> str:
    return f"{cell.record.cost.reused:,}" if cell.record else ""


def _status_row(cell: CellStatus) -> tuple[str, ...]:
    return (
        *(_asked(cell), cell.checkpoint, level(cell.quant, cell.dtype), cell.condition),
        f"{cell.answers:,}",
        "?" if cell.samples is None else f"{cell.samples:,}",
        "" if cell.failed is None else f"{cell.failed:,}",
        "" if cell.rate is None else f"{cell.rate:,.1f}",
    )


def _asked(cell: CellStatus) -> str:
    return cell.task if cell.mode == "generate" else f"{cell.task} ({cell.mode})"


def _pace(status: Status) -> str:
    if not any(status.counts[word] for word in ("running", "stopped", "waiting")):
        return "nothing answers now; all that is left has failed"
    rate = f"{status.rate:,.1f} samples/s now" if status.rate else "nothing answers now"
    if status.seconds_left is None:
        return f"{rate}; no time left can be told yet"
    more = f", and {status.unknown:,} cells of unknown size" if status.unknown else ""
    return f"{rate}; about {clock(status.seconds_left)} of work left{more}"
