"""Proof that a checkpoint's files suffice where there is no network; no weight is read into memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgbench.backends.paligemma import hush
from pgbench.backends.paligemma.checkpoint import read_object, resolve
from pgbench.errors import CheckpointError
from pgbench.types import Checkpoint, ModelRequest

INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


@dataclass(frozen=True, slots=True)
class Verified:
    """What was opened."""

    checkpoint: Checkpoint
    tensors: int
    weight_files: int


def verify(request: ModelRequest) -> Verified:
    """Find the checkpoint as a run does; check its weight files, load config, tokenizer and processor.

    Raises UsageError, HubError, CheckpointError.
    """
    checkpoint, folder = resolve(request)
    files = check_weights(folder, checkpoint.id)
    _open(checkpoint, folder)
    return Verified(checkpoint, sum(map(len, files.values())), len(files))


def _open(checkpoint: Checkpoint, folder: Path) -> None:
    """Config, tokenizer and processor through transformers, as when loading; importing it takes seconds."""
    hush()
    from transformers import AutoConfig

    from pgbench.backends.paligemma.load import processor_of, quiet, reason

    quiet()
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for a broken file
        raise CheckpointError(
            f"cannot load config.json of {checkpoint.id}: {reason(error, folder)}"
        ) from error
    processor_of(checkpoint, folder)


def check_weights(folder: Path, name: str) -> Mapping[str, frozenset[str]]:
    """The tensors of every weight file that is loaded, by file. Raises CheckpointError for a file that is
    absent or cut off, and for a tensor that is not in the file which the index names."""
    if (folder / "model.safetensors").is_file():  # transformers prefers it to an index
        return {"model.safetensors": header(folder / "model.safetensors", name)}
    if not (folder / INDEX).is_file():
        raise CheckpointError(f"{name} has neither model.safetensors nor {INDEX}; fetch it again")
    places = read_object(folder / INDEX, name).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointError(f"{name}: {INDEX} has no weight_map of names; fetch it again")
    found = {file: header(folder / Path(file).name, name) for file in sorted(set(places.values()))}
    lacking = sorted(tensor for tensor, file in places.items() if tensor not in found[file])
    if lacking:
        raise CheckpointError(
            f"{name}: {len(lacking)} tensors are not in the file that {INDEX} names, first: {lacking[0]} of "
            f"{places[lacking[0]]}; fetch it again"
        )
    return found


def header(path: Path, name: str) -> frozenset[str]:
    """The names in a safetensors file's header, whose offsets must end where the file does.

    The format: 8 bytes with the header's length, a JSON object of data_offsets, the data
    (https://github.com/huggingface/safetensors, README). Raises CheckpointError.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise ValueError(f"its header claims {length:,} bytes")
            entries: dict[str, Any] = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(
            f"{name}: {path.name} cannot be read: {error.strerror}; fetch it again"
        ) from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{name}: {path.name} is no safetensors file: {error}; fetch it again"
        ) from error
    if end != size:
        raise CheckpointError(
            f"{name}: {path.name} has {size:,} bytes, its header describes {end:,}; fetch it again"
        )
    return frozenset(entries)
