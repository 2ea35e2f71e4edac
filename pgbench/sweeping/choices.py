"""From the words of a command or a sweep to what they name, with the defaults that all commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pgbench.errors import UsageError, task_code, unknown
from pgbench.plan import Shard
from pgbench.profiles import DRAWINGS, DRAWN
from pgbench.recipe.splits import split_of

if TYPE_CHECKING:
    from pgbench.recipe.asked import BatchSize
    from pgbench.submissions.read import Answers
    from pgbench.types import DataRequest, Dataset, Mode, ModelRequest, Task

_DIGITS = 10  # of a batch size: more is a slip of the hand, and Python makes no int of 5,000


def source(task: Task, asked: str | None, data: DataRequest, *, drawn: bool) -> str:
    """The source that was named; else the drawings where they are named, or nothing is and `drawn` allows
    them; the original files for a folder without parquet, else the task's first source. Raises UsageError."""
    if asked is not None and asked not in task.sources:
        raise UsageError(unknown(f"source of {task.name}", asked, task.sources))
    if asked:
        return asked
    real = data.path or data.revision or (data.id and data.id not in DRAWN)
    if "demo" in task.sources and not real and (drawn or data.id):
        return "demo"
    if "files" in task.sources and data.path and not _has_parquet(Path(data.path)):
        return "files"
    return next(iter(task.sources))


def drawings(source: str, data: DataRequest, model: ModelRequest) -> DataRequest:
    """The request, for drawn data with those that a shipped checkpoint knows, unless some are named."""
    if source != "demo" or data.path or data.id or data.revision:
        return data
    return replace(data, id=DRAWINGS.get(model.model or ""))


def _has_parquet(path: Path) -> bool:
    return path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)


def split(task: Task, asked: str) -> str:
    """The split's own name, for its other names too; "validation" is "val" everywhere. Raises UsageError."""
    name = split_of(task, asked or next(iter(task.splits)))
    if name is None:
        raise UsageError(unknown(f"split of {task.name}", asked, task.splits))
    return name


def variant(task: Task, asked: str | None) -> str:
    """Raises UsageError."""
    if asked is not None and asked not in task.variants:
        raise UsageError(unknown(f"variant of {task.name}", asked, task.variants))
    return asked or task.variants[0]


def in_mode(task: Task, mode: Mode) -> Task:
    """The task with the metrics of a mode. Raises UsageError for a mode that it does not have."""
    from pgbench.metrics.named import in_mode

    return in_mode(task, mode)


def metric(task: Task, asked: str | None) -> Task:
    """The task with this metric alone; as it is, where none is asked for. Raises UsageError."""
    if asked is None:
        return task
    from pgbench.metrics.named import narrowed

    return narrowed(task, asked)


def with_draw(task: Task, seed: int | None) -> Task:
    """The task with its official script's own guesses scored as well. Raises UsageError where it has none."""
    if seed is None:
        return task
    if task.draw is None:
        raise UsageError(f"{task.name} has no official script that guesses; leave out --official-seed")
    return replace(task, metrics=(*task.metrics, task.draw(seed)))


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


def answers(task: Task, data: Dataset, asked: ModelRequest, more: Sequence[Path]) -> Answers:
    """Answers made elsewhere, read as the task's own result files are. Raises UsageError, DataError."""
    from pgbench.submissions.read import read_files

    with task_code(f"task {task.name}, reading answers"):
        return read_files(Path(asked.predictions or ""), more, task.results, data.samples)


def check_metric(task: Task, asked: str | None, data: Dataset) -> None:
    """Before any model is loaded. Raises DataError for a sample that the chosen metric cannot score."""
    if asked is not None:
        from pgbench.metrics.named import check_fits

        check_fits(task, data.samples)


def shard(asked: str) -> Shard:
    """Raises UsageError for anything but i/n with 0 <= i < n."""
    index, slash, count = asked.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        example = f"0/{count} to {int(count) - 1}/{count}" if count.isdecimal() and int(count) else "0/4"
        raise UsageError(f"--shard {asked!r}: expected i/n, counted from 0: {example}")
    return Shard(int(index), int(count))


def batch_size(asked: str) -> BatchSize:
    """Raises UsageError for anything but a number of 1 or more, or auto."""
    if asked == "auto":
        return "auto"
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= _DIGITS and int(asked)):
        raise UsageError(f"--batch-size {asked!r}: expected a whole number of 1 or more, or auto")
    return int(asked)


def one_of(kind: str, value: str, literal: object) -> str:
    """A word of a closed choice. Raises UsageError."""
    words = get_args(literal)
    if value not in words:
        raise UsageError(unknown(kind, value, words))
    return value
