"""Finished runs in the files of others: model cards, lm-evaluation-harness, Every Eval Ever.

gathering.py reads the runs, facts.py says what goes with every number, writing.py puts files in place;
cards.py, harness.py, every_eval.py and instances.py know one format each. docs/exports.md says which field
holds what.
"""

from __future__ import annotations

from pgbench.exports.asked import FORMATS, Asked, Format
from pgbench.exports.gathering import Run, gather
from pgbench.exports.plan import outputs
from pgbench.exports.writing import Output, write

__all__ = ["FORMATS", "Asked", "Format", "Output", "Run", "gather", "outputs", "write"]
