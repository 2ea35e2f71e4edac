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
    from pgbench.report.render import printable

    for entry in found:
        lines = _lines(entry.task) if not isinstance(entry.task, str) else [f"cannot be loaded: {entry.task}"]
        print(printable(f"{entry.name}  {lines[0]}"))
        for line in lines[1:]:
            print(f"    {printable(line)}")
    print("\npgbench run --task NAME runs one; * marks the primary metric")


def _lines(task: Task) -> list[str]:
    """Title, then what can be chosen; the first split, variant and source are the defaults."""
    metrics = ", ".join(f"{metric.name}{'*' if metric.primary else ''}" for metric in task.metrics)
    splits = ", ".join(f"{name} ({size:,})" if size else name for name, size in task.splits.items())
    variants = [f"variants {', '.join(task.variants)}"] if len(task.variants) > 1 else []
    rest = [f"splits   {splits}", f"metrics  {metrics}", f"sources  {', '.join(task.sources)}", *variants]
    return [f"{task.title} (v{task.version})", *rest]


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
