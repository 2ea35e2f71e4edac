"""What a bench measured, and what follows from it. Seconds, bytes, FLOP/s; every repeat is kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from statistics import median

from pgbench.backends.flops import Flops
from pgbench.backends.size import ModelSize
from pgbench.keys import json_key
from pgbench.records import PeakMemory, Stack
from pgbench.types import Checkpoint


@dataclass(frozen=True, slots=True)
class Work:
    """What was asked for at each batch size."""

    text: int  # tokens of a prompt, its pictures left out
    new: int  # tokens of an answer
    repeats: int  # timed, after one that is not
    images: int = 1  # of a prompt, each row its own


@dataclass(frozen=True, slots=True)
class Row:
    """One batch size. A repeat is a pair of batches, one of one new token and one of all of them."""

    batch: int
    prefill: tuple[
        float, ...
    ] = ()  # seconds, from prepared pictures and prompts on the host to the first token
    decode: tuple[
        float, ...
    ] = ()  # seconds of all tokens after the first; empty where only one was asked for
    peak: PeakMemory | None = None  # weights included
    said: str = ""  # why there are no figures

    @property
    def prefill_seconds(self) -> float | None:
        """Of a batch."""
        return median(self.prefill) if self.prefill else None

    def step_seconds(self, new: int) -> float | None:
        """Of one token in every row; None where noise hides it."""
        found = median(self.decode) if self.decode and new > 1 else 0.0
        return found / (new - 1) if found > 0 else None


@dataclass(frozen=True, slots=True)
class Bench:
    """One checkpoint at one level on one device."""

    checkpoint: Checkpoint
    stack: Stack
    work: Work
    shape: str  # `shape_of` the model's size
    flops: Flops  # of one row of this work
    prompt: int  # tokens, image tokens included
    load_seconds: float  # once; its files were read before, or just written
    prepare: tuple[float, ...]  # seconds of a sample, in one thread: decoding, resizing, tokens
    matmul: float  # FLOP/s
    matmul_of: str  # dtype and sides
    rows: tuple[Row, ...]
    started: str  # UTC
    random: str | None = None  # --random: the name of the widths, where weights are random

    def share(self, row: Row) -> float | None:
        """Of the device's matmul rate, in prefill."""
        seconds = row.prefill_seconds
        return row.batch * self.flops.prefill / seconds / self.matmul if seconds else None


@dataclass(frozen=True, slots=True)
class Refused:
    """A level that could not be loaded for want of memory."""

    checkpoint: Checkpoint
    said: str
    random: str | None = None


def shape_of(size: ModelSize) -> str:
    """The name of a model's widths: checkpoints that share it take equally long."""
    return json_key(dataclasses.asdict(size))[:16]
