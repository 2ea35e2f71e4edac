"""From what is asked to a cell that can run: task, data and checkpoint, found and checked, nothing loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from pgbench.backends import Engine
from pgbench.batch import Cell
from pgbench.errors import DataError, UsageError
from pgbench.plan import order
from pgbench.profiles import SHIPPED
from pgbench.recipe.asked import AskedCell
from pgbench.specs import expand
from pgbench.sweeping import choices
from pgbench.types import DataSource, ModelRequest, Sweep

EngineOf: TypeAlias = Callable[[str, ModelRequest], Engine]  # a backend's name and what is asked of it


def engine_of(backend: str, model: ModelRequest) -> Engine:
    """Raises UsageError, CheckpointError, HubError."""
    from pgbench.registry import load_backend

    return load_backend(backend)(model)


def peek_of(backend: str, model: ModelRequest) -> Engine:
    """The same without fetching weights, for looking ahead; only loading it would.

    Raises UsageError, CheckpointError, HubError.
    """
    from pgbench.registry import load_peek

    return load_peek(backend)(model)


def open_cell(
    asked: AskedCell,
    engine_of: EngineOf = engine_of,
    *,
    more: Sequence[Path] = (),
    name: str | None = None,
) -> tuple[Cell, Sequence[str]]:
    """The cell, and the ids of surplus answers where answers made elsewhere are scored.

    `more`: files of answers beside the first; `name`: of what gave them. Raises PgbenchError.
    """
    from pgbench.backends import replay
    from pgbench.registry import load_backend, load_task, task_digest

    task = choices.in_mode(load_task(asked.task), asked.mode)
    task = choices.with_draw(choices.metric(task, asked.metric), asked.official_seed)
    if (asked.backend, asked.mode) == ("replay", "likelihood"):
        raise UsageError("the replay backend has no likelihoods; use --mode generate")
    load_backend(asked.backend)  # an unknown name is told before an unknown source
    drawn = asked.model.model in (None, *SHIPPED) and not asked.model.predictions
    source = choices.source(task, asked.source, asked.data, drawn=drawn)
    data = choices.drawings(source, asked.data, asked.model)
    split = choices.split(task, data.split)
    replayed = bool(asked.backend == "replay" and replay.required(asked.model))
    engine = None if replayed else engine_of(asked.backend, asked.model)
    variant = choices.variant(task, asked.variant)
    dataset = choices.dataset(task, source, replace(data, split=split, variant=variant))
    choices.check_metric(task, asked.metric, dataset)
    surplus: Sequence[str] = ()
    if engine is None:  # read by the task, which knows its own result files
        dataset = replace(dataset, missing=())  # no picture is looked at
        answers = choices.answers(task, dataset, asked.model, more)
        engine, surplus = replay.engine_of(answers, asked.model.style, name), answers.surplus
    sweep = Sweep(
        tasks=((task, variant, split, DataSource(source, dataset.id, dataset.revision)),),
        checkpoints=(engine.checkpoint,),
        mode=asked.mode,
        limit=asked.limit,
        seed=asked.seed,
        batch=0 if asked.batch == "auto" else asked.batch,  # 0: sizing.settled says it before it is planned
    )
    spec = replace(expand(sweep)[0], official_seed=asked.official_seed, metric=asked.metric)
    cell = Cell(spec, task, task_digest(asked.task), dataset, engine, asked.reuse)
    _accept_missing(cell, asked)
    return cell, surplus


def _accept_missing(cell: Cell, asked: AskedCell) -> None:
    """Raises DataError where more of the samples to run lack their image than may fail."""
    from pgbench.registry import is_path

    samples, lacking = cell.dataset.samples, set(cell.dataset.missing)
    if len(lacking) <= asked.max_failures:
        return
    chosen = [samples[position] for position in order(samples, seed=cell.spec.seed, limit=cell.spec.limit)]
    missing = sorted((sample for sample in chosen if sample.id in lacking), key=lambda sample: sample.id)
    if len(missing) > asked.max_failures:
        first = next((image.name for image in missing[0].images), "the image")
        none = len(missing) == len(chosen) > 1 and not is_path(asked.task)
        where = f" where pgbench tasks {asked.task} says" if none else ""
        raise DataError(
            f"{cell.dataset.id}: {len(missing):,} of {len(chosen):,} samples name an image that is not "
            f"there, first: {first} of sample {missing[0].id}; add the images{where}, "
            f"or accept them as failed with --max-failures {len(missing)}"
        )
