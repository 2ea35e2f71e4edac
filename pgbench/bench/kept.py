"""Figures beside the runs: RUNS/bench/<key>.json, one per checkpoint, stack and work.

The key holds what the doctor's does and the work, so that a newer figure of the same lies over the older one.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pgbench.backends.identity import answering
from pgbench.bench.figures import Bench
from pgbench.durable import read_json, write_json
from pgbench.errors import StoreError
from pgbench.keys import json_key

FOLDER = "bench"
SCHEMA = 1


def keep(runs: Path, bench: Bench) -> Path:
    """Write figures over earlier ones of the same. Raises StoreError."""
    known = plain(bench)
    work = {**known["work"], "repeats": 0}  # more of the same
    key = json_key({"known": answering(known["checkpoint"], known["stack"]), "work": work})[:16]
    path = runs / FOLDER / f"{key}.json"
    write_json(path, {"schema": SCHEMA, "bench": known})
    return path


def below(runs: Path) -> list[Bench]:
    """All figures of a folder, the newest first; what cannot be read says nothing."""
    found = [bench for path in sorted((runs / FOLDER).glob("*.json")) if (bench := _read(path))]
    return sorted(found, key=lambda bench: bench.started, reverse=True)


def plain(bench: Bench) -> dict[str, Any]:
    """As JSON values."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(bench)))
    return found


def _read(path: Path) -> Bench | None:
    from pydantic import ValidationError

    try:
        document = read_json(path)
        if document["schema"] != SCHEMA:
            return None
        found: Bench = _reader().validate_python(document["bench"])
    except (StoreError, ValidationError, KeyError, TypeError):
        return None
    return found


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Bench)
