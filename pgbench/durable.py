"""JSON on disk: a document is there whole, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgbench.errors import StoreError, UsageError


def exists(path: Path) -> bool:
    """Whether a file is there. Raises StoreError where that cannot be told."""
    try:
        return path.is_file()
    except OSError as error:  # a folder that may not be entered
        raise StoreError(f"cannot read {path}: {_reason(error)}") from error


def require_outside_runs(path: Path, flag: str = "--out") -> None:
    """Raises UsageError for a file that would lie in a run's folder or below one: nobody edits these."""
    place = path.parent.absolute()
    inside = [one for one in place.parents if exists(one / "spec.json") and exists(one / "stack.json")]
    if exists(place / "spec.json") or exists(place / "record.json"):
        inside = [path.parent]
    if inside:
        raise UsageError(f"{inside[0]} is a run's folder, which nobody edits; give {flag} another place")


def require_place(folder: Path) -> None:
    """Create a folder. Raises StoreError where nothing could be kept in it: better before hours of work than
    after them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot create {folder}: {error.strerror}; name another --out") from error
    if not os.access(folder, os.W_OK):
        raise StoreError(f"cannot write in {folder}; name another --out")


def read_json(path: Path) -> Any:
    """A JSON document. Raises StoreError."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {_reason(error)}") from error


def write_json(path: Path, document: object) -> None:
    """A JSON document, all of it or nothing."""
    write_pieces(path, [encode(document, indent=1)])


def write_new_json(path: Path, document: object) -> None:
    """As `write_json`; where the file is there by now, by whomever, it stays as it is."""
    write_pieces(path, [encode(document, indent=1)], new=True)


def write_pieces(path: Path, pieces: Iterable[bytes], *, new: bool = False) -> None:
    """A file, all of it or nothing: temporary file, fsync, rename, fsync of the folder.

    What the pieces raise passes through, and leaves the file as it was. Raises StoreError.
    """
    # two machines may begin the same run at once; all else has one writer, who writes over what a kill left
    token = f".{secrets.token_hex(4)}" if new else ""
    temporary = path.with_name(f".{path.name}{token}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # what a kill left; a link that somebody laid there leads elsewhere
        with temporary.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        (_link if new else os.replace)(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {_reason(error)}") from error
        raise


def tidy(folder: Path) -> None:
    """Remove what was being written when its process was killed; only for whoever writes here alone."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name unless the name is taken, also by another machine in this instant."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(temporary, path)
        return
    temporary.unlink()


def encode(document: object, **style: Any) -> bytes:
    """JSON with one line end. Text stays readable; lone surrogates, which UTF-8 lacks, are escaped.

    Raises StoreError for nan and inf: strict JSON has no word for them, and no result is one of them.
    """
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, **style).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False, **style).encode() + b"\n"
    except ValueError as error:
        raise StoreError(f"a result cannot be stored: {error}") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
