"""`pgbench run`: one cell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pgbench.cli import choices, flags, streams
from pgbench.errors import INCOMPLETE, OK, DataError, RunStopped
from pgbench.profiles import DEFAULT, EXAMPLE, SHIPPED
from pgbench.sweep import expand
from pgbench.types import DataRequest, DataSource, Dtype, ModelRequest, Quant, Style, Sweep

if TYPE_CHECKING:  # the runner pulls in the store and the metrics; `--help` needs neither
    from pgbench.batch import Cell
    from pgbench.runner import Outcome

_NAME_A_CHECKPOINT = """\
This was the embedded demo checkpoint {default}. To measure PaliGemma itself, name a checkpoint:
  pgbench run --task {task} --model {example} --quant 4bit"""


def run(
    task: flags.Task,
    model: flags.Model = None,
    revision: flags.Revision = None,
    quant: flags.Quant = "none",
    dtype: flags.Dtype = "bfloat16",
    device: flags.Device = "auto",
    batch_size: flags.BatchSize = 8,
    source: flags.Source = None,
    data: flags.Data = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    metric: flags.Metric = None,
    prompt_style: flags.PromptStyle = "paligemma",
    limit: flags.Limit = None,
    seed: flags.Seed = 0,
    official_seed: flags.OfficialSeed = None,
    backend: flags.Backend = "paligemma",
    predictions: flags.Predictions = None,
    threads: flags.Threads = None,
    max_failures: flags.MaxFailures = 0,
    out: flags.Out = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Run one checkpoint on one task; the same command again goes on where it stopped, or reports done."""
    asked = Asked(
        task=task,
        backend=backend,
        model=ModelRequest(
            model=model,
            revision=revision,
            dtype=cast(Dtype, choices.one_of("dtype", dtype, Dtype)),
            quant=cast(Quant, choices.one_of("quant", quant, Quant)),
            style=cast(Style, choices.one_of("prompt style", prompt_style, Style)),
            device=device,
            threads=threads,
            predictions=predictions,
        ),
        data=DataRequest(split=split or "", path=data, id=data_id, revision=data_revision),
        source=source,
        variant=variant,
        metric=metric,
        limit=limit,
        seed=seed,
        official_seed=official_seed,
        batch=batch_size,
        max_failures=max_failures,
    )
    with streams.stdout_on_stderr():
        cell, surplus = cell_of(asked)
        outcome = execute(cell, out)
    tell(outcome, surplus, named=model is not None or backend != "paligemma", as_json=as_json)
    return verdict(len(outcome.record.failures), max_failures)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line said, checked for its words only."""

    task: str
    backend: str
    model: ModelRequest
    data: DataRequest
    source: str | None
    variant: str | None
    limit: int | None
    seed: int
    official_seed: int | None
    batch: int
    max_failures: int
    metric: str | None = None
    more: tuple[Path, ...] = ()  # files of answers beside the first
    name: str | None = None  # of what gave the answers


def cell_of(asked: Asked) -> tuple[Cell, Sequence[str]]:
    """Task, data and checkpoint, found and checked, no weights loaded; and the ids of surplus answers."""
    from pgbench.backends import replay
    from pgbench.batch import Cell
    from pgbench.registry import load_backend, load_task, task_digest

    task = choices.with_draw(choices.metric(load_task(asked.task), asked.metric), asked.official_seed)
    open_engine = load_backend(asked.backend)
    drawn = asked.model.model in (None, *SHIPPED) and not asked.model.predictions
    name = choices.source(task, asked.source, asked.data, drawn=drawn)
    split = choices.split(task, asked.data.split)
    replayed = bool(asked.backend == "replay" and replay.required(asked.model))
    engine = None if replayed else open_engine(asked.model)
    variant = choices.variant(task, asked.variant)
    dataset = choices.dataset(task, name, replace(asked.data, split=split, variant=variant))
    choices.check_metric(task, asked.metric, dataset)
    surplus: Sequence[str] = ()
    if engine is None:  # read by the task, which knows its own result files
        dataset = replace(dataset, missing=())  # no picture is looked at
        answers = choices.answers(task, dataset, asked.model, asked.more)
        engine, surplus = replay.engine_of(answers, asked.model.style, asked.name), answers.surplus
    source = DataSource(name, dataset.id, dataset.revision)
    sweep = Sweep(
        tasks=((task, variant, split, source),),
        checkpoints=(engine.checkpoint,),
        limit=asked.limit,
        seed=asked.seed,
        batch=asked.batch,
    )
    spec = replace(expand(sweep)[0], official_seed=asked.official_seed, metric=asked.metric)
    cell = Cell(spec, task, task_digest(asked.task), dataset, engine)
    _accept_missing(cell, asked)
    return cell, surplus


def _accept_missing(cell: Cell, asked: Asked) -> None:
    """Raises DataError where more of the samples to run lack their image than may fail."""
    from pgbench.plan import order
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


def execute(cell: Cell, out: Path) -> Outcome:
    """Run with a bar on stderr, and say on interruption what is kept."""
    import shutil

    from tqdm import tqdm

    from pgbench.runner import run as run_cell

    columns, rows = shutil.get_terminal_size()  # never 0, with which tqdm would show nothing
    with tqdm(unit="sample", desc="loading", disable=None, file=sys.stderr, ncols=columns, nrows=rows) as bar:
        kept, of = 0, 0  # a bar that is switched off does not count

        def progress(done: int, total: int) -> None:
            nonlocal kept, of
            kept, of = done, total
            if bar.total is None:  # told once before loading: a resumed run starts where it stopped
                bar.total, bar.initial, bar.n = total, done, done
                bar.refresh()
                return
            if bar.n == bar.initial:
                bar.unpause()  # loading is in no rate
                bar.set_description(cell.spec.task, refresh=False)
            bar.update(done - bar.n)

        try:
            return run_cell(cell, out, progress)
        except KeyboardInterrupt as error:
            state = f"{kept:,} of {of:,} answers are kept" if kept else "no answer was given yet"
            # a RunStopped, since typer makes a silent exit code 130 of a KeyboardInterrupt
            reason = str(error) or "interrupted"
            raise RunStopped(f"{reason}; {state}, the same command goes on") from error


def tell(outcome: Outcome, surplus: Sequence[str], *, named: bool, as_json: bool) -> None:
    """The table or the JSON document of a run."""
    from pgbench.report.render import printable, terminal
    from pgbench.report.table import caveats, of_record

    if as_json:
        from pgbench.store import plain

        document = {
            "run": str(outcome.folder),
            "already_done": outcome.already_done,
            "notes": caveats(outcome.record),
            **({"surplus": {"count": len(surplus), "first": list(surplus[:10])}} if surplus else {}),
            "record": plain(outcome.record),
        }
        streams.print_json(document)
        return
    print(terminal(of_record(outcome.record)))
    if surplus:
        from pgbench.submissions.read import surplus_note

        print(printable(surplus_note(surplus)))
    print(f"{'already done' if outcome.already_done else 'record'}: {printable(str(outcome.folder))}")
    if not named:
        print(_NAME_A_CHECKPOINT.format(task=outcome.record.spec.task, default=DEFAULT, example=EXAMPLE))


def verdict(failed: int, allowed: int, mend: str = "mend the data and start in another --out") -> int:
    """The exit code; says on stderr what is to do where it is not 0."""
    if failed <= allowed:
        return OK
    print(
        f"pgbench: {failed:,} samples failed, {allowed:,} allowed; see failures in record.json: "
        f"{mend}, or accept them with --max-failures {failed}",
        file=sys.stderr,
    )
    return INCOMPLETE
