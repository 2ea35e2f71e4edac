"""What differs between records, and by what: by task, checkpoint, level, or cell by cell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from pgbench.records import RunRecord
from pgbench.report.figures.cells import level

_NO_MODEL = "no model"
_SHOWN = 40  # subjects of one value that are named


def _task(record: RunRecord) -> str:
    return f"{record.spec.task} {record.spec.split}"


def _checkpoint(record: RunRecord) -> str:
    return record.spec.checkpoint.id


def _level(record: RunRecord) -> str:
    """An oracle's dtype, which its record has to name, is of no weights."""
    return _NO_MODEL if _modelless(record) else level(record.spec.checkpoint)


def _resolution(record: RunRecord) -> str:
    return _NO_MODEL if _modelless(record) else f"{record.spec.checkpoint.resolution} px"


def _modelless(record: RunRecord) -> bool:
    return record.spec.checkpoint.backend in ("oracle", "replay")


def _key(record: RunRecord) -> str:
    return f"cell {record.key[:8]}"


_PARTS: Mapping[str, Callable[[RunRecord], str]] = MappingProxyType(
    {"t": _task, "c": _checkpoint, "l": _level, "r": _resolution, "k": _key}
)
_AXES = ("", "t", "l", "r", "c", "cl", "tl", "tc", "tcl", "tcrlk")  # the coarsest that explains is taken


def subject(record: RunRecord, axis: str = "tcl") -> str:
    """A record by some of its names: its task and split (t), checkpoint (c), level (l), resolution, key."""
    told = [_PARTS[part](record) for part in axis]
    return " ".join(one for one in told if one != _NO_MODEL or len(axis) == 1)


def differing(
    records: Iterable[RunRecord], fact: Callable[[RunRecord], str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Each value of a fact with the subjects that it holds of; () where it holds of all records."""
    found = [(record, fact(record)) for record in records]
    for axis in _AXES:
        values: dict[str, set[str]] = {}
        for record, value in found:
            values.setdefault(subject(record, axis), set()).add(value)
        if all(len(told) == 1 for told in values.values()):
            return _by_value(found, axis)
    return _by_value(found, _AXES[-1])


def joined(parts: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Values in a sentence, each with its subjects; values that say nothing are left out.

    >>> joined([("batches of 8", ("gqa val",)), ("batches of 4", ("docci test", "pope test")), ("", ("x",))])
    'batches of 8 (gqa val); batches of 4 (docci test, pope test)'
    """
    return "; ".join(f"{value} ({listed(who)})" if who else value for value, who in parts if value)


def listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more])


def _by_value(found: Sequence[tuple[RunRecord, str]], axis: str) -> list[tuple[str, tuple[str, ...]]]:
    subjects: dict[str, list[str]] = {}
    for record, value in found:
        subjects.setdefault(value, []).append(subject(record, axis))
    return [(value, tuple(dict.fromkeys(who)) if axis else ()) for value, who in subjects.items()]
