"""One cell as a sweep file or flags ask for it, before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pgbench.types import DataRequest, Mode, ModelRequest

BatchSize: TypeAlias = int | Literal["auto"]  # auto: found on this machine, once


@dataclass(frozen=True, slots=True)
class AskedCell:
    """What one cell of a sweep says; `where` is for messages."""

    task: str
    model: ModelRequest
    data: DataRequest  # its split "" is the task's default
    backend: str = "paligemma"
    source: str | None = None
    variant: str | None = None
    mode: Mode = "generate"
    metric: str | None = None
    official_seed: int | None = None
    limit: int | None = None
    seed: int = 0
    batch: BatchSize = 8
    max_failures: int = 0
    reuse: bool = True  # take over answers that other cells of the same output folder were given
    replicate: str | None = None  # the recipe that this checkpoint is one training run of
    where: str = ""  # sweep.yaml:12, or "flags"
