"""Which run of one set is to be compared with which run of another."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pgbench.records import RunRecord
from pgbench.types import RunSpec


class Recorded(Protocol):
    """Whatever stands for a run: `Evidence`, or less."""

    @property
    def record(self) -> RunRecord: ...


R = TypeVar("R", bound=Recorded)


@dataclass(frozen=True, slots=True)
class Couple(Generic[R]):
    before: R
    after: R
    differing: tuple[str, ...] = ()  # names of the axes on which the two differ


@dataclass(frozen=True, slots=True)
class Couples(Generic[R]):
    """Everything that was given is in one of these, in the order in which it was given."""

    pairs: tuple[Couple[R], ...]
    missing: tuple[R, ...]  # of the first set
    new: tuple[R, ...]  # of the second


def axes(spec: RunSpec) -> dict[str, object]:
    """What names a cell of a table: two runs that are equal in all of it are runs of one cell."""
    point = spec.checkpoint
    return {
        **_question(spec),
        "style": point.profile.style,
        "checkpoint": point.id,
        "resolution": point.resolution,
        "dtype": point.dtype,
        "quant": point.quant,
        "quant_scope": point.quant_scope,
        "protocol": point.protocol,
        "pixels_from": point.pixels_from,
        "adapter": point.adapter,
        "adapter_mode": point.adapter_mode,
        "adapter_order": "after" if (point.adapter_mode, point.adapter_order) == ("merge", "after") else None,
        "chat_attention": point.chat_attention,
    }


def couples(before: Sequence[R], after: Sequence[R]) -> Couples[R]:
    """Runs of the same cell, and what is left over of one task, variant, mode and split where that is a
    single run on each side. Of several runs of one cell those belong together that are equal in more: the
    whole spec, or its limit.
    """
    left, right = list(before), list(after)
    pairs: list[Couple[R]] = []
    for tier in (_whole, _limited, _cell, _topic):
        found = _single(left, right, tier)
        pairs += found
        taken = {id(run) for one in found for run in (one.before, one.after)}
        left = [run for run in left if id(run) not in taken]
        right = [run for run in right if id(run) not in taken]
    places = {id(run): place for place, run in enumerate(before)}
    pairs.sort(key=lambda one: places[id(one.before)])
    return Couples(tuple(pairs), tuple(left), tuple(right))


def unclear(found: Couples[R]) -> tuple[tuple[R, ...], tuple[R, ...]]:
    """What is left over on both sides of one task, variant, mode and split: there are several on a side, and
    nothing says which belong together."""
    both = {_topic(run.record.spec) for run in found.missing} & {_topic(run.record.spec) for run in found.new}
    left, right = (
        tuple(run for run in runs if _topic(run.record.spec) in both) for runs in (found.missing, found.new)
    )
    return left, right


def differing(before: RunRecord, after: RunRecord) -> tuple[str, ...]:
    """The names of the axes on which two runs differ."""
    ours, theirs = axes(before.spec), axes(after.spec)
    return tuple(name for name, value in ours.items() if theirs[name] != value)


def _question(spec: RunSpec) -> dict[str, object]:
    return {"task": spec.task, "variant": spec.variant, "mode": spec.mode, "split": spec.split}


def _whole(spec: RunSpec) -> Hashable:
    return spec.key


def _cell(spec: RunSpec) -> Hashable:
    return tuple(axes(spec).values())


def _limited(spec: RunSpec) -> Hashable:
    return _cell(spec), spec.limit, spec.seed


def _topic(spec: RunSpec) -> Hashable:
    return tuple(_question(spec).values())


def _single(before: Sequence[R], after: Sequence[R], tier: Callable[[RunSpec], Hashable]) -> list[Couple[R]]:
    """Couples of what is alone with its key on both sides."""
    ours, theirs = _alone(before, tier), _alone(after, tier)
    return [
        Couple(run, theirs[key], differing(run.record, theirs[key].record))
        for key, run in ours.items()
        if key in theirs
    ]


def _alone(runs: Sequence[R], tier: Callable[[RunSpec], Hashable]) -> dict[Hashable, R]:
    found: dict[Hashable, list[R]] = {}
    for run in runs:
        found.setdefault(tier(run.record.spec), []).append(run)
    return {key: some[0] for key, some in found.items() if len(some) == 1}
