"""The batch sizes that --batch-size auto found, beside the runs: OUT/batch-sizes/<key>.json.

One for all cells of one checkpoint, level and protocol on one kind of device whose prompts are about as long.
A size that was found stays, so that a run goes on under the key that it began with, and shards agree.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pgbench.batch import Cell
from pgbench.batching import choose, planned
from pgbench.durable import exists, read_json, write_json, write_new_json
from pgbench.errors import StoreError
from pgbench.keys import json_key
from pgbench.store import plain

_FOLDER, _SCHEMA = "batch-sizes", 1
_STEP = 64  # tokens: prompts that differ by less are of one shape
LARGEST = 256  # samples a batch that are tried
Why: TypeAlias = Literal["out of memory", "memory bound", "no gain", "all samples", "largest tried"]
Shape: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Tried:
    """One size: its largest batch, at once and in halves, and the peak of memory so far."""

    size: int
    samples: int
    seconds: float
    in_halves: float  # seconds for the same samples; of one alone, those of it
    peak_bytes: int

    @property
    def gain(self) -> float:
        """Times as fast as half of the size, on the same samples: answers differ in length."""
        return self.in_halves / self.seconds if self.seconds else 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """A size, and why no larger one was taken."""

    size: int
    why: Why
    tried: tuple[Tried, ...] = ()


def shape(cell: Cell, device: str) -> Shape:
    """What decides how many samples fit and how fast they are. Raises as `planned` does."""
    from dataclasses import replace

    spec = replace(cell.spec, batch=1)
    chosen = choose(spec, cell.task, cell.dataset.samples)
    width = planned(spec, chosen).width
    return {
        "checkpoint": plain(spec.checkpoint),
        "mode": spec.mode,
        "tokens": -(-width // _STEP) * _STEP,
        "new_tokens": spec.max_new_tokens,
        # what a few samples are answered with says nothing of a run of more
        "samples": min(LARGEST, 1 << (len(chosen.positions) - 1).bit_length()),
        "device": device,
    }


def find(out: Path, wanted: Shape) -> Found | None:
    """The size for this shape; None where there is none that can be read."""
    path = _path(out, wanted)
    try:
        return _read(path) if exists(path) else None
    except StoreError:
        return None


def keep(out: Path, wanted: Shape, found: Found) -> Found:
    """Store a size, and give the one that counts: what another process stored first stays.

    Raises StoreError.
    """
    path = _path(out, wanted)
    document = {"schema": _SCHEMA, "of": wanted, "found": asdict(found)}
    (write_new_json if find(out, wanted) or not exists(path) else write_json)(path, document)
    return find(out, wanted) or found


def foreseen(cell: Cell, out: Path) -> int | None:
    """The size that is stored for a cell where it can be told without asking which device this is: None
    where none is, or where those of several devices differ."""
    wanted = {name: value for name, value in shape(cell, "").items() if name != "device"}
    sizes = set()
    for path in sorted((out / _FOLDER).glob("*.json")):
        try:
            said = dict(read_json(path)["of"])
            found = _read(path)
        except (StoreError, LookupError, TypeError, ValueError):
            continue
        if found and {name: value for name, value in said.items() if name != "device"} == wanted:
            sizes.add(found.size)
    return sizes.pop() if len(sizes) == 1 else None


def _path(out: Path, wanted: Shape) -> Path:
    return out / _FOLDER / f"{json_key(dict(wanted))[:16]}.json"


def _read(path: Path) -> Found | None:
    """Raises StoreError."""
    from pydantic import ValidationError

    document = read_json(path)
    try:
        found: Found = _reader().validate_python(document["found"])
        plain_size = type(document["found"]["size"]) is int and 1 <= found.size <= LARGEST
        fits = document["schema"] == _SCHEMA and plain_size and json_key(document["of"])[:16] == path.stem
    except (ValidationError, KeyError, TypeError):
        return None
    return found if fits else None


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Found)
