"""What `pgbench doctor` found, beside the runs: RUNS/doctor/<key>.json, one per checkpoint and stack.

A record that is concluded takes the verdict that lies there for its checkpoint and its stack, and none where
none does: a run probes nothing by itself and is no slower for it. The key holds whatever can move an answer,
pgbench's own code among it, so that no verdict outlives the stack that it is of. It leaves out the model of
the processor, as records do.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from pgbench.backends.identity import answering
from pgbench.durable import exists, read_json, write_json
from pgbench.errors import StoreError
from pgbench.keys import json_key
from pgbench.records import Stack, Verdict
from pgbench.types import Checkpoint

_FOLDER = "doctor"
_SCHEMA = 1


def keep(runs: Path, checkpoint: Checkpoint, stack: Stack, verdict: Verdict) -> Path:
    """Write a verdict over an earlier one of the same stack. Raises StoreError."""
    path = _path(runs, checkpoint, stack)
    document = {"checkpoint": checkpoint, "stack": stack, "verdict": verdict}
    write_json(path, {"schema": _SCHEMA, **{name: _plain(one) for name, one in document.items()}})
    return path


def find(runs: Path, checkpoint: Checkpoint, stack: Stack) -> Verdict | None:
    """The verdict on this checkpoint and stack; None where there is none that can be read."""
    from pydantic import ValidationError

    path = _path(runs, checkpoint, stack)
    try:
        if not exists(path):
            return None
        kept = read_json(path)
        found: Verdict = _reader().validate_python(kept["verdict"])
        # a file of another name, or of another version of this program, is of another stack
        if kept["schema"] != _SCHEMA or _key(kept["checkpoint"], kept["stack"]) != path.stem:
            return None
    except (StoreError, ValidationError, KeyError, TypeError):
        return None  # a run that is otherwise complete must not be lost to a file that says nothing of it
    return found if found.findings else None


def _path(runs: Path, checkpoint: Checkpoint, stack: Stack) -> Path:
    return runs / _FOLDER / f"{_key(_plain(checkpoint), _plain(stack))}.json"


def _key(point: Any, stack: Any) -> str:
    # the kind decides what the protocol wants, of prompts and of soft-caps
    return json_key({"known": answering(point, stack), "kind": point["profile"]["kind"]})[:16]


def _plain(record: Any) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(record)))


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Verdict)
