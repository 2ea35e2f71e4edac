"""Published numbers, explained in results/published/README.md, and which may stand beside a run's own.

table.py reads them, joins.py finds those of a cell, seen.py tells what a checkpoint was trained on.
"""

from __future__ import annotations

from pgbench.published.joins import Key, Match, column, find, key_of
from pgbench.published.seen import contamination
from pgbench.published.table import Published, rows

__all__ = ["Key", "Match", "Published", "column", "contamination", "find", "key_of", "rows"]
