"""A sweep, before it, after it and on the way, as JSON values. Pure. Fractions, seconds and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pgbench.report.replicates import Replicate, replicates
from pgbench.report.sweep_table import shared_caveats
from pgbench.report.table import remarks
from pgbench.sweeping.memory import RULE
from pgbench.sweeping.preview import Ahead
from pgbench.sweeping.state import model_name, task_name
from pgbench.sweeping.status import Status
from pgbench.sweeping.work import Swept, Told


def of_swept(swept: Swept) -> dict[str, object]:
    """Every cell with its primary score, and recipes with several checkpoints."""
    return {
        "stopped": swept.stopped or None,
        "cells": [{**_cell(cell), **_result(cell)} for cell in swept.cells],
        "replicates": [_replicate(one) for one in replicates(swept.cells)],
        "notes": list(shared_caveats(swept.cells)),
    }


def of_preview(cells: Sequence[Ahead]) -> dict[str, object]:
    """What would be run."""
    running = [cell for cell in cells if cell.runs]
    known = [cell.seconds for cell in running if cell.seconds is not None]
    return {
        "cells": [_ahead(cell) for cell in cells],
        "samples_to_answer": sum(cell.left for cell in cells),
        "seconds": sum(known) if known or not running else None,
        "cells_of_unknown_time": len(running) - len(known),
        "notes": [RULE] if any(cell.memory for cell in cells) else [],
    }


def of_status(status: Status) -> dict[str, object]:
    """How far each cell is."""
    return {
        "cells": [asdict(cell) for cell in status.cells],
        "counts": status.counts,
        "samples_per_second": status.rate,
        "seconds_left": status.seconds_left,
        "cells_of_unknown_size": status.unknown,
    }


def _cell(cell: Told) -> dict[str, object]:
    spec, asked = cell.spec, cell.asked
    point = spec.checkpoint if spec else None
    return {
        "task": spec.task if spec else task_name(asked),
        "version": spec.version if spec else None,
        "split": spec.split if spec else None,
        "variant": spec.variant if spec else asked.variant,
        "checkpoint": point.id if point else model_name(asked),
        "revision": point.revision if point else asked.model.revision,
        "resolution": point.resolution or None if point else None,
        "quant": point.quant if point else asked.model.quant,
        "quant_scope": point.quant_scope if point else asked.model.quant_scope,
        "dtype": point.dtype if point else asked.model.dtype,
        "adapter": point.adapter if point else asked.model.adapter,
        "adapter_mode": point.adapter_mode if point else asked.model.adapter_mode,
        "adapter_order": point.adapter_order if point else asked.model.adapter_order,
        "mode": asked.mode,
        "protocol": point.protocol if point else asked.model.protocol,
        "pixels_from": point.pixels_from if point else asked.model.pixels_from,
        "replicate": asked.replicate,
        "where": asked.where,
        "state": cell.state,
        "reason": cell.reason,
        "already_done": cell.already_done,
        "key": spec.key if spec else None,
        "run": str(cell.folder) if cell.folder else None,
        "samples": cell.samples,
    }


def _result(cell: Told) -> dict[str, object]:
    record = cell.record
    if record is None:
        return {"metric": None, "score": None, "failed": None, "reused": None, "notes": []}
    return {
        "metric": record.primary,
        "score": asdict(record.scores[record.primary]),
        "failed": len(record.failures),
        "reused": record.cost.reused,
        "notes": remarks(record),
    }


def _ahead(cell: Ahead) -> dict[str, object]:
    return {
        **_cell(cell.told),
        "kept": cell.kept,
        "failed_before": cell.failed_before,
        "loads": cell.loads,
        "batch_size": cell.told.spec.batch if cell.told.spec else cell.told.asked.batch,
        "to_answer": cell.left,
        "memory": {**asdict(cell.memory), "total": cell.memory.total} if cell.memory else None,
        "seconds": cell.seconds,
        "seconds_from": cell.pace.basis if cell.pace and cell.runs else None,
    }


def _replicate(one: Replicate) -> dict[str, object]:
    point = one.spec.checkpoint
    return {
        "recipe": one.recipe,
        "task": one.spec.task,
        "split": one.spec.split,
        "quant": point.quant,
        "dtype": point.dtype,
        "metric": one.metric or None,
        "mean": one.mean,
        "sd": one.sd,
        "seeds": len(one.values),
        "asked": one.asked,
        "values": list(one.values),
        "n": list(one.n),
    }
