"""What a checkpoint's folder holds: its files, their hash, and whether they are still the same.

Part of `paligemma.checkpoint`, which is where others import it from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgbench.errors import CheckpointError
from pgbench.keys import bytes_key, json_key

CONTENT = ("*.json", "*.safetensors", "tokenizer.model")  # what is loaded, hence what is hashed
_CHUNK = 1 << 24


def folder_at(text: str) -> Path | None:
    """The folder that a text names, if there is one; a text may be no path at all."""
    try:
        folder = Path(text).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # longer than a file name may be; the home of nobody
        return None


def read_object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in one of a checkpoint's files. Raises CheckpointError."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{name} has no readable {path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: {path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{name}: {path.name} is not an object")
    return document


def require_weights(folder: Path, name: str) -> None:
    """Safetensors, whole. Raises CheckpointError for pickled weights, an adapter alone, or none."""
    if (folder / "adapter_config.json").is_file():  # transformers applies it or not, as peft is there or not
        raise CheckpointError(f"{name} holds an adapter; merge it into its base model and name the result")
    if any(folder.glob("*.safetensors")):
        return _require_flat(folder, name)
    other = sorted(
        path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.npz") for path in folder.glob(pattern)
    )
    found = f"found {', '.join(other[:3])}" if other else "found no weights"
    raise CheckpointError(f"{name}: {found}; pgbench loads safetensors only, never pickled weights")


def _require_flat(folder: Path, name: str) -> None:
    """transformers follows an index into other folders, which the checkpoint's hash does not."""
    for path in folder.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(path.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{name}: {path.name} is no index of weights; fetch it again") from error
        if strange := sorted(str(one) for one in names if Path(str(one)).name != one):
            raise CheckpointError(
                f"{name}: {path.name} names {strange[0]}, outside its folder; put all weights beside it"
            )


def content_key(folder: Path, patterns: Sequence[str] = CONTENT) -> str:
    """sha256 over names and contents of all that is loaded: two folders with equal keys answer alike."""
    paths, seen = _paths(folder, patterns), Files.of(folder, patterns)
    try:
        key = json_key({path.name: bytes_key(_chunks(path)) for path in paths})
    except OSError as error:
        unread = Path(error.filename or folder).name
        raise CheckpointError(f"cannot read {unread} of the checkpoint: {error.strerror}") from error
    seen.require_same(folder.name)
    return key


@dataclass(frozen=True, slots=True)
class Files:
    """What a checkpoint consists of at one moment: an edit is told from this, without reading gigabytes."""

    folder: Path
    patterns: Sequence[str]
    marks: Mapping[str, tuple[int, int, int] | None]  # name -> inode, bytes, time of the last change

    @classmethod
    def of(cls, folder: Path, patterns: Sequence[str] = CONTENT) -> Files:
        return cls(folder, patterns, {path.name: _mark(path) for path in _paths(folder, patterns)})

    def require_same(self, name: str) -> None:
        """Raises CheckpointError where the folder holds anything else by now."""
        if Files.of(self.folder, self.patterns) != self:
            raise CheckpointError(f"the files of {name} have changed since they were opened; run again")

    def require_unedited(self, name: str) -> None:
        """Raises CheckpointError where a file was written to: safetensors stay mapped on a CPU, so that a
        loaded model changes with them. What was replaced or deleted stays as it was in memory."""
        for file, mark in self.marks.items():
            found = _mark(self.folder / file)
            if mark and found and found[0] == mark[0] and found != mark:
                raise CheckpointError(f"{file} of {name} was edited while it was in use; run again")


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _paths(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
