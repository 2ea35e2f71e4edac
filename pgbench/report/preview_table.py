"""What a sweep would do, as a table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pgbench.report.sweep_table import clock, name, reason_of
from pgbench.report.table import Table, plural, size
from pgbench.sweeping.memory import RULE
from pgbench.sweeping.preview import Ahead

_UNKNOWN = (
    "time: unknown; no record below --out is of these checkpoints at these levels and batch sizes, and no "
    "bench of their widths (pgbench bench --out)"
)
_BENCH = (
    "+: no record; from pgbench bench on {devices} at the same widths and level: prompts and reference "
    "answers at four characters a token, batches as long as their longest reference"
)
_MARKS = {"this task": "", "other tasks": "*", "bench": "+"}
_WORDS = {"waiting": "to run", "failed": "impossible"}


def of_preview(cells: Sequence[Ahead]) -> Table:
    """The cells in the order in which they would run, and what they would take."""
    rows = []
    for number, cell in enumerate(cells, start=1):
        told = cell.told
        state = f"{cell.kept:,} kept, to go on" if told.state == "stopped" else told.state
        state = "failed before" if cell.failed_before else state
        rows.append(
            (
                *(str(number), *name(told), _WORDS.get(state, state)),
                "" if told.samples is None else f"{told.samples:,}",
                "" if cell.memory is None else size(cell.memory.total),
                _time(cell),
            )
        )
    return Table(
        title=(counted(cells), "nothing was loaded, and no weights were fetched"),
        columns=("", "task", "checkpoint", "quant", "status", "samples", "memory", "time"),
        rows=tuple(rows),
        notes=(
            *(
                f"{'failed before' if cell.failed_before else 'impossible'}: {reason_of(cell.told)}"
                for cell in cells
                if cell.told.state == "failed"
            ),
            *([RULE] if any(cell.memory for cell in cells) else []),
            *_times(cells),
            *_autos(cells),
        ),
        left=5,
    )


def _autos(cells: Sequence[Ahead]) -> list[str]:
    unknown = sum(cell.auto for cell in cells)
    if not unknown:
        return []
    later = "it is when they first run, and what is kept of them can be told from then on"
    return [f"batch size auto: not found yet for {plural(unknown, 'cell')}; {later}"]


def counted(cells: Sequence[Ahead]) -> str:
    """One line: cells, samples and time in all."""
    states = [cell.told.state for cell in cells]
    to_run = sum(cell.runs for cell in cells)
    parts = [plural(len(cells), "cell"), f"{to_run:,} to run", f"{states.count('done'):,} done"]
    before = sum(cell.failed_before for cell in cells)
    if before:
        parts.append(f"{before:,} failed before")
    if bad := states.count("failed") - before:
        parts.append(f"{bad:,} impossible")
    parts.append(f"{plural(sum(cell.left for cell in cells), 'sample')} to answer")
    return ", ".join(parts)


def _time(cell: Ahead) -> str:
    if not cell.runs:
        return ""
    if cell.seconds is None or cell.pace is None:
        return "unknown"
    return f"{clock(cell.seconds)}{_MARKS[cell.pace.basis]}"


def _times(cells: Sequence[Ahead]) -> list[str]:
    running = [cell for cell in cells if cell.runs]
    known = [cell.seconds for cell in running if cell.seconds is not None]
    if not running:
        return []
    if not known:
        return [_UNKNOWN]
    unknown = len(running) - len(known)
    more = f", and {unknown:,} cells of which nothing tells it" if unknown else ""
    total = f"time: about {clock(sum(known))} in one process{more}"
    if {cell.pace.basis for cell in running if cell.pace} == {"bench"}:
        return [total, *bench_notes(running)]
    basis = "from records below --out of the same checkpoint, level and batch size"
    found = [f"{total}; {basis} on the same task"]
    if any(cell.pace and cell.pace.basis == "other tasks" for cell in running):
        found.append("*: from other tasks, whose questions and answers can be longer or shorter")
    return [*found, *bench_notes(running)]


def bench_notes(cells: Sequence[Ahead]) -> list[str]:
    """Where times come from that no record tells; empty where there are none."""
    devices = dict.fromkeys(cell.pace.device for cell in cells if cell.pace and cell.pace.basis == "bench")
    if not devices:
        return []
    return [_BENCH.format(devices=", ".join(devices))]
