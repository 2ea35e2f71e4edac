"""Run folders as pandas tables: a row per cell and metric, or a row per answer.

Columns and their types are the same for every folder, an empty one too, and every type can hold "none":
`string`, `Int64`, `Float64`, `boolean`. Fractions, seconds and bytes, as in the records.
"""

from __future__ import annotations

from pgbench.frame.answers import load_samples
from pgbench.frame.cells import load

__all__ = ["load", "load_samples"]
