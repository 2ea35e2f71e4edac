"""The axes of a comparison: what a cell is told by, as its record says, and the order of values. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from pgbench.errors import UsageError, unknown
from pgbench.records import RunRecord
from pgbench.types import Checkpoint, RunSpec

_OF_SPEC: Mapping[str, Callable[[RunSpec], object]] = {
    "task": lambda spec: spec.task,
    "version": lambda spec: f"v{spec.version}",
    "split": lambda spec: spec.split,
    "variant": lambda spec: spec.variant,
    "mode": lambda spec: spec.mode,
    "style": lambda spec: spec.checkpoint.profile.style,
    "model": lambda spec: model_name(spec.checkpoint),
    "checkpoint": lambda spec: spec.checkpoint.id,
    "revision": lambda spec: (spec.checkpoint.revision or "")[:8],
    "family": lambda spec: spec.checkpoint.profile.family,
    "params": lambda spec: params(spec.checkpoint),
    "kind": lambda spec: spec.checkpoint.profile.kind,
    "tuned_on": lambda spec: spec.checkpoint.profile.tuned_on,
    "resolution": lambda spec: spec.checkpoint.resolution or None,
    "quant": lambda spec: spec.checkpoint.quant,
    "quant_scope": lambda spec: "" if spec.checkpoint.quant == "none" else spec.checkpoint.quant_scope,
    "dtype": lambda spec: spec.checkpoint.dtype,
    "protocol": lambda spec: spec.checkpoint.protocol,
    "pixels_from": lambda spec: spec.checkpoint.pixels_from,
    "chat_attention": lambda spec: spec.checkpoint.chat_attention,
    "adapter": lambda spec: spec.checkpoint.adapter,
    "adapter_revision": lambda spec: (spec.checkpoint.adapter_revision or "")[:8],
    "adapter_mode": lambda spec: adapter_mode(spec.checkpoint),
    "backend": lambda spec: spec.checkpoint.backend,
    "source": lambda spec: spec.source.id,
    "limit": lambda spec: spec.limit,
    "seed": lambda spec: spec.seed,
    "batch": lambda spec: spec.batch,
    "batching": lambda spec: spec.batching,
    "max_new_tokens": lambda spec: spec.max_new_tokens,
}
_OF_RECORD: Mapping[str, Callable[[RunRecord], object]] = {
    "data": lambda record: record.data.digest[:8],
    "device": lambda record: device(record),
    "task_source": lambda record: record.stack.versions.get("task", "")[:8],
}
OF_SCORE = ("metric", "group", "rater", "replicate")
AXES = (*_OF_SPEC, *_OF_RECORD, *OF_SCORE)

_OF_ADAPTER = frozenset({"adapter", "adapter_mode"})
# What else changes, or may, where an axis does: a resolution is another checkpoint, whose name says it.
GOES_WITH: Mapping[str, frozenset[str]] = {
    "quant": frozenset({"quant_scope"}),
    "model": frozenset({"family", "kind", "tuned_on", "params", "pixels_from", "backend", "chat_attention"})
    | _OF_ADAPTER,
    "adapter": _OF_ADAPTER | {"kind", "tuned_on"},
    "checkpoint": frozenset({"model", "family", "kind", "tuned_on", "params", "resolution", "backend"}),
    "replicate": frozenset({"model"}),
    "family": frozenset({"model", "params"}),
    "params": frozenset({"model"}),
    "kind": frozenset({"model", "tuned_on"}),
}
# A difference is between answers to the same questions: on these a cell and its baseline never differ.
OF_QUESTIONS = ("task", "version", "split", "variant", "mode", "metric", "group", "rater")
OF_MODEL = (
    *("model", "family", "kind", "tuned_on", "params", "style", "resolution", "quant", "quant_scope"),
    *("dtype", "protocol", "pixels_from", "chat_attention", "adapter", "adapter_mode", "backend"),
    "replicate",
)
_QUANTS = (
    *("none", "unstated", "8bit", "torchao-int8", "torchao-fp8", "quanto-int8", "4bit", "fp4"),
    *("quanto-int4", "other"),
)


def of_record(record: RunRecord) -> dict[str, str]:
    """The value of each axis that all scores of a record share; "" where there is none."""
    found = {name: read(record.spec) for name, read in _OF_SPEC.items()}
    found |= {name: read(record) for name, read in _OF_RECORD.items()}
    return {name: "" if value is None else str(value) for name, value in found.items()}


def parse(names: Sequence[str], flag: str) -> tuple[str, ...]:
    """Axes as --rows and --columns give them, with commas or one by one. Raises UsageError."""
    axes = [name.strip() for given in names for name in given.split(",") if name.strip()]
    for axis in axes:
        if axis not in AXES:
            raise UsageError(unknown(f"axis of {flag}", axis, AXES))
    if twice := sorted({axis for axis in axes if axes.count(axis) > 1}):
        raise UsageError(f"{flag} names {twice[0]} twice; name each axis once")
    return tuple(axes)


def model_name(point: Checkpoint) -> str:
    """A checkpoint's name without its resolution.

    >>> from pgbench.types import Profile
    >>> model_name(Checkpoint("google/paligemma2-3b-mix-448", None, Profile("mix", "paligemma2"), 448))
    'google/paligemma2-3b-mix'
    """
    name = re.sub(rf"[-_]{point.resolution}(px)?(?=$|[-_])", "", point.id) if point.resolution else point.id
    return name or point.id


def adapter_mode(point: Checkpoint) -> str:
    """How an adapter went in, and when where that is not as usual; "" without one.

    >>> from pgbench.types import Profile
    >>> point = Checkpoint("x", None, Profile("ft", "paligemma"), 224, adapter="a", adapter_mode="merge")
    >>> adapter_mode(point)
    'merge'
    """
    late = (point.adapter_mode, point.adapter_order) == ("merge", "after")
    return "merge after quantization" if late else point.adapter_mode or ""


def adapter_name(point: Checkpoint) -> str:
    """An adapter, with its mode where that is not the usual one; "" without one."""
    mode = adapter_mode(point)
    return f"{point.adapter} ({mode})" if point.adapter and mode not in ("", "merge") else point.adapter or ""


def params(point: Checkpoint) -> str:
    """The size that a checkpoint's name says. All of PaliGemma 1 is 3B; "" where it is not known."""
    if point.demo:
        return ""
    if found := re.search(r"(?:^|[-_])([0-9]+)b(?:[-_]|$)", point.id.rsplit("/", 1)[-1].lower()):
        return f"{found[1]}B"
    return "3B" if point.profile.family == "paligemma" else ""


def device(record: RunRecord) -> str:
    """What a run was computed on, as far as its speed is concerned; "": nothing was."""
    stack = record.stack
    if stack.device == "none":
        return ""
    name = stack.device_name or stack.device
    threads = f", {stack.threads} CPU thread{'s' if stack.threads > 1 else ''}" if stack.threads else ""
    return f"{name}{threads if stack.device == 'cpu' else ''}"


def ordered(axis: str, values: Iterable[str], first: Sequence[str] = ()) -> list[str]:
    """Values of an axis as a table has them; `first`: an order of its own that comes before all else."""
    known = {value: place for place, value in enumerate(first)}
    unique = list(dict.fromkeys(values))
    if axis == "quant":
        known = {value: place for place, value in enumerate(_QUANTS)}
    if axis in ("metric", "group"):  # as the record has them: the primary first, settings as published
        return sorted(unique, key=lambda value: known.get(value, len(known)))
    return sorted(unique, key=lambda value: (known.get(value, len(known)), natural(value)))


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """For sorting: numbers in text by their size, a sign before a number, a number before a letter.

    >>> sorted(["paligemma2-3b", "paligemma-10b", "paligemma-3b"], key=natural)
    ['paligemma-3b', 'paligemma-10b', 'paligemma2-3b']
    """
    parts = re.findall(r"[0-9]{1,18}|[^\W0-9_]+|[\W_]+", text)
    return tuple(
        (1, int(part), "") if part.isdecimal() else (2 if part[0].isalpha() else 0, 0, part) for part in parts
    )
