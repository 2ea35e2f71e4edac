"""`pgbench tasks`: what can be run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbench.cli import flags

if TYPE_CHECKING:
    from pgbench.types import Task


def tasks(
    as_json: flags.Json = False,
) -> None:
    """List the tasks: splits and their sizes, metrics, sources."""
    from pgbench.registry import load_task, task_names

    found = [_Listed(owner, load_task(name)) for name, owner in sorted(task_names().items())]
    if as_json:
        print(json.dumps([_document(entry) for entry in found], ensure_ascii=False, indent=1))
        return
    from pgbench.report.render import terminal
    from pgbench.report.table import Table

    rows = tuple(_row(entry.task) for entry in found)
    columns = ("task", "title", "splits (samples)", "metrics (* primary)", "sources")
    print(
        terminal(
            Table((f"{len(found)} tasks",), columns, rows, ("pgbench run --task NAME runs one",), left=5)
        )
    )


@dataclass(frozen=True, slots=True)
class _Listed:
    owner: str
    task: Task


def _row(task: Task) -> tuple[str, ...]:
    splits = ", ".join(f"{name} ({size:,})" for name, size in task.splits.items())
    metrics = ", ".join(f"{metric.name}{'*' if metric.primary else ''}" for metric in task.metrics)
    return f"{task.name} v{task.version}", task.title, splits, metrics, ", ".join(task.sources)


def _document(entry: _Listed) -> dict[str, object]:
    task = entry.task
    return {
        "name": task.name,
        "version": task.version,
        "title": task.title,
        "owner": entry.owner,
        "sources": list(task.sources),
        "splits": dict(task.splits),
        "variants": list(task.variants),
        "modes": list(task.modes),
        "metrics": [
            {
                "name": metric.name,
                "primary": metric.primary,
                "direction": metric.direction,
                "floor": metric.floor,
                "source": metric.source,
            }
            for metric in task.metrics
        ],
        "max_new_tokens": task.max_new_tokens,
        "licence": task.licence,
        "cite": task.cite,
    }
