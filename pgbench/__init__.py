"""pgbench: evaluation and benchmarking of PaliGemma and PaliGemma 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers: what `__getattr__` finds
    from pgbench import stats
    from pgbench.face import run, sweep
    from pgbench.frame import load, load_samples
    from pgbench.metrics import mean
    from pgbench.types import (
        DataRequest,
        Dataset,
        Image,
        LikelihoodMode,
        Metric,
        Pixels,
        Profile,
        Sample,
        Task,
    )

    __version__: str

__all__ = [
    "DataRequest",
    "Dataset",
    "Image",
    "LikelihoodMode",
    "Metric",
    "Pixels",
    "Profile",
    "Sample",
    "Task",
    "__version__",
    "load",
    "load_samples",
    "mean",
    "run",
    "stats",
    "sweep",
]


def __getattr__(name: str) -> object:
    """Looked up late, so that `import pgbench` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("pgbench")
    if name == "mean":
        from pgbench.metrics import mean

        return mean
    if name == "stats":
        from importlib import import_module

        return import_module("pgbench.stats")  # `from pgbench import` would ask here again
    if name in ("load", "load_samples"):
        from pgbench import frame

        return getattr(frame, name)
    if name in ("run", "sweep"):
        from pgbench import face

        return getattr(face, name)
    if name in __all__:
        from pgbench import types

        return getattr(types, name)
    raise AttributeError(f"module 'pgbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """For completion in notebooks, which asks before anything was looked up."""
    return sorted({*globals(), *__all__})
