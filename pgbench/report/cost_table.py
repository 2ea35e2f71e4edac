"""What a sweep will cost, checkpoint by checkpoint, from cells that were looked at and not run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pgbench.report.sweep_table import clock, name
from pgbench.report.table import Table
from pgbench.sweeping.preview import Ahead

_SHOWN = 20  # cells named in a note


def costs(cells: Sequence[Ahead]) -> dict[str, object]:
    """The sums, for `--json` and for the table. `seconds` and `samples` are of the cells that they are known
    of; the others are in `unknown`, with the reason."""
    ahead = [cell for cell in cells if cell.runs]
    return {
        "cells": len(cells),
        "done": sum(cell.told.state == "done" for cell in cells),
        "to_run": len(ahead),
        "impossible": [_named(cell, cell.told.reason) for cell in cells if cell.told.state == "failed"],
        "samples": sum(cell.left for cell in ahead),
        "seconds": sum(cell.seconds for cell in ahead if cell.seconds is not None),
        "unknown": [
            _named(cell, "no record of this checkpoint, level and batch size")
            for cell in ahead
            if cell.seconds is None
        ],
    }


def of_costs(cells: Sequence[Ahead]) -> Table:
    """A row per checkpoint and level; a time is a sum over cells of which records tell it."""
    sums = costs(cells)
    groups: dict[tuple[str, str], list[Ahead]] = {}
    for cell in cells:
        groups.setdefault(name(cell.told)[1:], []).append(cell)
    unknown = [cell for cell in cells if cell.runs and cell.seconds is None]
    guessed = [cell for cell in cells if cell.runs and cell.pace and cell.pace.basis == "other tasks"]
    return Table(
        title=(f"{_counted(len(cells))}, {sums['done']} done; nothing was loaded",),
        columns=("checkpoint", "level", "cells", "to run", "samples", "time"),
        rows=tuple((*group, *_figures(found)) for group, found in groups.items()),
        notes=(
            _total(cells),
            *_listed("time not known, no record of this checkpoint, level and batch size", unknown),
            *_listed("time from records of other tasks", guessed),
            *(
                f"impossible: {' · '.join(name(cell.told))}: {cell.told.reason}"
                for cell in cells
                if cell.told.state == "failed"
            ),
        ),
        left=2,
    )


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
    return f"{text}; about {clock(sum(known))} on one device{more}, at the speed of earlier records"


def _counted(cells: int) -> str:
    return f"{cells:,} cell{'s' if cells != 1 else ''}"


def _listed(why: str, cells: Sequence[Ahead]) -> list[str]:
    names = [" · ".join(name(cell.told)) for cell in cells[:_SHOWN]]
    more = [f"and {len(cells) - _SHOWN:,} more"] if len(cells) > _SHOWN else []
    return [f"{why}: {'; '.join([*names, *more])}"] if cells else []
