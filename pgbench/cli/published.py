"""`pgbench published`: numbers of papers, model cards and leaderboards, and where they may be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from pgbench.published import Published
    from pgbench.report.table import Table


def published(
    task: Annotated[str | None, typer.Option("--task", "-t", help="Of one task only.")] = None,
    as_json: flags.Json = False,
) -> None:
    """List published numbers with their sources, and the split and metric that each is comparable with."""
    from pgbench.published import rows

    found = rows(task)
    if not found and task is not None:
        raise UsageError(unknown("task", task, {row.task for row in rows() if row.task}))
    if as_json:
        streams.print_json([dataclasses.asdict(row) for row in found])
    else:
        from pgbench.report.render import terminal

        print(terminal(_table(found)))


def _table(found: Sequence[Published]) -> Table:
    """One line a number; sources and reasons are notes, told by number."""
    from pgbench.report.table import Table

    notes: dict[str, int] = {}
    lines = []
    for row in found:
        said = [row.source, *([row.reason] if row.reason else [])]
        marks = " ".join(f"[{notes.setdefault(text, len(notes) + 1)}]" for text in said)
        lines.append((_place(row), row.match, row.model, row.setting, row.precision, *_figures(row), marks))
    return Table(
        title=(f"{len(found)} published numbers, as their sources state them",),
        columns=(
            "comparable with",
            "match",
            "model",
            "setting",
            "precision",
            "params",
            "px",
            "value",
            "notes",
        ),
        rows=tuple(lines),
        notes=tuple(f"[{number}] {text}" for text, number in notes.items()),
        left=5,
    )


def _place(row: Published) -> str:
    """Where the number belongs in pgbench, or its own words where it joins nothing."""
    if row.match == "none":
        return f"nothing: {row.benchmark}, {row.published_split}, {row.published_metric}"
    variant = f"variant={row.variant}" if row.variant else ""
    return " ".join(part for part in (row.task, row.split, row.metric, row.group, variant) if part)


def _figures(row: Published) -> tuple[str, str, str]:
    unit = "%" if row.unit.startswith("%") else row.unit
    return row.params, str(row.resolution or "-"), f"{row.value:g} {unit}"
