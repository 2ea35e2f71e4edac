"""JSON on disk: a document is there whole, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgbench.errors import StoreError


def exists(path: Path) -> bool:
    """Whether a file is there. Raises StoreError where that cannot be told."""
    try:
        return path.is_file()
    except OSError as error:  # a folder that may not be entered
        raise StoreError(f"cannot read {path}: {_reason(error)}") from error


def read_json(path: Path) -> Any:
    """A JSON document. Raises StoreError."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {_reason(error)}") from error


def write_json(path: Path, document: object) -> None:
    """A JSON document, all of it or nothing."""
    write_pieces(path, [encode(document, indent=1)])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """A file, all of it or nothing: temporary file, fsync, rename, fsync of the folder.

    What the pieces raise passes through, and leaves the file as it was. Raises StoreError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {path}: {_reason(error)}") from error
        raise


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
