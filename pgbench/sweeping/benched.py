"""How fast a cell will be where no record tells it: from figures of `pgbench bench`, at the same widths.

    samples/s = batch / (prefill + steps x step)
    prefill   of the measured batch, times the FLOPs of the task's prompts over those of the measured one; a
              picture that several questions share is looked at once
    steps     tokens of the longest reference answer among those looked at: a batch ends with its last row

Prompts and answers are counted at four characters a token. A checkpoint of other weights takes as long, so
figures of random weights serve for it; the same content comes first, then the newest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from pgbench.backends.flops import flops
from pgbench.backends.size import ModelSize
from pgbench.batch import Cell, prefix
from pgbench.bench.figures import Bench, Row, shape_of
from pgbench.errors import task_code
from pgbench.sweeping.pace import Pace
from pgbench.types import Checkpoint, Sample, cluster_of

_CHARACTERS, _AROUND = 4, 2  # of a token; bos and newline


@dataclass(frozen=True, slots=True)
class Asking:
    """What a cell asks of a model, as far as a look at some of its samples tells."""

    images: float  # of a prompt, the mean
    seen: float  # distinct pictures a prompt: less than `images` where questions share them
    text: float  # tokens of a prompt beside its pictures, the mean
    steps: int  # tokens after the first, of the longest answer


def pace_of_bench(
    cell: Cell, first: Sequence[Sample], benches: Sequence[Bench], device: str = "auto"
) -> Pace | None:
    """None where no figure is of this model's widths at its level, or in mode likelihood.

    `first`: the samples that are looked at; `benches`: the newest first; `device`: as it was asked for.
    """
    if not benches or not first or cell.spec.mode == "likelihood" or (size := cell.engine.size()) is None:
        return None
    found = _fitting(cell.spec.checkpoint, shape_of(size), benches, device)
    if found is None or (times := seconds(found, cell.spec.batch)) is None:
        return None
    asks = asking(cell, first)
    prefill = times[0] * _prefill(size, asks, cut="prefill" in found.stack.numerics) / found.flops.prefill
    batch = prefill + asks.steps * times[1]
    stack = found.stack
    return Pace(cell.spec.batch / batch, found.load_seconds, "bench", stack.device_name or stack.device)


def asking(cell: Cell, first: Sequence[Sample]) -> Asking:
    """Raises UsageError where the task's own code fails."""
    pictures = [(cluster_of(sample), image.name) for sample in first for image in sample.images]
    with task_code(f"task {cell.task.name}"):
        prompts = [prefix(cell.spec, cell.task, sample) for sample in first]
        answers = [cell.task.gold(sample) for sample in first if sample.target is not None]
    longest = max((_tokens(answer) for answer in answers), default=cell.spec.max_new_tokens)
    return Asking(
        images=len(pictures) / len(first),
        seen=len(set(pictures)) / len(first),
        text=mean(_tokens(prompt) for prompt in prompts) + _AROUND,
        steps=min(
            longest, cell.spec.max_new_tokens - 1
        ),  # the end token is one more, and the first is prefill's
    )


def seconds(bench: Bench, batch: int) -> tuple[float, float] | None:
    """Of a batch of this size: its prefill, and one more token in every row.

    Between two measured sizes on the line that joins them. Below the smallest as long as that one; above the
    largest in proportion. None where no size has figures.
    """
    rows = sorted((row for row in bench.rows if row.prefill_seconds), key=lambda row: row.batch)
    if not rows:
        return None
    if batch <= rows[0].batch:
        return _times(bench, rows[0])
    for one, two in itertools.pairwise(rows):
        if batch <= two.batch:
            part = (batch - one.batch) / (two.batch - one.batch)
            both = zip(_times(bench, one), _times(bench, two), strict=True)
            prefill, step = ((1 - part) * low + part * high for low, high in both)
            return prefill, step
    prefill, step = _times(bench, rows[-1])
    return prefill * batch / rows[-1].batch, step * batch / rows[-1].batch


def _times(bench: Bench, row: Row) -> tuple[float, float]:
    return row.prefill_seconds or 0.0, row.step_seconds(bench.work.new) or 0.0


def _prefill(size: ModelSize, asks: Asking, *, cut: bool) -> float:
    """FLOPs of one prompt, its pictures as often as they are really looked at."""
    found = flops(size, images=asks.images, text=asks.text, cut=cut)
    return found.text + (found.vision * asks.seen / asks.images if asks.images else 0.0)


def _fitting(point: Checkpoint, shape: str, benches: Sequence[Bench], device: str) -> Bench | None:
    alike = [
        one
        for one in benches
        if one.shape == shape and _level(one.checkpoint) == _level(point) and _on(one, device)
    ]
    same = [one for one in alike if one.checkpoint.revision == point.revision]
    return next(iter([*same, *alike]), None)


def _on(bench: Bench, device: str) -> bool:
    """`auto` may be any device; what was asked for by name is of its own kind."""
    return device.startswith("auto") or device.partition(":")[0] == bench.stack.device


def _level(point: Checkpoint) -> tuple[object, ...]:
    """All that decides how fast weights of one shape are. An adapter that is merged costs nothing."""
    scope = point.quant_scope if point.quant != "none" else "all"
    attached = point.adapter_mode == "attach"
    return point.quant, scope, point.dtype, attached, point.attention, point.cache


def _tokens(text: str) -> int:
    """At least one: even an empty answer has its end."""
    return max(1, -(-len(text) // _CHARACTERS))
