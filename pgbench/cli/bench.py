"""`pgbench bench`: how fast a checkpoint is on this machine, apart from any benchmark."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams, sweep_flags
from pgbench.cli.run import model_asked
from pgbench.errors import INCOMPLETE, OK, UsageError
from pgbench.types import ModelRequest

if TYPE_CHECKING:  # `--help` needs no figures
    from pgbench.bench.figures import Bench, Refused, Work

_BATCHES = "1,2,4,8,16,32"
_LARGEST = 4096
Random = Annotated[
    str | None,
    typer.Option(
        help="Random weights at the widths of a published checkpoint: paligemma2-3b-448, or smaller: "
        "paligemma2-3b-448/16x2 (widths by 16, 2 layers)."
    ),
]
BatchSizes = Annotated[
    list[str] | None, typer.Option("--batch-size", help=f"Repeat, or a,b. [default: {_BATCHES}]")
]
TextTokens = Annotated[int, typer.Option(min=3, help="Tokens of a prompt beside the picture's.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Tokens of every answer.")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed, after one that is not; the median counts.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Keep the figures below this folder of runs, for pgbench plan and --dry-run."),
]


def bench(
    model: flags.Model = None,
    random: Random = None,
    revision: flags.Revision = None,
    quant: sweep_flags.Quants = None,
    dtype: flags.Dtype = "bfloat16",
    quant_scope: flags.QuantScope = "all",
    kind: flags.Kind = None,
    adapter: flags.Adapter = None,
    adapter_mode: flags.AdapterMode = None,
    adapter_order: flags.AdapterOrder = None,
    device: flags.Device = "auto",
    max_memory: flags.MaxMemory = None,
    protocol: flags.Protocol = "hf",
    attention: flags.Attention = None,
    cache: flags.Cache = None,
    batch_size: BatchSizes = None,
    text_tokens: TextTokens = 32,
    new_tokens: NewTokens = 32,
    repeats: Repeats = 5,
    threads: flags.Threads = None,
    out: Out = None,
    as_json: flags.Json = False,
) -> int:
    """Measure loading, prefill, decoding and memory per level and batch size; no data, no score."""
    given = dict(locals())
    levels = sweep_flags.listed(quant) or ["none"]
    sizes = _sizes(batch_size)
    if random is not None and (model is not None or revision is not None):
        raise UsageError("--random makes its own weights; leave out --model and --revision")
    requests = [model_asked({**given, "quant": level}) for level in dict.fromkeys(levels)]
    from pgbench.bench.figures import Work
    from pgbench.report.bench_table import document, of_benches
    from pgbench.report.render import printable, terminal

    work = Work(text_tokens, new_tokens, repeats)
    with streams.stdout_on_stderr():
        found, kept = _measured(requests, random, work, sizes, out)
    if as_json:
        streams.print_json(document(found, [str(path) for path in kept]))
    else:
        print(terminal(of_benches(found)))
        for path in kept:
            print(f"kept: {printable(str(path))}")
    return OK if any(_has_figures(one) for one in found) else INCOMPLETE


def _sizes(given: list[str] | None) -> list[int]:
    """In rising order, so that the first that does not fit ends the search. Raises UsageError."""
    words = sweep_flags.listed(given) or _BATCHES.split(",")
    for word in words:
        if not (word.isascii() and word.isdecimal() and 1 <= int(word) <= _LARGEST):
            raise UsageError(
                f"--batch-size: expected numbers from 1 to {_LARGEST}, as {_BATCHES}, got {word!r}"
            )
    return sorted({int(word) for word in words})


def _measured(
    requests: Sequence[ModelRequest], random: str | None, work: Work, sizes: Sequence[int], out: Path | None
) -> tuple[list[Bench | Refused], list[Path]]:
    """One level after the other, each let go before the next is loaded; and the files that hold them, each
    written at once: what ends the next level takes nothing of this one."""
    from pgbench.backends.paligemma import engine
    from pgbench.bench.kept import FOLDER
    from pgbench.bench.measure import measure
    from pgbench.durable import require_place

    found: list[Bench | Refused] = []
    kept: list[Path] = []
    watch = _tell if sys.stderr.isatty() else lambda said: None
    with _folder(random, requests[0].dtype) as made:
        if made is not None:
            requests = [replace(one, model=str(made)) for one in requests]
        engines = [
            engine(one) for one in requests
        ]  # a wrong word for the last level is told before the first
        if out is not None:
            require_place(out / FOLDER)
        for one in engines:
            found.append(measure(one, work, sizes, name=random, watch=watch))
            kept += _kept(out, found[-1])
    return found, kept


@contextlib.contextmanager
def _folder(random: str | None, dtype: str) -> Iterator[Path | None]:
    """A checkpoint with random weights, for as long as it is measured; None where none is asked for."""
    if random is None:
        yield None
        return
    from pgbench.backends.paligemma import hush, widths

    of = widths.widths(random)
    hush()
    with tempfile.TemporaryDirectory(prefix="pgbench-random-") as top:
        yield widths.folder(of, Path(top), dtype=dtype)


def _kept(out: Path | None, found: Bench | Refused) -> list[Path]:
    from pgbench.bench.figures import Bench
    from pgbench.bench.kept import keep

    return [] if out is None or not isinstance(found, Bench) else [keep(out, found)]


def _has_figures(one: Bench | Refused) -> bool:
    from pgbench.bench.figures import Bench

    return isinstance(one, Bench) and any(row.prefill for row in one.rows)


def _tell(said: str) -> None:
    print(said, file=sys.stderr)
