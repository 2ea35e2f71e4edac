"""What a sweep will cost, checkpoint by checkpoint, from cells that were looked at and not run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pgbench.report.sweep_table import clock, name, reason_of
from pgbench.report.table import Table
from pgbench.sweeping.pace import Basis
from pgbench.sweeping.preview import Ahead

_SHOWN = 20  # cells named in a note
_UNKNOWN = "no record of this checkpoint, level and batch size, and no bench of its widths"
_GUESSES: Mapping[Basis, str] = {
    "other tasks": "records of other tasks",
    "bench": "pgbench bench at the same widths, not from a run",
}


def costs(cells: Sequence[Ahead]) -> dict[str, object]:
    """The sums, for `--json` and for the table. `seconds` and `samples` are of the cells that they are known
    of; the others are in `unknown`, with the reason."""
    ahead = [cell for cell in cells if cell.runs]
    return {
        "cells": len(cells),
        "done": sum(cell.told.state == "done" for cell in cells),
        "to_run": len(ahead),
        "impossible": [
            _named(cell, cell.told.reason)
            for cell in cells
            if cell.told.state == "failed" and not cell.failed_before
        ],
        "failed_before": [_named(cell, cell.told.reason) for cell in cells if cell.failed_before],
        "samples": sum(cell.left for cell in ahead),
        "seconds": _seconds(ahead),
        "unknown": [_named(cell, _UNKNOWN) for cell in ahead if cell.seconds is None],
        "guessed": [_named(cell, f"time from {_GUESSES[basis]}") for basis, cell in _guessed(cells)],
        "checkpoints": [_group(*point, found) for point, found in _groups(cells).items()],
    }


def of_costs(cells: Sequence[Ahead]) -> Table:
    """A row per checkpoint and level; a time is a sum over cells of which records tell it."""
    sums = costs(cells)
    unknown = [cell for cell in cells if cell.runs and cell.seconds is None]
    return Table(
        title=(f"{_counted(len(cells))}, {sums['done']} done; nothing was loaded",),
        columns=("checkpoint", "level", "cells", "to run", "samples", "time"),
        rows=tuple((*group, *_figures(found)) for group, found in _groups(cells).items()),
        notes=(
            _total(cells),
            *_listed(f"time not known, {_UNKNOWN}", unknown),
            *(
                line
                for basis, why in _GUESSES.items()
                for line in _listed(f"time from {why}", [cell for of, cell in _guessed(cells) if of == basis])
            ),
            *(
                f"{'failed before' if cell.failed_before else 'impossible'}: {reason_of(cell.told)}"
                for cell in cells
                if cell.told.state == "failed"
            ),
        ),
        left=2,
    )


def _groups(cells: Sequence[Ahead]) -> dict[tuple[str, str], list[Ahead]]:
    groups: dict[tuple[str, str], list[Ahead]] = {}
    for cell in cells:
        _, checkpoint, level = name(cell.told)
        groups.setdefault((checkpoint, level), []).append(cell)
    return groups


def _group(checkpoint: str, level: str, cells: Sequence[Ahead]) -> dict[str, object]:
    ahead = [cell for cell in cells if cell.runs]
    return {
        "checkpoint": checkpoint,
        "level": level,
        "cells": len(cells),
        "to_run": len(ahead),
        "samples": sum(cell.left for cell in ahead),
        "seconds": _seconds(ahead),
        "cells_of_unknown_time": sum(cell.seconds is None for cell in ahead),
    }


def _seconds(ahead: Sequence[Ahead]) -> float | None:
    """Of those whose time is known; None where some are to run and no time is."""
    known = [cell.seconds for cell in ahead if cell.seconds is not None]
    return sum(known) if known or not ahead else None


def _guessed(cells: Sequence[Ahead]) -> list[tuple[Basis, Ahead]]:
    """Cells whose time no record of their own task tells, each with what tells it."""
    return [
        (cell.pace.basis, cell) for cell in cells if cell.runs and cell.pace and cell.pace.basis in _GUESSES
    ]


def _named(cell: Ahead, reason: str) -> dict[str, str]:
    task, checkpoint, level = name(cell.told)
    return {"task": task, "checkpoint": checkpoint, "level": level, "reason": reason}


def _figures(cells: Sequence[Ahead]) -> tuple[str, ...]:
    ahead = [cell for cell in cells if cell.runs]
    known = [cell.seconds for cell in ahead if cell.seconds is not None]
    time = clock(sum(known)) if known else "?" if ahead else ""
    if known and len(known) < len(ahead):
        time += f" + {len(ahead) - len(known)} unknown"
    return f"{len(cells):,}", f"{len(ahead):,}", f"{sum(cell.left for cell in ahead):,}", time


def _total(cells: Sequence[Ahead]) -> str:
    ahead = [cell for cell in cells if cell.runs]
    known = [cell.seconds for cell in ahead if cell.seconds is not None]
    text = f"{_counted(len(ahead))} to run, {sum(cell.left for cell in ahead):,} samples"
    if not known:
        return f"{text}; time not known" if ahead else text
    more = f", and {_counted(len(ahead) - len(known))} of unknown time" if len(known) < len(ahead) else ""
    bases = {cell.pace.basis for cell in ahead if cell.pace}
    speed = "that pgbench bench measured" if bases == {"bench"} else "of earlier records"
    mixed = " and of pgbench bench" if "bench" in bases and len(bases) > 1 else ""
    return f"{text}; about {clock(sum(known))} on one device{more}, at the speed {speed}{mixed}"


def _counted(cells: int) -> str:
    return f"{cells:,} cell{'s' if cells != 1 else ''}"


def _listed(why: str, cells: Sequence[Ahead]) -> list[str]:
    names = [" · ".join(name(cell.told)) for cell in cells[:_SHOWN]]
    more = [f"and {len(cells) - _SHOWN:,} more"] if len(cells) > _SHOWN else []
    return [f"{why}: {'; '.join([*names, *more])}"] if cells else []
