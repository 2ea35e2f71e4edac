"""`pgbench tasks`: what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams, task_card
from pgbench.errors import OK, USAGE, UsageError, unknown

if TYPE_CHECKING:
    from pgbench.types import Metric, Task


def tasks(
    name: Annotated[
        str | None, typer.Argument(help="Show this task, or the one of this .py file, fully.")
    ] = None,
    as_json: flags.Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As a page: prompts, splits, metrics, sources, deviations.")
    ] = False,
) -> int:
    """List the tasks: splits and their sizes, metrics and their floors, sources, licences."""
    from pgbench.registry import BY_PATH, is_path, task_names

    with streams.stdout_on_stderr():  # a plugin may print when it is imported
        owners = task_names()
        if name is not None and is_path(name):
            owners = {name: name}
        elif name is not None and name not in owners:
            raise UsageError(unknown("task", name, owners, hint=BY_PATH))
        found = [_listed(one, owners[one]) for one in (sorted(owners) if name is None else [name])]
    if as_json and markdown:
        raise UsageError("--json and --markdown are two forms of one list; take one of them")
    if markdown:
        print(_page(found))
    elif as_json:
        streams.print_json([_document(entry) for entry in found])
    else:
        _print(found, fully=name is not None)
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


def _page(found: Sequence[_Listed]) -> str:
    from pgbench.registry import task_head
    from pgbench.report.render import printable
    from pgbench.report.tasks_page import Entry, page

    heads = (task_head(entry.name) if not isinstance(entry.task, str) else "" for entry in found)
    names = (entry.name if isinstance(entry.task, str) else entry.task.name for entry in found)
    parts = zip(names, heads, found, strict=True)
    entries = [Entry(name, head, entry.task) for name, head, entry in parts]
    return "\n".join(printable(line) for line in page(entries).splitlines())


def _print(found: Sequence[_Listed], *, fully: bool) -> None:
    from pgbench.cli import task_card
    from pgbench.metrics.named import NAMED
    from pgbench.report.render import printable

    for entry in found:
        lines = _lines(entry.task) if not isinstance(entry.task, str) else [f"cannot be loaded: {entry.task}"]
        print(printable(f"{entry.name}  {lines[0]}"))
        lines += task_card.lines(entry.task, entry.owner) if fully and not isinstance(entry.task, str) else []
        for line in lines[1:]:
            print(f"    {printable(line)}")
    if fully:
        return
    print("\na floor, in percent, is what answering without looking gives; pgbench tasks NAME shows more")
    print("pgbench run --task NAME runs one; * marks the primary metric; --metric NAME computes one alone,")
    print(f"one of the task's or of {', '.join(NAMED)}")


def _lines(task: Task) -> list[str]:
    """Title, then what can be chosen; the first split, variant and source are the defaults."""
    metrics = ", ".join(f"{metric.name}{'*' if metric.primary else ''}" for metric in task.metrics)
    splits = ", ".join(f"{name} ({size:,})" if size else name for name, size in task.splits.items())
    variants = [f"variants {', '.join(task.variants)}"] if len(task.variants) > 1 else []
    scored = task.likelihood.metrics if task.likelihood else ()
    names = ", ".join(f"{one.name}{'*' if one.primary else ''}" for one in scored)
    likely = [f"metrics  with --mode likelihood: {names}"] if scored else []
    read = f"sources  {', '.join(task.sources)}"
    rest = [f"splits   {splits}", f"metrics  {metrics}", *task_card.floors(task), *likely, read, *variants]
    return [f"{task.title} (v{task.version})", *rest, f"licence  {task.licence}"]


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
        "metrics": [_metric(metric) for metric in task.metrics],
        "likelihood_metrics": [_metric(one) for one in (task.likelihood.metrics if task.likelihood else ())],
        "max_new_tokens": task.max_new_tokens,
        "licence": task.licence,
        "cite": task.cite,
    }


def _metric(metric: Metric) -> dict[str, object]:
    return {
        "name": metric.name,
        "primary": metric.primary,
        "direction": metric.direction,
        "floor": metric.floor,
        "source": metric.source,
    }
