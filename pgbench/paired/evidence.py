"""What a comparison and a gate know of one run: its record, and the statistics of every unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pgbench.records import RunRecord
from pgbench.types import Direction, Sums


@dataclass(frozen=True, slots=True)
class Units:
    """One metric of one run, unit by unit (a sample, or a pair), in the order of the run."""

    metric: str
    reduce: Callable[[Sums], float | None]
    is_mean: bool  # reduces "sum" / "n"
    direction: Direction | None  # None: no value is better than another
    number: bool  # no fraction
    ids: Sequence[str]  # the sample's id; of larger units the unit's name
    sums: Mapping[str, Sequence[float]]  # name -> a value for each unit


@dataclass(frozen=True, slots=True)
class Asked:
    """One sample of one run: what it was asked, where it belongs, and whether it failed."""

    prompt: str  # the first 12 digits of a sha256, as of the next two
    image: str  # "" where none was opened
    target: str
    cluster: str
    groups: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """`place` names a run in messages: its folder as the user gave it, or a cell of a baseline file."""

    place: str
    record: RunRecord
    samples: Mapping[str, Asked]  # by id, in the order of the run
    units: Mapping[str, Units]  # by metric; metrics that are one number for the whole run are not here
    members: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    # of larger units: metric -> unit -> ids of its samples
