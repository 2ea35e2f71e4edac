"""The metrics behind stored statistics: a record names them, the task at hand reduces them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pgbench.errors import StoreError
from pgbench.metrics import mean
from pgbench.paired.evidence import Units
from pgbench.records import RunRecord
from pgbench.stats import Reduce
from pgbench.sweeping import reopening
from pgbench.types import Metric, sample_id

CLOSE = 1e-9  # between a stored score and what the stored statistics reduce to: rounding alone


def metrics_of(record: RunRecord, files: Mapping[str, str]) -> dict[str, Metric]:
    """The metrics of a record that the task still has, by name, in the record's order.

    `files`: the name of each task that is a file -> its path. Raises UsageError, DataError for a task that
    is not at hand, or has no such variant or split any more.
    """
    task, _ = reopening.task_of(record.spec, files)
    own = {metric.name: metric for metric in task.metrics}
    return {name: own[name] for name in record.scores if name in own}


def is_single(metric: Metric) -> bool:
    """Whether it scores one sample at a time."""
    return metric.unit_of is sample_id


def units_of(metric: Metric, ids: Sequence[str], sums: Mapping[str, Sequence[float]]) -> Units:
    return Units(
        metric=metric.name,
        reduce=metric.reduce,
        is_mean=metric.reduce is mean,
        direction=metric.direction,
        number=metric.number,
        ids=ids,
        sums=sums,
    )


def require_same_score(place: str, record: RunRecord, units: Units) -> None:
    """Raises StoreError for statistics that do not reduce to the record's own score: the task at hand
    judges otherwise than the one that made them, or a file was changed."""
    stored = record.scores[units.metric].value
    found = reduced(units.reduce, {name: math.fsum(column) for name, column in units.sums.items()})
    same = found == stored if found is None or stored is None else abs(found - stored) <= CLOSE
    if not (same or (stored is None and not units.ids)):
        raise StoreError(
            f"{place}: the statistics of {units.metric} give {_said(found)} by this task, {_said(stored)} "
            f"by its record; use the {record.spec.task} v{record.spec.version} that made it, or run again"
        )


def reduced(reduce: Reduce, total: Mapping[str, float]) -> float | None:
    """None also where a metric cannot make a value of these sums (a task of another version, no samples)."""
    try:
        found = reduce(total)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return None if found is None else float(found)


def _said(value: float | None) -> str:
    return "no value" if value is None else f"{value:.10g}"
