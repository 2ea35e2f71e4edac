"""`pgbench sweep`: many cells, from a file or from flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pgbench.cli import bars, flags, stopping, streams
from pgbench.cli import sweep_flags as given
from pgbench.errors import INCOMPLETE, OK, UsageError
from pgbench.plan import WHOLE, Shard
from pgbench.sweeping import choices

if TYPE_CHECKING:
    from pgbench.recipe.asked import AskedCell
    from pgbench.sweeping.work import Swept

ENGINES = Literal["serial", "local", "ray"]


def sweep(
    file: given.File = None,
    checkpoint: given.Checkpoints = None,
    task: given.Tasks = None,
    quant: given.Quants = None,
    quant_scope: given.QuantScope = None,
    kind: flags.Kind = None,
    tuned_on: flags.TunedOn = None,
    adapter: flags.Adapter = None,
    adapter_mode: flags.AdapterMode = None,
    adapter_order: flags.AdapterOrder = None,
    dtype: given.Dtypes = None,
    resolution: given.Resolutions = None,
    device: given.Device = None,
    max_memory: flags.MaxMemory = None,
    batch_size: given.BatchSize = None,
    source: flags.Source = None,
    data: flags.Data = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    metric: flags.Metric = None,
    mode: given.Mode = None,
    prompt_style: given.PromptStyle = None,
    chat_attention: flags.ChatAttention = None,
    protocol: given.Protocol = None,
    pixels_from: flags.PixelsFrom = None,
    limit: flags.Limit = None,
    seed: given.Seed = None,
    official_seed: flags.OfficialSeed = None,
    backend: given.Backend = None,
    predictions: flags.Predictions = None,
    threads: flags.Threads = None,
    attention: flags.Attention = None,
    cache: flags.Cache = None,
    max_failures: given.MaxFailures = None,
    no_reuse: flags.NoReuse = False,
    engine: given.Engine = "serial",
    workers: given.Workers = None,
    address: given.Address = None,
    shard: flags.Shard = None,
    dry_run: given.DryRun = False,
    schema: given.Schema = False,
    out: flags.Out = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Run checkpoints x levels x tasks, of a file or of flags; the same command again goes on."""
    chosen = dict(locals())
    if schema:
        return _print_schema()
    part = choices.shard(shard) if shard is not None else WHOLE
    _require_engine(engine, workers, address, part, dry_run)
    asked = _asked(file, chosen, reuse=not no_reuse)
    if dry_run:
        return _ahead(asked, out, as_json)
    with streams.stdout_on_stderr():
        swept = _run(asked, out, engine, workers, address, part)
    return _tell(swept, out, as_json)


def _print_schema() -> int:
    from pgbench.recipe.shape import schema

    streams.print_json(schema())
    return OK


_AXES = {"checkpoint": "checkpoints", "task": "tasks", "quant": "quant", "dtype": "dtypes"}
_OPTIONS = (
    "adapter adapter_mode adapter_order attention backend batch_size cache chat_attention data data_id "
    "data_revision device kind limit max_failures max_memory metric mode official_seed pixels_from "
    "predictions prompt_style protocol quant_scope seed source split threads tuned_on variant"
).split()


def _asked(file: Path | None, chosen: Mapping[str, object], *, reuse: bool) -> list[AskedCell]:
    """Raises Mistakes with everything that is wrong, UsageError where nothing is asked for."""
    from dataclasses import replace

    from pgbench.recipe.read import read

    overrides = {name: chosen[name] for name in _OPTIONS if chosen[name] is not None}
    if isinstance(size := overrides.get("batch_size"), str):
        overrides["batch_size"] = choices.batch_size(size)
    for flag, axis in _AXES.items():
        words = chosen[flag]
        if isinstance(words, list) and words:
            overrides[axis] = words if flag == "checkpoint" else given.listed(words)
    if isinstance(sizes := chosen["resolution"], list) and sizes:
        words = given.listed(sizes) or []
        overrides["resolutions"] = [int(word) if word.isdecimal() else word for word in words]
    if file is None and "tasks" not in overrides:
        raise UsageError(
            "nothing to run; name a sweep file, or --task (and --checkpoint), as pgbench run takes them"
        )
    return [replace(cell, reuse=reuse) for cell in read(file, overrides)]


def _require_engine(
    engine: str, workers: int | None, address: str | None, shard: Shard, dry_run: bool
) -> None:
    choices.one_of("engine", engine, ENGINES)
    if dry_run and shard != WHOLE:
        raise UsageError("--dry-run is of whole cells; leave out --shard")
    if shard != WHOLE and engine != "serial":
        raise UsageError(f"--shard goes with --engine serial; {engine} shares the work out by itself")
    if workers is not None and engine == "serial":
        raise UsageError("--workers goes with --engine local or ray; serial is one process")
    if address is not None and engine != "ray":
        raise UsageError(f"--address goes with --engine ray, not with {engine}")


def _run(
    asked: Sequence[AskedCell],
    out: Path,
    engine: str,
    workers: int | None,
    address: str | None,
    shard: Shard,
) -> Swept:
    from pgbench.cli.watching import Bars

    with stopping.at_batch_end() as stop, bars.of_sweep(len(asked)) as bar:
        watch = Bars(bar)
        if engine == "local":
            from pgbench.engines import local

            return local.sweep(asked, out, watch=watch, stop=stop, workers=workers)
        if engine == "ray":
            from pgbench.engines import ray

            return ray.sweep(asked, out, watch=watch, stop=stop, address=address, workers=workers)
        from pgbench.sweeping.work import sweep as sweep_here

        return sweep_here(asked, out, watch=watch, stop=stop, shard=shard)


def _ahead(asked: Sequence[AskedCell], out: Path, as_json: bool) -> int:
    from pgbench.report.preview_table import of_preview
    from pgbench.report.render import terminal
    from pgbench.report.sweep_json import of_preview as as_document
    from pgbench.sweeping.preview import preview

    with streams.stdout_on_stderr():
        cells = preview(asked, out)
    if as_json:
        streams.print_json(as_document(cells))
    else:
        print(terminal(of_preview(cells)))
    return INCOMPLETE if any(cell.told.state == "failed" for cell in cells) else OK


def _tell_of_before(swept: Swept, out: Path) -> None:
    """Runs that an earlier version began or finished: why this sweep did not go on with them."""
    from pgbench.report.render import printable
    from pgbench.store import folder_of, of_before

    specs = [cell.spec for cell in swept.cells if cell.spec is not None and not cell.already_done]
    begun = [spec for spec in specs if folder_of(out, spec).exists()]
    before = [folder for spec in begun if (folder := of_before(out, spec)) is not None]
    if not before:
        return
    which, stay, new = f"{before[0]} holds this cell", "stays as it is", "this is a new run"
    if others := len(before) - 1:
        which = f"{before[0]} and {others} more hold these cells"
        stay, new = "stay as they are", "these are new runs"
    said = f"{which} in the batches of an earlier version, and {stay}"
    print(f"pgbench: {printable(said)}; {new}", file=sys.stderr)


def _tell(swept: Swept, out: Path, as_json: bool) -> int:
    from pgbench.report.render import printable, terminal
    from pgbench.report.replicates import of_replicates, replicates
    from pgbench.report.sweep_json import of_swept as as_document
    from pgbench.report.sweep_table import counted, of_swept

    _tell_of_before(swept, out)
    if as_json:
        streams.print_json(as_document(swept))
    else:
        print(terminal(of_swept(swept)))
        if found := replicates(swept.cells):
            print(f"\n{terminal(of_replicates(found))}")
        print(f"runs: {printable(str(out))}")
        if any(cell.state == "answered" for cell in swept.cells):
            print(f"when every shard is there: pgbench merge {printable(str(out))}")
    if swept.whole:
        return OK
    ended = f"{swept.stopped}; " if swept.stopped else ""
    only_failed = all(cell.state in ("done", "answered", "failed") for cell in swept.cells)
    step = "mend what failed, then give the same command" if only_failed else "the same command goes on"
    line = f"{ended}{counted(swept)}; {step}"
    print(f"pgbench: {printable(line)}", file=sys.stderr)
    return INCOMPLETE
