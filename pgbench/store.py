"""Run folders: RUNS/<task>/<cell name>-<key8>/ with spec, stack, samples, sessions and record.

    spec.json                 what is run, on which data
    stack.json                what answers; every writer of the run has the same
    samples-<i>-of-<n>.jsonl  the answers; see samples.py
    session-<i>-of-<n>.json   what loading and memory cost the writer of that file
    units.jsonl               what units of several samples add to their metrics, where there are any
    record.json               written last (temporary file, fsync, `os.replace`): the mark of completion

Nobody edits a record.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from pgbench.durable import exists, read_json, write_json, write_new_json
from pgbench.errors import ResumeError, StoreError
from pgbench.holders import lock_of, locks_of
from pgbench.plan import Shard
from pgbench.records import Data, RunRecord, Session, Stack
from pgbench.samples import files_of, name_of
from pgbench.specs import cell_name, file_name
from pgbench.types import RunSpec

SCHEMA = 2  # 2: samples name their cluster and groups, and whose answer they took over
READABLE = (1, 2)
T = TypeVar("T")


def folder_of(runs: Path, spec: RunSpec) -> Path:
    """Where a spec's run lives below `runs`."""
    return runs / file_name(spec.task) / f"{cell_name(spec)}-{spec.key[:8]}"


def of_before(runs: Path, spec: RunSpec) -> Path | None:
    """The folder of the same cell as it was run before batches were made by a rule; None where there is none.

    It keeps its key, its answers and its batches: nothing is mixed with them.
    """
    folder = folder_of(runs, replace(spec, batching=None))
    return folder if spec.batching is not None and exists(folder / "spec.json") else None


def plain(record: Any) -> Any:
    """A record (a dataclass) as JSON values: mappings, lists, texts and numbers.

    Not by pydantic, which puts U+FFFD for lone surrogates in the names of a mapping (2.14): two groups
    could become one.
    """
    return json.loads(json.dumps(asdict(record)))


def read_record(folder: Path) -> RunRecord | None:
    """The finished record of a run folder, None while it has none. Raises StoreError."""
    path = folder / "record.json"
    if not exists(path):
        return None
    document = read_json(path)
    found = document.get("schema") if isinstance(document, dict) else None
    if found not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise StoreError(f"{path} has schema {found!r}; this pgbench reads schemas {known}")
    return _parse(RunRecord, document, path, "a record")


def begin(folder: Path, spec: RunSpec, data: Data, started: str) -> str:
    """Write spec.json, or compare it with the one there; returns when the run first started.

    Raises ResumeError for another spec or other annotations, and prints what differs.
    """
    path = folder / "spec.json"
    document = {
        "schema": SCHEMA,
        "key": spec.key,
        "started": started,
        "spec": plain(spec),
        "data": plain(data),
    }
    if not exists(path):
        _require_no_answers(folder, path.name)
        write_new_json(path, document)  # or that of another shard, which began in this instant
    stored = read_json(path)
    if not isinstance(stored, dict) or not {"spec", "data", "started"} <= stored.keys():
        raise StoreError(f"{path} does not say what was run; restore it, or start afresh in another --out")
    _refuse(folder, {part: stored[part] for part in ("spec", "data")}, document, ("spec", "data"))
    return str(stored["started"])


def read_begun(folder: Path) -> tuple[RunSpec, Data]:
    """What a run began with. Raises StoreError."""
    path = folder / "spec.json"
    document = read_json(path)
    try:
        spec, data = document["spec"], document["data"]
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} does not say what was run; restore it") from error
    return _parse(RunSpec, spec, path, "a spec"), _parse(Data, data, path, "a spec")


def require_same_stack(folder: Path, other: Path) -> None:
    """Raises ResumeError where two parts of one run were answered by different stacks, or on other data."""
    for name in ("spec", "stack"):
        paths = folder / f"{name}.json", other / f"{name}.json"
        if name == "stack" and not all(map(exists, paths)):
            continue  # a shard without a batch of its own, or one that was stopped while it loaded
        one, two = (_answers(read_json(path)) for path in paths)
        if name == "spec":
            one, two = ({part: document[part] for part in ("spec", "data")} for document in (one, two))
        if found := list(differences(one, two, name)):
            raise ResumeError(f"{other} cannot be merged into {folder}: {'; '.join(found)}")


def refuse_other(folder: Path, record: RunRecord, spec: RunSpec, data: Data, task_digest: str) -> None:
    """Raises ResumeError where a finished record is of another spec, other annotations or another task."""
    stored = {
        "spec": plain(record.spec),
        "data": plain(record.data),
        "task": record.stack.versions.get("task"),
    }
    current = {"spec": plain(spec), "data": plain(data), "task": task_digest}
    _refuse(folder, stored, current, ("spec", "data", "task"))


def discard(folder: Path, shard: Shard) -> None:
    """Take away a run folder that holds no answer and no other shard, and folders empty without it."""
    with contextlib.suppress(OSError, StoreError):  # what is left is empty, and the next run uses it
        own = [folder / name_of(shard)], [folder / lock_of(shard)]
        if (files_of(folder), locks_of(folder)) != own or _has_answers(folder):
            return  # another shard has begun
        names = ("spec.json", "stack.json", _session(shard), name_of(shard))
        for name in (*names, lock_of(shard)):  # the lock last: it is ours
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()


def keep_stack(folder: Path, stack: Stack) -> None:
    """Write stack.json, or refuse a stack that differs from the one that began the run (ResumeError)."""
    path = folder / "stack.json"
    if not exists(path):
        _require_no_answers(folder, path.name)
        write_new_json(path, plain(stack))
    _refuse(folder, {"stack": _answers(read_json(path))}, {"stack": _answers(plain(stack))}, ("stack",))


def _answers(stack: Any) -> Any:
    """Without the figures by which kernels were chosen: no two sessions have the same."""
    if not isinstance(stack, dict):
        return stack
    return {name: value for name, value in stack.items() if name != "tried"}


def read_stack(folder: Path) -> Stack:
    """What began the run. Raises StoreError."""
    path = folder / "stack.json"
    if not exists(path):
        _require_no_answers(folder, path.name)
    return _parse(Stack, read_json(path), path, "a stack")


def keep_session(folder: Path, shard: Shard, session: Session) -> None:
    """What this session cost; the peak of the earlier ones of the same writer is kept where it was higher."""
    path = folder / _session(shard)
    before = _parse(Session, read_json(path), path, "a session") if exists(path) else session
    write_json(path, plain(session.after(before)))


def read_session(folder: Path) -> Session:
    """The costliest of the run's writers, figure by figure. Raises StoreError where there is none."""
    paths = sorted(folder.glob("session-*-of-*.json"))
    sessions = [_parse(Session, read_json(path), path, "a session") for path in paths]
    if not sessions:
        raise StoreError(
            f"{folder} holds answers and no session; restore it, or start afresh in another --out"
        )
    return functools.reduce(Session.costliest, sessions)


def _session(shard: Shard) -> str:
    return f"session-{shard.index}-of-{shard.count}.json"


def finish(folder: Path, record: RunRecord) -> None:
    """Write record.json: from here on the run is complete."""
    write_json(folder / "record.json", plain(record))
    with contextlib.suppress(OSError):
        for left in folder.glob(".*.tmp"):  # by a kill in the instant in which the run began
            left.unlink()


def differences(stored: object, current: object, path: str) -> Iterator[str]:
    """What differs between two JSON values: `path: was X, now Y`."""
    if isinstance(stored, Mapping) and isinstance(current, Mapping):
        for name in sorted({*stored, *current}):
            yield from differences(stored.get(name), current.get(name), f"{path}.{name}")
    elif stored != current:
        yield f"{path}: was {_short(stored)}, now {_short(current)}"


def _require_no_answers(folder: Path, lost: str) -> None:
    if _has_answers(folder):
        raise StoreError(
            f"{folder} holds answers and no {lost}; restore it, or start afresh in another --out"
        )


def _has_answers(folder: Path) -> bool:
    return any(path.stat().st_size for path in files_of(folder))


def _refuse(
    folder: Path, stored: Mapping[str, object], current: Mapping[str, object], parts: tuple[str, ...]
) -> None:
    found = [line for part in parts for line in differences(stored[part], current[part], part)]
    if found:
        raise ResumeError(
            f"{folder} holds a run that began differently: {'; '.join(found)}. "
            "Restore that, or start afresh in another --out"
        )


def _parse(kind: type[T], document: object, path: Path, what: str) -> T:
    from pydantic import ValidationError

    try:
        found: T = _reader(cast(Hashable, kind)).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is not {what}: {where}: {first['msg']}") from error
    return found


@functools.cache
def _reader(kind: Any) -> Any:
    """Kept: making one takes fifty times as long as reading a record."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
