"""A checkpoint with noise in some of its weights, so that a gate has something to find."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbench.demo.touring.route import Harm
from pgbench.durable import write_pieces
from pgbench.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WEIGHTS = "model.safetensors"
_LENGTH = 8  # bytes that say how long the header is, little-endian
# The file is that length, the header as JSON, one tensor after another (https://huggingface.co/docs/safetensors).
_SIZES = {"BF16": 2, "F32": 4}


@dataclass(frozen=True, slots=True)
class Damage:
    """What was written: the folder and the names of the weight matrices that got noise."""

    folder: Path
    tensors: tuple[str, ...]
    harm: Harm


def damaged(source: Path, folder: Path, harm: Harm) -> Damage:
    """Writes a copy of the checkpoint `source` into `folder`: the same files, noise in its weights.

    The same bytes for the same arguments, on any machine. Raises CheckpointError where no weight is meant or
    they are of a format that noise cannot be added to, StoreError where `folder` cannot be written.
    """
    for path in sorted(source.iterdir()):
        if path.is_file() and path.name != _WEIGHTS:
            write_pieces(folder / path.name, [path.read_bytes()])
    content = bytearray((source / _WEIGHTS).read_bytes())
    start, header = _header(content, source.name)
    found = tuple(_meant(header, harm))
    if not found:
        raise CheckpointError(f"{source.name} has no weight matrix named like {' or '.join(harm.parts)}")
    for place, name in enumerate(found):
        _add_noise(content, start, header[name], f"{source.name}: {name}", (harm.seed, place), harm.size)
    write_pieces(folder / _WEIGHTS, [bytes(content)])
    return Damage(folder, found, harm)


def _header(content: bytearray, name: str) -> tuple[int, Mapping[str, Any]]:
    """Where the tensors begin, and name -> dtype, shape, data_offsets."""
    length = int.from_bytes(content[:_LENGTH], "little")
    try:
        header: Mapping[str, Any] = json.loads(content[_LENGTH : _LENGTH + length])
    except ValueError as error:
        raise CheckpointError(f"{name}: {_WEIGHTS} is damaged; install pgbench again") from error
    return _LENGTH + length, header


def _meant(header: Mapping[str, Any], harm: Harm) -> Iterator[str]:
    for name in sorted(header):
        if len(header[name].get("shape", ())) > 1 and any(part in name for part in harm.parts):
            yield name


def _add_noise(
    content: bytearray, start: int, entry: Mapping[str, Any], where: str, seed: tuple[int, int], size: float
) -> None:
    import numpy as np

    dtype = entry["dtype"]
    if dtype not in _SIZES:
        raise CheckpointError(f"{where} is {dtype}; noise is added to {' and '.join(_SIZES)} alone")
    first, last = (start + offset for offset in entry["data_offsets"])
    count = math.prod(entry["shape"])
    raw = np.frombuffer(bytes(content[first:last]), "<u2" if dtype == "BF16" else "<f4", count)
    values = _widened(raw) if dtype == "BF16" else raw.astype(np.float32)
    # RandomState, of which numpy promises that its sequence never changes; default_rng has no such promise.
    noise = np.random.RandomState(seed).standard_normal(count).astype(np.float32)
    moved = values + np.float32(size * float(values.std(dtype=np.float64))) * noise
    content[first:last] = (_narrowed(moved) if dtype == "BF16" else moved.astype("<f4")).tobytes()


def _widened(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    import numpy as np

    wide: NDArray[np.float32] = (raw.astype(np.uint32) << 16).view(np.float32)
    return wide


def _narrowed(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """To the nearest, of two as near to the even one. Finite values only."""
    import numpy as np

    bits = values.view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded
