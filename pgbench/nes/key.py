"""The key of a rating sheet: which row is which sentence of which run. It never goes to the raters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pgbench.durable import exists, read_json, write_json
from pgbench.errors import DataError, StoreError, UsageError
from pgbench.nes.answers import Answers, read

SCHEMA = 1
FILE = "key.json"


@dataclass(frozen=True, slots=True)
class RunOfSheet:
    """A run whose sentences are in the sheet."""

    folder: str  # as seen from the sheet's folder, or its bare name (see `relative`)
    task: str
    split: str
    checkpoint: str
    answers: str  # digest of the answers that were cut into sentences
    captions: int
    failed: int  # samples without an answer
    empty: int  # answers without a sentence


@dataclass(frozen=True, slots=True)
class RowOfSheet:
    """A sentence."""

    run: str  # the run's key
    sample: str
    sentence: int  # its place in the caption, from 0
    caption: str  # digest of the caption


@dataclass(frozen=True, slots=True)
class Key:
    schema: int
    digest: str  # sha256 over seed, runs and sentences; rows carry its start, ratings are of it
    seed: int
    splitter: str  # what cut the sentences, with its version
    runs: Mapping[str, RunOfSheet]  # by the run's key
    rows: Mapping[str, RowOfSheet]  # by row id, in the order of the sheet


def write(folder: Path, key: Key) -> None:
    """Raises StoreError."""
    write_json(folder / FILE, asdict(key))


def load(folder: Path) -> Key:
    """The key of a sheet's folder. Raises UsageError where there is none, StoreError for a foreign one."""
    from pydantic import TypeAdapter, ValidationError

    path = folder / FILE
    if not exists(path):
        raise UsageError(f"{folder} is no rating sheet: it has no {FILE}; `pgbench nes sheet` makes one")
    document = read_json(path)
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise StoreError(f"{path} has schema {found!r}; this pgbench reads schema {SCHEMA}")
    try:
        key = TypeAdapter(Key).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is not the key of a sheet: {where}: {first['msg']}") from error
    if stray := sorted({row.run for row in key.rows.values()} - set(key.runs)):
        raise StoreError(f"{path} has rows of a run that it does not name: {stray[0]}")
    return key


def relative(folder: Path, out: Path) -> str:
    """A run's folder as seen from the sheet, so that the key names no absolute path and no user.

    Only its name where the way there leads through the root, which would spell out the absolute path, or
    through the user's own folder: `nes score` then asks for --run.
    """
    there, here = folder.resolve(), out.resolve()
    way = Path(os.path.relpath(there, here))
    user = Path(os.path.expanduser("~")).name  # noqa: PTH111 - Path.home raises where there is no home
    told = os.path.commonpath([there, here]) == os.sep or user in way.parts
    return there.name if told else way.as_posix()


def runs_of(key: Key, folder: Path, named: Sequence[Path] = ()) -> dict[str, Answers]:
    """The runs of a sheet, where it says they lie or among those `named`, with unchanged answers.

    Raises StoreError for a run that is not there, DataError for one whose answers have changed since.
    """
    given = {answers.record.key: answers for answers in map(read, named)}
    if stray := sorted(str(answers.folder) for name, answers in given.items() if name not in key.runs):
        raise UsageError(f"{stray[0]} is no run of the sheet {folder}; leave it out")
    found = {name: given.get(name) or _where(run, folder, name) for name, run in key.runs.items()}
    for name, answers in found.items():
        if answers.digest != key.runs[name].answers:
            raise DataError(
                f"the answers of {answers.folder} have changed since the sheet {folder} was made, so its "
                "ratings are not of them; restore the run, or make and rate a new sheet"
            )
    return found


def _where(run: RunOfSheet, folder: Path, name: str) -> Answers:
    place = Path(os.path.normpath(folder / run.folder))
    there = exists(place / "record.json") and read(place)
    if not there or there.record.key != name:
        raise StoreError(
            f"run {name[:8]} ({run.checkpoint} on {run.task} {run.split}) is not at {place}; "
            "name its folder with --run"
        )
    return there
