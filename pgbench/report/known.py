"""The tasks of stored records, as they are installed here: what a record does not hold is read off them."""

from __future__ import annotations

from collections.abc import Iterable

from pgbench.errors import UsageError
from pgbench.records import RunRecord
from pgbench.registry import is_path, load_task
from pgbench.types import Task


def tasks_of(records: Iterable[RunRecord]) -> dict[str, Task]:
    """By name; one that is not installed, or that a record names by a file, is not here.

    A record comes from anywhere and chooses no file to be run.
    """
    found = {}
    for name in dict.fromkeys(record.spec.task for record in records):
        try:
            if not is_path(name):
                found[name] = load_task(name)
        except UsageError:
            continue
    return found
