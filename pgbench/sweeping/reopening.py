"""From the spec of a stored run back to its task and its data, for what works on answers that were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pgbench.errors import DataError, UsageError
from pgbench.registry import is_path, load_task, task_digest
from pgbench.sweeping import choices
from pgbench.types import DataRequest, Dataset, RunSpec, Sample, Task

WORLD = "demo-world"  # drawings that TextVQA's demo source shows only where they are named


def named_files(task_files: Sequence[str]) -> dict[str, str]:
    """The name of each task that is a file -> its path. Raises UsageError."""
    return {load_task(path).name: path for path in task_files}


def task_of(spec: RunSpec, files: Mapping[str, str]) -> tuple[Task, str]:
    """The task as it is now, with the metrics of the run, and the sha256 of its source. Raises UsageError."""
    name = spec.task
    if name not in files and is_path(name):
        raise UsageError(f"task {name!r} is named like a file, which a record never chooses")
    source = files.get(name, name)
    try:
        task, digest = load_task(source), task_digest(source)
    except UsageError as error:
        raise UsageError(f"{error}; of a task file, name it with --task") from error
    if spec.variant not in task.variants or spec.split not in task.splits:
        raise DataError(f"{name} v{task.version} has no {spec.split} {spec.variant} any more; run again")
    task = choices.in_mode(task, spec.mode)
    return choices.with_draw(choices.metric(task, spec.metric), spec.official_seed), digest


def continuations(spec: RunSpec, task: Task, sample: Sample) -> list[str]:
    """What the task scores behind the prompt of a sample; nothing where it lets the model answer."""
    if spec.mode != "likelihood" or task.likelihood is None:
        return []
    return [*task.likelihood.continuations(sample, spec.checkpoint.profile, spec.variant)]


def candidates(spec: RunSpec, data: Sequence[str]) -> list[str | None]:
    """What the run's data may lie in: as it named them itself (None), else what --data says, first what bears
    their name. Raises DataError."""
    source = spec.source
    named = sorted(data, key=lambda path: Path(path).name != source.id)
    found = [*([None] if source.name == "demo" or source.revision else []), *named]
    if not found:
        raise DataError(f"the answers belong to {source.id} ({source.name}); name it with --data PATH")
    return found


def data_of(spec: RunSpec, task: Task, path: str | None) -> Dataset:
    """Raises UsageError, DataError, HubError."""
    source = spec.source
    if source.name not in task.sources:
        raise DataError(f"{task.name} has no source {source.name} any more; run again")
    request = DataRequest(spec.split, path, variant=spec.variant)
    if (source.name, source.id) == ("demo", WORLD):
        request = replace(request, id=source.id)
    if source.revision and not path:
        request = replace(request, id=source.id, revision=source.revision)
    found = choices.dataset(task, source.name, request)
    choices.check_metric(task, spec.metric, found)
    return found
