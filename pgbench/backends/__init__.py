"""The seam between pgbench and whatever answers: the protocol, and the names of the shipped backends.

Only modules below this package import torch or transformers, and only when a backend is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pgbench.records import PeakMemory, Stack
from pgbench.types import Checkpoint, ModelRequest, Prepared, Reply, Request

# name -> "module:function" of an EngineFactory, imported on demand
SHIPPED: Mapping[str, str] = {
    "oracle": "pgbench.backends.oracle:engine",
    "paligemma": "pgbench.backends.paligemma:engine",
    "replay": "pgbench.backends.replay:engine",
}


class Backend(Protocol):
    """What answers. `prepare` is thread-safe and runs on the CPU; the rest is called from one thread."""

    def describe(self) -> Stack: ...

    def prepare(self, request: Request) -> Prepared:
        """Raises SampleError for an image that cannot be used."""
        ...

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        """Greedy decoding; as many replies as requests, in their order."""
        ...

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        """Log-likelihoods of given continuations. Raises UsageError where the backend offers none."""
        ...

    def peak_memory(self) -> PeakMemory: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Engine:
    """A checkpoint that is known (its config read, its revision resolved) and not yet loaded."""

    checkpoint: Checkpoint
    load: Callable[[], Backend]


EngineFactory: TypeAlias = Callable[[ModelRequest], Engine]  # what a backend's name leads to
