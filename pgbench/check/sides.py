"""One side of a check: its runs, broken ones among them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pgbench.paired.evidence import Evidence
from pgbench.records import RunRecord


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what is known of it, or why nothing is."""

    record: RunRecord  # of a broken run what it began with: nothing but its spec and data count
    evidence: Evidence | None
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A baseline, or a candidate."""

    runs: tuple[Run, ...]
    unreadable: tuple[tuple[str, str], ...] = ()  # folders without even a spec that can be read, and why
