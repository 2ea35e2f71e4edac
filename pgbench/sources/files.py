"""Annotations and image folders as their authors published them: reading, checking and naming what is wrong.

Layouts belong to the tasks; here is what every layout needs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pgbench.errors import DataError
from pgbench.types import Image, Sample

SHOWN = 8  # names listed in a message
UNSAFE = frozenset("/\\:\0")  # what lets a file name leave its folder, on any system


def data_folder(path: str | None, layout: str) -> Path:
    """The folder that --data named. Raises DataError; `layout` says what it should hold."""
    if path is None:
        raise DataError(f"the files source needs --data DIR, a folder with {layout}")
    folder = Path(path)
    try:
        there, found = folder.exists(), folder.is_dir()
    except OSError as exc:
        raise DataError(f"--data {path} cannot be read: {exc.strerror}") from exc
    if not found:
        what = "is not a folder" if there else "does not exist"
        raise DataError(f"--data {path} {what}; expected a folder with {layout}")
    return folder


def read_json(folder: Path, name: str) -> object:
    """The document in a JSON file. Raises DataError: not there, unreadable, not JSON (line and column)."""
    path = folder / name
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise DataError(f"{name} is not in {folder}; there: {listing(folder)}") from exc
    except OSError as exc:
        raise DataError(f"{name} cannot be read: {exc.strerror}") from exc
    except json.JSONDecodeError as exc:
        raise DataError(
            f"{name} is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}; download it again"
        ) from exc
    except (ValueError, RecursionError) as exc:  # no UTF-8; an integer of more digits than Python reads
        raise DataError(f"{name} is not JSON: {type(exc).__name__}; download it again") from exc


def listing(folder: Path) -> str:
    """The first names of a folder, for a message."""
    try:
        return names(sorted(entry.name for entry in os.scandir(folder)))
    except OSError as exc:
        return f"({exc.strerror})"


def names(found: Sequence[str]) -> str:
    """
    >>> names([])
    'nothing'
    >>> names(["a", "b"])
    'a, b'
    """
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more if found else "nothing"


def record_list(document: object, name: str, key: str) -> Sequence[Mapping[str, object]]:
    """The records under `key` of a JSON document. Raises DataError naming the shape that came."""
    if not isinstance(document, dict) or key not in document:
        came = f"keys {names(sorted(document))}" if isinstance(document, dict) else kind(document)
        raise DataError(f"{name}: expected an object with {key!r}, got {came}")
    records = document[key]
    if not isinstance(records, list) or not records:
        raise DataError(f"{name}: {key!r} should be a list of records, got {kind(records)}")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(f"{name}: record {index} should be an object, got {kind(record)}")
    return records


def field(record: Mapping[str, object], key: str, where: str) -> object:
    """A field that must be there. Raises DataError with the record (`where`) and the field."""
    value = record.get(key)
    if value is None:
        lack = "is null" if key in record else f"is missing; there: {names(sorted(record))}"
        raise DataError(f"{where}: field {key!r} {lack}")
    return value


def text(value: object, key: str, where: str) -> str:
    """A field that must be text which can be written as UTF-8. Raises DataError."""
    if not isinstance(value, str):
        raise DataError(f"{where}: field {key!r} should be text, got {kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise DataError(f"{where}: field {key!r} holds half a surrogate pair, which is no text") from exc
    return value


def kind(value: object) -> str:
    """What a JSON value is, for a message.

    >>> kind(None), kind({}), kind([]), kind([1]), kind("abc"), kind(3.0)
    ('null', 'an object', 'an empty list', 'a list', "'abc'", '3.0')
    """
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object" if isinstance(value, dict) else repr(value)[:60]


def check_unique(ids: Iterable[str], name: str) -> None:
    """Raises DataError for an id that occurs twice: ids join runs, and twice would count twice."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise DataError(f"{name}: id {one} occurs twice; every record needs its own")
        seen.add(one)


def check_name(name: str, where: str) -> str:
    """A name that stays in its folder, as it came. Raises DataError: an annotation must not choose paths."""
    if not name or ".." in name or not UNSAFE.isdisjoint(name):
        raise DataError(f"{where}: {name!r} is no plain file name; it must not hold / \\ : .. or NUL")
    return name


def image_file(folder: Path, name: str) -> Image:
    """A picture in a folder, read late; `name` has passed `check_name`."""
    return Image(name, functools.partial(read_image, folder / name))


def read_image(path: Path) -> bytes:
    """The bytes of a file. Raises OSError that names the file alone: its text ends up in the record."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path.name) from None


def is_file(entry: os.DirEntry[str] | Path) -> bool:
    """Whether something can be read there: one link in a circle or one name that is too long must not spoil
    the folder."""
    try:
        return entry.is_file()
    except OSError:
        return False


def files_in(folder: Path) -> frozenset[str]:
    """The names of a folder's files, in one pass; none where there is no such folder: answers made elsewhere
    are scored without pictures, and a run names the samples that lack theirs.

    Raises DataError where it is there and cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if is_file(entry))
    except FileNotFoundError:
        return frozenset()
    except OSError as exc:
        what = f"the image folder {folder.name}/ cannot be read in {folder.parent}"
        raise DataError(f"{what}: {exc.strerror}; there: {listing(folder.parent)}") from exc


def digest(samples: Iterable[Sample]) -> str:
    """sha256, 64 hex digits, over what the samples ask: id, question (options and context with it),
    references and image names, in order. Equal for equal content, whatever source it came from.
    """
    whole = hashlib.sha256()
    for sample in samples:
        asked = [sample.id, sample.question, sample.options, sample.context, sample.target]
        whole.update(json.dumps([*asked, [image.name for image in sample.images]]).encode() + b"\n")
    return whole.hexdigest()
