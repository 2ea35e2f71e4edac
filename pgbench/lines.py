"""Sample lines as JSON: one line of samples-*.jsonl each way.

Millions of them are written, and read when a run is resumed and concluded: pydantic's JSON takes a third of
the time of Python's own. What it refuses (lone surrogates, which JSON may hold, or what is no JSON) is left
to Python's.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any

from pydantic_core import from_json, to_json

from pgbench.durable import encode
from pgbench.records import SampleLine
from pgbench.types import Continuation, Likelihoods

_FIELDS = tuple(field.name for field in fields(SampleLine))
_OF_ANSWERS = tuple(name for name in _FIELDS if name not in ("likelihoods", "halved"))
_REQUIRED = {field.name for field in fields(SampleLine) if field.default is field.default_factory is MISSING}
_VALUES = attrgetter(*_FIELDS)


def dump(line: SampleLine) -> bytes:
    """One line with its line end. Raises StoreError for nan and inf."""
    values = dict(zip(_FIELDS, _VALUES(line), strict=True))
    if not line.likelihoods:  # lines of answers stay what they were
        del values["likelihoods"]
    if not line.halved:
        del values["halved"]
    try:
        raw = to_json(values)
    except ValueError:  # a lone surrogate, which `encode` escapes
        return encode(values, separators=(",", ":"))
    if b"NaN" in raw or b"Infinity" in raw:  # numbers, or words of an answer: `encode` can tell
        return encode(values, separators=(",", ":"))
    return raw + b"\n"


def parse(raw: bytes) -> SampleLine | None:
    """A stored line, None for a torn or foreign one."""
    values = _values(raw)
    return None if values is None else SampleLine(**values)


def place(raw: bytes) -> tuple[int, str] | None:
    """Batch and id of a stored line; None for the same lines as `parse`, in half its time."""
    values = _values(raw)
    return None if values is None else (values["batch"], values["id"])


def _values(raw: bytes) -> dict[str, Any] | None:
    """The fields of a stored line, None for a torn or foreign one."""
    if not raw.endswith(b"\n"):
        return None
    try:
        values = _loaded(raw)
        if tuple(values) != _OF_ANSWERS and not _REQUIRED <= values.keys() <= set(_FIELDS):
            return None
        if type(values["target"]) is list:
            values["target"] = tuple(values["target"])
        if "likelihoods" in values:
            values["likelihoods"] = _likelihoods(values["likelihoods"])
        return values if _sound(values) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _likelihoods(found: Any) -> Likelihoods:
    """Raises TypeError, ValueError for anything else."""
    read = tuple(Continuation(text, tuple(logprobs)) for text, logprobs in found)
    for text, logprobs in read:
        if type(text) is not str or not all(type(number) in (float, int) for number in logprobs):
            raise TypeError
    return read


def _loaded(raw: bytes) -> Any:
    try:
        return from_json(raw)
    except ValueError:
        return json.loads(raw)


def _sound(values: dict[str, Any]) -> bool:
    """The fields that are computed with hold numbers; the answer and the sample's id are text."""
    numbers = [values["seconds"]]
    for sums in values["stats"].values():
        numbers += sums.values()
    for number in numbers:
        if type(number) is not float and type(number) is not int:
            return False
    if type(values.get("halved", 0)) is not int:
        return False
    return type(values["batch"]) is int and type(values["output"]) is type(values["id"]) is str
