"""From words of the command line to what they name, with the defaults that all commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pgbench.errors import UsageError, task_code, unknown

if TYPE_CHECKING:
    from pgbench.types import DataRequest, Dataset, Task


def source(task: Task, asked: str | None, data: DataRequest, *, drawn: bool) -> str:
    """The source that was named; else the drawings where nothing real is named and `drawn` allows them, the
    original files for a folder without parquet, else the task's first source. Raises UsageError."""
    if asked is not None and asked not in task.sources:
        raise UsageError(unknown(f"source of {task.name}", asked, task.sources))
    if asked:
        return asked
    if "demo" in task.sources and drawn and not any((data.path, data.id, data.revision)):
        return "demo"
    if "files" in task.sources and data.path and not _has_parquet(Path(data.path)):
        return "files"
    return next(iter(task.sources))


def _has_parquet(path: Path) -> bool:
    return path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)


def split(task: Task, asked: str) -> str:
    """The split's own name; "validation" is another name for "val". Raises UsageError."""
    name = "val" if asked == "validation" and "val" in task.splits else asked or next(iter(task.splits))
    if name not in task.splits:
        raise UsageError(unknown(f"split of {task.name}", asked, task.splits))
    return name


def variant(task: Task, asked: str | None) -> str:
    """Raises UsageError."""
    if asked is not None and asked not in task.variants:
        raise UsageError(unknown(f"variant of {task.name}", asked, task.variants))
    return asked or task.variants[0]


def dataset(task: Task, source: str, request: DataRequest) -> Dataset:
    """Raises UsageError for a source that breaks its contract, DataError, HubError."""
    from pgbench.types import Dataset

    with task_code(f"task {task.name}, source {source}"):
        found: object = task.sources[source](request)
    if not isinstance(found, Dataset):
        raise UsageError(
            f"task {task.name}, source {source} gave a {type(found).__name__}; expected a pgbench.Dataset"
        )
    return found


def one_of(kind: str, value: str, literal: object) -> str:
    """A word of a closed choice. Raises UsageError."""
    words = get_args(literal)
    if value not in words:
        raise UsageError(unknown(kind, value, words))
    return value
