"""What a split is called. By itself, since `pgbench run` needs it and no YAML."""

from __future__ import annotations

from pgbench.types import Task


def split_of(task: Task, asked: str) -> str | None:
    """The split's own name, for its other names too; "validation" is "val" everywhere. None: unknown."""
    if asked not in task.splits:
        asked = {"validation": "val", **task.aliases}.get(asked, asked)
    return asked if asked in task.splits else None
