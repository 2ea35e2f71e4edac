"""Axes to cells: every task on every checkpoint, as RunSpecs. Pure."""

from __future__ import annotations

from pgbench.batching import LONGEST_FIRST
from pgbench.errors import UsageError, unknown
from pgbench.types import (
    IMAGE_RULE,
    PAPER_RULE,
    Checkpoint,
    DataSource,
    Mode,
    ModelRequest,
    RunSpec,
    Sweep,
    Task,
)

_DTYPE_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def expand(sweep: Sweep) -> tuple[RunSpec, ...]:
    """The cells of a sweep, checkpoint by checkpoint, so that cells sharing one stand together.

    Raises UsageError for a variant or mode that a task does not have.
    """
    return tuple(
        _cell(sweep, task, variant, split, source, checkpoint)
        for checkpoint in sweep.checkpoints
        for task, variant, split, source in sweep.tasks
    )


def cell_name(spec: RunSpec) -> str:
    """A name that a person recognises the cell by; the key tells apart what it leaves out.

    >>> from pgbench.types import Profile
    >>> point = Checkpoint("google/paligemma2-3b-mix-448", "f00", Profile("mix", "paligemma2"), 448)
    >>> cell_name(RunSpec("textvqa", 1, "default", "generate", "val", DataSource("hub", "x"), point))
    'google_paligemma2-3b-mix-448_448px_bf16'
    """
    point = spec.checkpoint
    level = point.quant if point.quant != "none" else _DTYPE_NAMES[point.dtype]
    protocol = () if point.protocol == "hf" else (point.protocol,)
    reduced = () if point.pixels_from is None else (f"from{point.pixels_from}px",)
    causal = ("causal",) if point.chat_attention == "causal" else ()
    kernels = tuple(one for one in (point.attention, point.cache) if one)
    mode = () if spec.mode == "generate" else (spec.mode,)
    scope = () if point.quant_scope == "all" else (point.quant_scope,)
    adapter = () if point.adapter is None else (file_name(point.adapter)[:40],)
    unusual = (*scope, *adapter, *protocol, *reduced, *causal, *kernels, *mode)
    return "_".join([file_name(point.id), f"{point.resolution}px", level, *unusual])


def called(name: str, how: Checkpoint | ModelRequest) -> str:
    """A checkpoint where cells stand side by side, with what is unusual of how it is asked.

    >>> called("tiny", ModelRequest(protocol="paper", pixels_from=224)), called("tiny", ModelRequest())
    ('tiny (protocol paper, pixels from 224 px)', 'tiny')
    """
    protocol = [] if how.protocol == "hf" else [f"protocol {how.protocol}"]
    reduced = [] if how.pixels_from is None else [f"pixels from {how.pixels_from} px"]
    adapter = [] if how.adapter is None else [_adapter(how)]
    scope = [] if how.quant == "none" or how.quant_scope == "all" else [f"{how.quant_scope} alone quantized"]
    causal = ["causal chat attention"] if how.chat_attention == "causal" else []
    kernels = [f"{one} {what}" for one, what in ((how.attention, "attention"), (how.cache, "cache")) if one]
    unusual = ", ".join([*adapter, *scope, *protocol, *reduced, *causal, *kernels])
    return f"{name} ({unusual})" if unusual else name


def _adapter(how: Checkpoint | ModelRequest) -> str:
    """An adapter's last name, and how it goes in where that is not the default."""
    order = f" {how.adapter_order} quantization" if how.adapter_order and how.quant != "none" else ""
    attached = " attached" if how.adapter_mode == "attach" else ""
    name = (how.adapter or "").rstrip("/").rsplit("/", 1)[-1]
    return f"adapter {name}{attached}{'' if attached else order}"


def file_name(text: str) -> str:
    """Text as one harmless file name: ASCII letters, digits, dot, dash and underscore; 80 at most."""
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-.") else "_" for letter in text
    )
    return kept.lstrip(".")[:80] or "_"


def _cell(
    sweep: Sweep, task: Task, variant: str, split: str, source: DataSource, checkpoint: Checkpoint
) -> RunSpec:
    if variant not in task.variants:
        raise UsageError(unknown(f"variant of {task.name}", variant, task.variants))
    _require_mode(task, sweep.mode)
    return RunSpec(
        task=task.name,
        version=task.version,
        variant=variant,
        mode=sweep.mode,
        split=split,
        source=source,
        checkpoint=checkpoint,
        limit=sweep.limit,
        seed=sweep.seed,
        batch=sweep.batch,
        max_new_tokens=task.max_new_tokens,
        images=PAPER_RULE if checkpoint.protocol == "paper" else IMAGE_RULE,
        batching=LONGEST_FIRST,
    )


def _require_mode(task: Task, mode: Mode) -> None:
    if mode not in task.modes:
        raise UsageError(unknown(f"mode of {task.name}", mode, task.modes))
