"""`pgbench doctor`: probes of the stack that a run would use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.cli.run import model_asked
from pgbench.errors import OK, REGRESSED, CheckpointError, UsageError
from pgbench.types import ModelRequest

if TYPE_CHECKING:  # `--help` needs no table
    from pgbench.records import Stack, Verdict
    from pgbench.types import Checkpoint

_SAMPLES = 100
Samples = Annotated[
    int, typer.Option(min=1, help="Questions that are asked in a batch and alone: the noise floor's n.")
]
OneLoad = Annotated[
    bool,
    typer.Option(
        "--one-load", help="Leave out what loads the weights a second time: too large for the memory."
    ),
]


def doctor(
    model: flags.Model = None,
    revision: flags.Revision = None,
    quant: flags.Quant = "none",
    dtype: flags.Dtype = "bfloat16",
    quant_scope: flags.QuantScope = "all",
    kind: flags.Kind = None,
    resolution: flags.Resolution = None,
    adapter: flags.Adapter = None,
    adapter_mode: flags.AdapterMode = None,
    adapter_order: flags.AdapterOrder = None,
    device: flags.Device = "auto",
    max_memory: flags.MaxMemory = None,
    protocol: flags.Protocol = "hf",
    pixels_from: flags.PixelsFrom = None,
    chat_attention: flags.ChatAttention = None,
    batch_size: flags.BatchSize = 8,
    samples: Samples = _SAMPLES,
    one_load: OneLoad = False,
    threads: flags.Threads = None,
    attention: flags.Attention = None,
    cache: flags.Cache = None,
    out: flags.Out = Path("results/runs"),
    as_json: flags.Json = False,
) -> int:
    """Probe the stack in use and name the first broken probe; records below --out take the verdict."""
    request = model_asked(dict(locals()))
    from pgbench.report.doctor_table import document, of_verdict
    from pgbench.report.render import terminal

    with streams.stdout_on_stderr():
        checkpoint, stack, verdict = _examined(request, samples, batch_size, not one_load)
        _keep(out, checkpoint, stack, verdict)
    if as_json:
        streams.print_json(document(checkpoint, verdict))
    else:
        print(terminal(of_verdict(checkpoint, stack, verdict)))
    return OK if verdict.broken is None else REGRESSED


def before_run(request: ModelRequest, backend: str, batch_size: int, out: Path) -> None:
    """`pgbench run --doctor`: a stack that is not known to be whole is probed first.

    Raises UsageError for a backend without a model, CheckpointError for a broken probe.
    """
    if backend != "paligemma":
        raise UsageError(f"--doctor probes a model, and the {backend} backend has none; leave it out")
    from pgbench.report.doctor_table import first_broken

    with streams.stdout_on_stderr():
        checkpoint, stack, verdict = _examined(request, _SAMPLES, batch_size, True, out)
        _keep(out, checkpoint, stack, verdict)
    if verdict.broken:
        raise CheckpointError(f"{first_broken(verdict.broken)}; nothing was run (pgbench doctor shows all)")


def _examined(
    request: ModelRequest, samples: int, batch: int, second: bool, known_in: Path | None = None
) -> tuple[Checkpoint, Stack, Verdict]:
    from pgbench.backends.paligemma.probes import examine
    from pgbench.verdicts import find

    return examine(
        request,
        samples=samples,
        batch=batch,
        second=second,
        known=lambda checkpoint, stack: find(known_in, checkpoint, stack) if known_in else None,
        watch=_tell if sys.stderr.isatty() else lambda name: None,
    )


def _tell(name: str) -> None:
    print(f"probe {name}", file=sys.stderr)


def _keep(out: Path, checkpoint: Checkpoint, stack: Stack, verdict: Verdict) -> None:
    from pgbench.verdicts import keep

    keep(out, checkpoint, stack, verdict)
