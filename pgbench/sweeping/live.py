"""One samples file as it lies there now: how many answers, how fast, and whether a process writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgbench.holders import holder_of

_TAIL = 1 << 18  # bytes of the end of a file of answers that its speed is told from
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What one writer has done so far."""

    answers: int  # whole lines
    rate: float | None  # samples answered a second over the batches at its end, loading left out
    held: bool = False  # a process has it open for writing
    holder: str = ""  # who


def looked_at(path: Path) -> Written:
    """Of a file that cannot be read, nothing."""
    holder = holder_of(_lock_of(path))
    try:
        with path.open("rb") as file:
            count = 0
            while chunk := file.read(_CHUNK):
                count += chunk.count(b"\n")
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read().split(b"\n")[:-1]
    except OSError:
        return Written(0, None, holder is not None, str(holder or ""))
    return Written(count, _rate(tail), holder is not None, str(holder or ""))


def _lock_of(path: Path) -> Path:
    """The lock beside a samples file: .lock-0-of-1 of samples-0-of-1.jsonl (holders.lock_of)."""
    return path.with_name(f".lock-{path.stem.removeprefix('samples-')}")


def _rate(tail: list[bytes]) -> float | None:
    """A batch with an answer that was taken over from another cell is in no speed figure, as in a record."""
    partly: set[int] = set()
    answered: dict[int, int] = {}
    walls: dict[int, float] = {}
    for raw in tail:
        line = _line(raw)
        if line is not None and line.get("reused"):
            partly.add(line["batch"])
        if line is None or line["batch"] in partly or line.get("error") is not None:
            continue
        batch = line["batch"]
        answered[batch] = answered.get(batch, 0) + 1
        walls[batch] = line["seconds"]
    if len(answered) > 1 and len(tail) > 1:  # the first one may be cut in two by the start of the tail
        partly.add(next(iter(answered)))
    timed = answered.keys() - partly
    seconds = sum(walls[batch] for batch in timed)
    return sum(answered[batch] for batch in timed) / seconds if seconds else None


def _line(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:  # the first line of the tail is cut in two
        return None
    sound = isinstance(line, dict) and type(line.get("batch")) is int
    return line if sound and type(line.get("seconds")) in (int, float) else None
