"""`pgbench run`: one cell."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pgbench.cli import bars, flags, stopping, streams
from pgbench.errors import INCOMPLETE, OK, RunStopped
from pgbench.profiles import DEFAULT, EXAMPLE
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping import choices
from pgbench.types import (
    AdapterMode,
    AdapterOrder,
    Attention,
    CacheKind,
    ChatAttention,
    DataRequest,
    Dtype,
    Kind,
    Mode,
    ModelRequest,
    ProtocolName,
    Quant,
    QuantScope,
    Style,
)

if TYPE_CHECKING:  # the runner pulls in the store and the metrics; `--help` needs neither
    from pgbench.batch import Cell
    from pgbench.plan import Shard
    from pgbench.runner import Outcome, Part, Progress

T = TypeVar("T")
_NAME_A_CHECKPOINT = """\
This was the embedded demo checkpoint {default}. To measure PaliGemma itself, name a checkpoint:
  pgbench run --task {task} --model {example} --quant 4bit"""


def run(
    task: flags.Task,
    model: flags.Model = None,
    revision: flags.Revision = None,
    quant: flags.Quant = "none",
    quant_scope: flags.QuantScope = "all",
    kind: flags.Kind = None,
    tuned_on: flags.TunedOn = None,
    resolution: flags.Resolution = None,
    adapter: flags.Adapter = None,
    adapter_mode: flags.AdapterMode = None,
    adapter_order: flags.AdapterOrder = None,
    dtype: flags.Dtype = "bfloat16",
    device: flags.Device = "auto",
    max_memory: flags.MaxMemory = None,
    batch_size: flags.BatchSizeOrAuto = 8,
    source: flags.Source = None,
    data: flags.Data = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    metric: flags.Metric = None,
    mode: flags.Mode = "generate",
    prompt_style: flags.PromptStyle = "paligemma",
    chat_attention: flags.ChatAttention = None,
    protocol: flags.Protocol = "hf",
    pixels_from: flags.PixelsFrom = None,
    limit: flags.Limit = None,
    seed: flags.Seed = 0,
    official_seed: flags.OfficialSeed = None,
    backend: flags.Backend = "paligemma",
    predictions: flags.Predictions = None,
    threads: flags.Threads = None,
    attention: flags.Attention = None,
    cache: flags.Cache = None,
    max_failures: flags.MaxFailures = 0,
    no_reuse: flags.NoReuse = False,
    doctor: flags.Doctor = False,
    shard: flags.Shard = None,
    out: flags.Out = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Run one checkpoint on one task; the same command again goes on where it stopped, or reports done."""
    asked = _asked(dict(locals()))
    if doctor:
        from pgbench.cli.doctor import before_run

        before_run(asked.model, backend, 8 if asked.batch == "auto" else asked.batch, out)
    if shard is not None:
        return _run_part(asked, out, choices.shard(shard), as_json)
    return _run_whole(asked, out, as_json)


_WORDS: Mapping[str, object] = {  # flags that are one of a few words
    "dtype": Dtype,
    "quant": Quant,
    "quant_scope": QuantScope,
    "kind": Kind,
    "adapter_mode": AdapterMode,
    "adapter_order": AdapterOrder,
    "mode": Mode,
    "prompt_style": Style,
    "protocol": ProtocolName,
    "chat_attention": ChatAttention,
    "attention": Attention,
    "cache": CacheKind,
}
_OF_MODEL = (
    "model revision dtype quant quant_scope kind tuned_on resolution adapter adapter_mode adapter_order "
    "protocol pixels_from chat_attention device max_memory threads attention cache predictions"
).split()
_OF_CELL = "task backend source variant mode metric limit seed official_seed max_failures".split()


def _asked(given: Mapping[str, Any]) -> AskedCell:
    """From the flags, by their names. Raises UsageError for a word that is none."""
    data = {"path": given["data"], "id": given["data_id"], "revision": given["data_revision"]}
    return AskedCell(
        model=model_asked(given),
        data=DataRequest(split=given["split"] or "", **data),
        batch=choices.batch_size(str(given["batch_size"])),
        reuse=not given["no_reuse"],
        **{name: given[name] for name in _OF_CELL},
    )


def model_asked(given: Mapping[str, Any]) -> ModelRequest:
    """What the flags of a command say of the model; one that it lacks keeps its default.

    Raises UsageError for a word that is none.
    """
    for name, words in _WORDS.items():
        if given.get(name) is not None:
            choices.one_of(name.replace("_", " "), given[name], words)
    model = {name: given[name] for name in _OF_MODEL if name in given}
    return ModelRequest(**model, style=given.get("prompt_style", "paligemma"))


def _run_whole(asked: AskedCell, out: Path, as_json: bool) -> int:
    from pgbench.sweeping.loans import Loans
    from pgbench.sweeping.opening import open_cell

    with streams.stdout_on_stderr(), contextlib.closing(Loans()) as loans:
        cell, surplus = open_cell(asked, loans.engine)
        outcome = execute(_sized(cell, out), out)
    named = asked.model.model is not None or asked.backend != "paligemma"
    tell(outcome, surplus, named=named, as_json=as_json)
    return verdict(len(outcome.record.failures), asked.max_failures)


def _sized(cell: Cell, out: Path) -> Cell:
    """With the batch size that --batch-size auto leads to, which is said; loading may take its time first."""
    if cell.spec.batch:
        return cell
    from pgbench.sweeping.sizing import settled

    found = settled(cell, out)
    print(f"pgbench: batches of {found.spec.batch} (--batch-size auto)", file=sys.stderr)
    return found


def _tell_of_before(cell: Cell, out: Path) -> None:
    """A run that an earlier version began or finished: why this command does not go on with it."""
    from pgbench.report.render import printable
    from pgbench.store import folder_of, of_before

    before = of_before(out, cell.spec)
    if before is not None and not folder_of(out, cell.spec).exists():
        said = f"{before} holds this cell in the batches of an earlier version, and stays as it is"
        print(f"pgbench: {printable(said)}; this is a new run", file=sys.stderr)


def execute(cell: Cell, out: Path) -> Outcome:
    """Run with a bar on stderr, and say on interruption what is kept."""
    from pgbench.runner import run as run_cell

    _tell_of_before(cell, out)
    return _watched(cell, lambda progress: run_cell(cell, out, progress))


def _run_part(asked: AskedCell, out: Path, shard: Shard, as_json: bool) -> int:
    from pgbench.runner import answer_part
    from pgbench.sweeping.loans import Loans
    from pgbench.sweeping.opening import open_cell

    with streams.stdout_on_stderr(), contextlib.closing(Loans()) as loans:
        cell = _sized(open_cell(asked, loans.engine)[0], out)
        _tell_of_before(cell, out)
        part = _watched(cell, lambda progress: answer_part(cell, out, shard, progress))
    return tell_part(part, as_json=as_json)


def _watched(cell: Cell, work: Callable[[Progress], T]) -> T:
    with stopping.at_batch_end() as stop, bars.of_cell(cell.spec.task) as bar:

        def progress(done: int, total: int) -> None:
            bar(done, total)
            stop.at_boundary(done, total)

        try:
            return work(progress)
        except KeyboardInterrupt as error:
            state = f"{bar.kept:,} of {bar.of:,} answers are kept" if bar.kept else "no answer was given yet"
            # a RunStopped, since typer makes a silent exit code 130 of a KeyboardInterrupt
            reason = str(error) or "interrupted"
            raise RunStopped(f"{reason}; {state}, the same command goes on") from error


def tell_part(part: Part, *, as_json: bool) -> int:
    """What a shard came to; there is no score before all of them are merged."""
    from pgbench.report.render import printable

    name = f"shard {part.shard.index}/{part.shard.count}"
    done = part.record is not None
    if as_json:
        streams.print_json(
            {
                "run": str(part.folder),
                "shard": {"index": part.shard.index, "count": part.shard.count},
                "answers": part.answers,
                "missing_batches": part.missing,
                "already_done": done,
            }
        )
        return OK
    rest = f"{part.missing:,} batches of other shards are missing" if part.missing else "all shards are there"
    print(f"{name}: {part.answers:,} answers; {'the run is already done' if done else rest}")
    print(f"{'record' if done else 'then: pgbench merge'} {printable(str(part.folder))}")
    return OK


def tell(outcome: Outcome, surplus: Sequence[str], *, named: bool, as_json: bool) -> None:
    """The table or the JSON document of a run."""
    from pgbench.report.render import printable, terminal
    from pgbench.report.table import of_record, remarks

    if as_json:
        from pgbench.store import plain

        document = {
            "run": str(outcome.folder),
            "already_done": outcome.already_done,
            "notes": remarks(outcome.record),
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
