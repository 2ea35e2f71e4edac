"""Cells of the drawings, answered by backends in memory: sweeps without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fakes import POINT, Fake

from pgbench.backends import Backend, Engine
from pgbench.backends.size import ModelSize
from pgbench.errors import CheckpointError
from pgbench.recipe.asked import AskedCell
from pgbench.types import DataRequest, ModelRequest

DEMO = 200  # samples


def asked(model: str | None = None, **more: Any) -> AskedCell:
    """A cell of the drawings, by the oracle where it names no model."""
    given: dict[str, Any] = {"source": "demo", "limit": 20, "batch": 4, "reuse": False, **more}
    return AskedCell("textvqa", ModelRequest(model), DataRequest(""), "oracle", **given)


@dataclass
class Shelf:
    """Engines by the name of their model, and how often each was loaded. "broken" does not open."""

    make: Callable[[str], Fake] = lambda name: Fake()
    size: ModelSize | None = None
    loads: list[str] = field(default_factory=list)
    made: list[Fake] = field(default_factory=list)

    def __call__(self, backend: str, model: ModelRequest) -> Engine:
        name = model.model or "none"
        if name == "broken":
            raise CheckpointError("broken: no weights")

        def load() -> Backend:
            self.loads.append(name)
            self.made.append(self.make(name))
            return self.made[-1]

        point = replace(POINT, id=name, quant=model.quant, dtype=model.dtype)
        return Engine(point, load, size=lambda: self.size)
