"""What evidence leaves out, read from the run folder when it is asked for: prompts, answers, references."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pgbench.durable import exists
from pgbench.paired.evidence import Evidence
from pgbench.records import SampleLine
from pgbench.samples import read_lines


def lines_of(run: Evidence, ids: Collection[str]) -> dict[str, SampleLine]:
    """By id; empty for a run of a baseline file, which keeps no text. Raises StoreError."""
    wanted, folder = set(ids), Path(run.place)
    if not wanted or not exists(folder / "record.json"):
        return {}
    found: dict[str, SampleLine] = {}
    for line in read_lines(folder):
        if line.id in wanted:
            found[line.id] = line
            if len(found) == len(wanted):
                break
    return found
