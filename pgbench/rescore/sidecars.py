"""`rescored-v<version>-<digest of the task's source>.json`, which lies beside a record and never changes it.

A sidecar names by a digest the answers that it is computed from.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgbench.durable import read_json
from pgbench.errors import StoreError
from pgbench.keys import bytes_key, json_key
from pgbench.records import Data, RunRecord, Score
from pgbench.samples import files_of

SCHEMA = 1
_NAMES = "rescored-v*-*.json"
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Rescored:
    """A sidecar: the scores of a run's answers under the task as it was on that day."""

    schema: int
    key: str  # of the run
    answers: str  # sha256 over the samples files that were read
    task: str
    version: int
    task_digest: str
    data: Data  # as the task reads it now; `selected`: the answers that were judged
    primary: str
    scores: Mapping[str, Score]
    groups: Mapping[str, Mapping[str, Mapping[str, Score]]]
    made: str  # UTC, ISO 8601
    versions: Mapping[str, str]  # of pgbench and of what scores


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar that was read."""

    path: Path
    rescored: Rescored
    fits: bool  # the answers beside it are those it was computed from


def name_of(version: int, task_digest: str) -> str:
    return f"rescored-v{version}-{task_digest[:8]}.json"


def answers_key(folder: Path) -> str:
    """sha256 over the samples files of a run. Raises StoreError."""
    try:
        return json_key({path.name: bytes_key(_chunks(path)) for path in files_of(folder)})
    except OSError as error:
        raise StoreError(f"cannot read the answers in {folder}: {error.strerror}") from error


def sidecars(folder: Path, record: RunRecord) -> tuple[list[Sidecar], list[str]]:
    """The sidecars of a run, the oldest first, and what is wrong with those that cannot be read.

    Raises StoreError for answers that cannot be read.
    """
    paths, found, broken = sorted(folder.glob(_NAMES)), list[Sidecar](), list[str]()
    answers = answers_key(folder) if paths else ""
    for path in paths:
        try:
            one = read(path)
        except StoreError as error:
            broken.append(str(error))
            continue
        found.append(Sidecar(path, one, fits=(one.key, one.answers) == (record.key, answers)))
    return sorted(found, key=lambda one: one.rescored.made), broken


def read(path: Path) -> Rescored:
    """One sidecar. Raises StoreError."""
    from pydantic import ValidationError

    document = read_json(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise StoreError(f"{path} is no rescoring that this pgbench reads; remove it and rescore again")
    try:
        found: Rescored = _reader().validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(
            f"{path} is no rescoring: {where}: {first['msg']}; remove it and rescore again"
        ) from error
    return found


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Rescored)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
