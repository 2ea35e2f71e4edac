"""`pgbench score`: answers made elsewhere, through the same path as `pgbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgbench.cli import flags, run, streams
from pgbench.errors import UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.types import DataRequest, ModelRequest


def score(
    task: flags.Task,
    predictions: Annotated[
        list[Path],
        typer.Option(help="File of answers, or a folder of them; may be given again for several files."),
    ],
    name: Annotated[
        str | None, typer.Option(help="What gave the answers. [default: the file's name]")
    ] = None,
    source: flags.Source = None,
    data: flags.Data = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    metric: flags.Metric = None,
    limit: flags.Limit = None,
    seed: flags.Seed = 0,
    official_seed: flags.OfficialSeed = None,
    batch_size: flags.BatchSize = 8,
    max_failures: flags.MaxFailures = 0,
    out: flags.Out = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Score answers made elsewhere: the same record and report as a run's, without a model."""
    if name is not None and not name.strip():
        raise UsageError("--name is empty; say what gave the answers, or leave it out")
    asked = AskedCell(
        task=task,
        backend="replay",
        model=ModelRequest(predictions=str(predictions[0])),
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
    from pgbench.sweeping.opening import open_cell

    with streams.stdout_on_stderr():
        cell, surplus = open_cell(asked, more=predictions[1:], name=name)
        outcome = run.execute(cell, out)
    run.tell(outcome, surplus, named=True, as_json=as_json)
    mend = "complete the answers and score them again"
    return run.verdict(len(outcome.record.failures), max_failures, mend)
