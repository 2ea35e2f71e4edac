"""pgbench: evaluation and benchmarking of PaliGemma and PaliGemma 2."""

from __future__ import annotations

__all__ = [
    "DataRequest",
    "Dataset",
    "Image",
    "Metric",
    "Pixels",
    "Profile",
    "Sample",
    "Task",
    "__version__",
    "mean",
]


def __getattr__(name: str) -> object:
    """Looked up late, so that `import pgbench` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("pgbench")
    if name == "mean":
        from pgbench.metrics import mean

        return mean
    if name in __all__:
        from pgbench import types

        return getattr(types, name)
    raise AttributeError(f"module 'pgbench' has no attribute {name!r}")
