"""`pgbench tasks NAME`: one task fully."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbench.errors import PgbenchError
from pgbench.types import DataRequest

if TYPE_CHECKING:
    from pgbench.sources.hub import Wanted
    from pgbench.types import Metric, Task


def lines(task: Task, owner: str) -> list[str]:
    """What the list does not say: where the data comes from, how long answers are, every metric's origin."""
    modes = f"modes    {', '.join(task.modes)}; at most {task.max_new_tokens} new tokens"
    sources: dict[str, list[str]] = {}
    for metric in (*task.metrics, *(task.likelihood.metrics if task.likelihood else ())):
        sources.setdefault(metric.source, []).append(metric.name)
    metrics = [f"scored   {', '.join(named)}: {source}" for source, named in sources.items()]
    cited = ["cite", *(f"    {line}" for line in task.cite.splitlines())] if task.cite else []
    layouts = data_layouts(task) if owner.partition(" ")[0] == "pgbench" else []
    more = "prompts  with sources and deviations: --markdown, or docs/tasks.md"
    return [f"owner    {owner}", modes, *layouts, *server(task), *metrics, more, *cited]


def server(task: Task) -> list[str]:
    """Where `pgbench submit` files of the task go."""
    if task.submission is None:
        return []
    return [
        f"server   {task.submission.server}; pgbench submit takes --split {', '.join(task.submission.splits)}"
    ]


def data_layouts(task: Task) -> list[str]:
    """What the sources of a shipped task read. A plugin's is not called: it may do anything."""
    found = []
    wanted = of_hub(task)
    if wanted is not None:
        patterns = [one for one in wanted.patterns if one != "README.md" and not one.startswith("*/")]
        found.append(f"hub      {wanted.repo_id}: {', '.join(patterns)}, in any folder")
    if "files" in task.sources:
        try:  # without a folder it says what the folder should hold
            task.sources["files"](DataRequest(next(iter(task.splits)), variant=task.variants[0]))
        except PgbenchError as said:
            found.append(f"files    {said}")
    return found


def of_hub(task: Task) -> Wanted | None:
    """What the default split asks the hub for, found out without a network."""
    from pgbench.fetch import first_wanted

    request = DataRequest(next(iter(task.splits)), variant=task.variants[0])
    return first_wanted(lambda: task.sources["hub"](request)) if "hub" in task.sources else None


def floor(metric: Metric) -> str:
    """As scores are shown: in percent, unless the value is no fraction.

    >>> from pgbench.metrics.pope import METRICS
    >>> floor(METRICS[0])
    '50.00'
    """
    return f"{metric.floor:g}" if metric.number else f"{100 * metric.floor:.2f}"


def floors(task: Task) -> list[str]:
    """One line for the list; none where answering without looking gives nothing."""
    known = ", ".join(f"{metric.name} {floor(metric)}" for metric in task.metrics if metric.floor)
    return [f"floors   {known}"] if known else []
