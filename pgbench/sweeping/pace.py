"""How fast cells will be, from the records of earlier ones. benched.py tells it where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from pgbench.durable import read_json
from pgbench.errors import StoreError
from pgbench.types import RunSpec

# Records of the same checkpoint at the same level, or figures of `pgbench bench` at the same widths.
Basis: TypeAlias = Literal["this task", "other tasks", "bench"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one record says of speed."""

    task: str
    point: tuple[object, ...]  # checkpoint, level, batch size and mode
    rate: float  # samples a second
    load: float  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """Medians of the records that fit best, or what a bench tells."""

    rate: float  # samples a second
    load: float  # seconds
    basis: Basis
    device: str = ""  # of a bench


def seen_below(out: Path) -> list[Seen]:
    """The speeds of all records below a folder; what cannot be read says nothing."""
    return [seen for path in sorted(out.glob("*/*/record.json")) if (seen := _seen(path))]


def _seen(path: Path) -> Seen | None:
    try:
        record = read_json(path)
        spec, cost = record["spec"], record["cost"]
        rate, load = cost["samples_per_second"], cost["load_seconds"]
        point = spec["checkpoint"]
        modes = point.get("adapter_mode"), spec.get("mode", "generate")
        key = (point["id"], point["revision"], point["quant"], point["dtype"], spec["batch"], *modes)
        return Seen(str(spec["task"]), key, float(rate), float(load)) if rate else None
    except (StoreError, KeyError, TypeError, ValueError):
        return None


def pace_of(spec: RunSpec, seen: Sequence[Seen]) -> Pace | None:
    """None where no record is of this checkpoint at this level and batch size."""
    point = spec.checkpoint
    modes = point.adapter_mode, spec.mode
    key = (point.id, point.revision, point.quant, point.dtype, spec.batch, *modes)
    alike = [one for one in seen if one.point == key]
    same = [one for one in alike if one.task == spec.task]
    if not alike:
        return None
    return _middle(same, "this task") if same else _middle(alike, "other tasks")


def _middle(found: Iterable[Seen], basis: Basis) -> Pace:
    rates, loads = zip(*((one.rate, one.load) for one in found), strict=True)
    return Pace(median(rates), median(loads), basis)
