"""The members of one large JSON object, or of an object cut into several files, read one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pgbench.errors import DataError
from pgbench.sources.files import kind
from pgbench.sources.json_stream import Document

Member = tuple[str, str, Mapping[str, object]]


def chunks(folder: Path, stem: str) -> list[str]:
    """stem.json, or the chunks in stem/ in the order of their numbers, as GQA's script looks; none: empty."""
    if (folder / f"{stem}.json").is_file():
        return [f"{stem}.json"]
    found = (path.name for path in (folder / stem).glob(f"{stem}_*.json"))
    ordered = sorted(found, key=lambda name: ([int(one) for one in re.findall(r"\d+", name)], name))
    return [f"{stem}/{name}" for name in ordered]


def json_members(folder: Path, names: Sequence[str]) -> Iterator[Member]:
    """(file name, key, record) of every member of the objects in these files of a folder, in order.

    One record and a chunk of text are in memory at a time. Each file is checked to its end.
    Raises DataError as it comes to it: unreadable, not JSON (and where), another shape, no members.
    """
    for name in names:
        try:
            with Document(folder, name) as document:
                yield from _members(document, name)
        except OSError as exc:
            raise DataError(f"{name} cannot be read: {exc.strerror}") from exc
        except (ValueError, RecursionError) as exc:  # no UTF-8; a number of thousands of digits
            raise DataError(f"{name} is not JSON: {type(exc).__name__}; download it again") from exc


def _members(document: Document, name: str) -> Iterator[Member]:
    if document.peek() != "{":
        raise DataError(f"{name}: expected an object of records by id, got {kind(document.value())}")
    empty = True
    for _ in document.items("{", "}"):
        empty = False
        key = document.value()
        if not isinstance(key, str):
            raise document.broken("Expecting property name enclosed in double quotes")
        document.take(":")
        record = document.value()
        if not isinstance(record, dict):
            raise DataError(f"{name}: record {key} should be an object, got {kind(record)}")
        yield name, key, record
    if document.peek():
        raise document.broken("Extra data")
    if empty:
        raise DataError(f"{name}: expected records by id, got an empty object")
