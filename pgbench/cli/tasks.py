"""`pgbench tasks`: what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbench.cli import flags, streams
from pgbench.errors import OK, USAGE, UsageError

if TYPE_CHECKING:
    from pgbench.types import Task


def tasks(as_json: flags.Json = False) -> int:
    """List the tasks: splits and their sizes, metrics, sources."""
    from pgbench.registry import task_names

    with streams.stdout_on_stderr():  # a plugin may print when it is imported
        found = [_listed(name, owner) for name, owner in sorted(task_names().items())]
    if as_json:
        streams.print_json([_document(entry) for entry in found])
    else:
        _print(found)
    return USAGE if any(isinstance(entry.task, str) for entry in found) else OK


@dataclass(frozen=True, slots=True)
class _Listed:
    name: str
    owner: str
    task: Task | str  # or why it cannot be loaded


def _listed(name: str, owner: str) -> _Listed:
    """One plugin that fails shall not hide the others."""
    from pgbench.registry import load_task

    try:
        return _Listed(name, owner, load_task(name))
    except UsageError as error:
        return _Listed(name, owner, str(error))


def _print(found: Sequence[_Listed]) -> None:
    from pgbench.report.render import terminal
    from pgbench.report.table import Table

    rows = tuple(_row(entry.task) for entry in found if not isinstance(entry.task, str))
    broken = tuple(f"cannot be loaded: {entry.task}" for entry in found if isinstance(entry.task, str))
    columns = ("task", "title", "splits (samples)", "metrics (* primary)", "sources")
    notes = (*broken, "pgbench run --task NAME runs one")
    print(terminal(Table((f"{len(rows)} tasks",), columns, rows, notes, left=len(columns))))


def _row(task: Task) -> tuple[str, ...]:
    splits = ", ".join(f"{name} ({size:,})" for name, size in task.splits.items())
    metrics = ", ".join(f"{metric.name}{'*' if metric.primary else ''}" for metric in task.metrics)
    return f"{task.name} v{task.version}", task.title, splits, metrics, ", ".join(task.sources)


def _document(entry: _Listed) -> dict[str, object]:
    task = entry.task
    if isinstance(task, str):
        return {"name": entry.name, "owner": entry.owner, "error": task}
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
