"""What a sweep and its worker processes say to each other: one JSON object a line, checked on arrival."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pgbench.errors import UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping.work import State, Told
from pgbench.types import RunSpec

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Job:
    """To a worker: run this cell."""

    out: str
    asked: AskedCell
    stack: str = ""  # JSON of the Stack that began its run, where that is known


@dataclass(frozen=True, slots=True)
class Report:
    """From a worker, of the cell that it was given last. Its record is on disk, and is read there."""

    state: State
    reason: str = ""
    already_done: bool = False
    spec: RunSpec | None = None
    samples: int | None = None
    folder: str | None = None
    recorded: bool = False
    ended: bool = False  # nothing more will be said of this cell
    kept: int | None = None  # answers so far; the rest of the report is then left as it was


def report(told: Told, *, ended: bool) -> Report:
    """What became of a cell, as a message."""
    folder = None if told.folder is None else str(told.folder)
    found = (told.state, told.reason, told.already_done, told.spec, told.samples, folder)
    return Report(*found, recorded=told.record is not None, ended=ended)


def told(said: Report, asked: AskedCell) -> Told:
    """The same, back; without the record."""
    folder = None if said.folder is None else Path(said.folder)
    return Told(asked, said.state, said.reason, said.already_done, said.spec, said.samples, folder)


def dump(message: Job | Report) -> bytes:
    """One line. ASCII: names of files that are no UTF-8 travel as lone surrogates."""
    return json.dumps(asdict(message)).encode() + b"\n"


def parse(kind: type[Message], raw: bytes) -> Message:
    """A message. Raises UsageError for anything that is not exactly one."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected a {kind.__name__} as a line of JSON, got {raw[:60]!r}") from error
    message: Message = _checked(kind, document, kind.__name__)
    return message


def _checked(kind: Any, value: object, where: str) -> Any:
    """The value as the type says, never turned into another one. Raises UsageError."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, where)
    if get_origin(kind) is Literal and type(value) is str and value in get_args(kind):
        return value
    if get_origin(kind) in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        kinds = [one for one in get_args(kind) if one is not NoneType]
        if len(kinds) == 1:
            return _checked(kinds[0], value, where)
        for one in kinds:
            with contextlib.suppress(UsageError):
                return _checked(one, value, where)
        raise UsageError(f"{where}: expected {' or '.join(map(str, kinds))}, got {value!r:.60}")
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise UsageError(f"{where}: expected {kind}, got {value!r:.60}")


def _record(kind: type[Any], value: object, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a mapping, got {value!r:.60}")
    known = {one.name: one for one in fields(kind)}
    needed = {
        name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING
    }
    if wrong := (set(value) - set(known)) | (needed - set(value)):
        raise UsageError(f"{where}: {', '.join(sorted(wrong))}: not a part of it, or missing")
    hints = get_type_hints(kind)
    return kind(**{name: _checked(hints[name], part, f"{where}.{name}") for name, part in value.items()})
