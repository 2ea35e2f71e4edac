"""Run folders: RUNS/<task>/<cell name>-<key8>/ with spec, stack, samples-<shard>.jsonl and record.

A batch is the atom: its lines go to disk in one `write` and are synced before the next batch starts, so
a kill at any instant loses at most the batch in flight. `record.json` is written last (temporary file,
fsync, `os.replace`) and is the mark of completion; nobody edits it afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pgbench.durable import encode, exists, read_json, write_json
from pgbench.errors import ResumeError, StoreError
from pgbench.records import Data, RunRecord, SampleLine, Stack
from pgbench.sweep import cell_name, file_name
from pgbench.types import RunSpec

SCHEMA = 1
SAMPLES = "samples-0-of-1.jsonl"
_FIELDS = tuple(field.name for field in fields(SampleLine))
T = TypeVar("T")


def folder_of(runs: Path, spec: RunSpec) -> Path:
    """Where a spec's run lives below `runs`."""
    return runs / file_name(spec.task) / f"{cell_name(spec)}-{spec.key[:8]}"


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
    if found != SCHEMA:
        raise StoreError(f"{path} has schema {found!r}; this pgbench reads schema {SCHEMA}")
    return _parse(RunRecord, document, path)


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
        write_json(path, document)
        return started
    stored = read_json(path)
    if not isinstance(stored, dict) or not {"spec", "data", "started"} <= stored.keys():
        raise StoreError(f"{path} does not say what was run; restore it, or start afresh in another --out")
    _refuse(folder, {part: stored[part] for part in ("spec", "data")}, document, ("spec", "data"))
    return str(stored["started"])


def refuse_other(folder: Path, record: RunRecord, spec: RunSpec, data: Data, task_digest: str) -> None:
    """Raises ResumeError where a finished record is of another spec, other annotations or another task."""
    stored = {
        "spec": plain(record.spec),
        "data": plain(record.data),
        "task": record.stack.versions.get("task"),
    }
    current = {"spec": plain(spec), "data": plain(data), "task": task_digest}
    _refuse(folder, stored, current, ("spec", "data", "task"))


def discard(folder: Path) -> None:
    """Take away a run folder that holds no answer, and folders that are empty without it."""
    with contextlib.suppress(OSError):  # what cannot be removed is empty, and the next run uses it
        if (folder / SAMPLES).stat().st_size:
            return
        for name in ("spec.json", "stack.json", SAMPLES):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()


def keep_stack(folder: Path, stack: Stack) -> None:
    """Write stack.json, or refuse a stack that differs from the one that began the run (ResumeError)."""
    path = folder / "stack.json"
    if exists(path):
        _refuse(folder, {"stack": read_json(path)}, {"stack": plain(stack)}, ("stack",))
    else:
        _require_no_answers(folder, path.name)
        write_json(path, plain(stack))


def finish(folder: Path, record: RunRecord) -> None:
    """Write record.json: from here on the run is complete."""
    write_json(folder / "record.json", plain(record))


class Samples:
    """The samples file of one shard, held by one writer.

    Opening it drops a torn tail: everything after the last complete batch. Raises StoreError when
    another process holds the file, or the disk is full.
    """

    def __init__(self, folder: Path, planned: Sequence[int]) -> None:
        """`planned`: the size of each batch, in plan order."""
        self._path = folder / SAMPLES
        self._planned = planned
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror}") from error
        self.done = 0  # complete batches on disk
        self.fresh = os.fstat(self._file).st_size == 0  # no answer yet

    def __enter__(self) -> Samples:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it dies
            if not os.path.samestat(os.fstat(self._file), self._path.stat()):
                raise BlockingIOError  # another process discarded the folder in between
        except OSError as error:
            os.close(self._file)
            held = isinstance(error, BlockingIOError)  # otherwise a file system that knows no locks
            reason = "another process is writing it; wait for it" if held else f"no lock: {error.strerror}"
            raise StoreError(f"cannot write {self._path.parent}: {reason}, or use another --out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def recover(self) -> Iterator[SampleLine]:
        """The lines of all complete batches, in order; whatever follows them is cut off the file.

        Raises StoreError, and cuts nothing, where answers of later batches follow a line that is not in
        its place: no kill leaves that, so the file was damaged afterwards.
        """
        end, pending = 0, []
        with self._path.open("rb") as lines:
            for position, raw in _positions(lines):
                line = _line(raw)
                if line is None or self.done == len(self._planned) or line.batch != self.done:
                    self._require_tail([raw, *lines])
                    break
                pending.append(line)
                if len(pending) == self._planned[self.done]:
                    yield from pending
                    end, pending = position, []
                    self.done += 1
        os.ftruncate(self._file, end)

    def _require_tail(self, rest: Sequence[bytes]) -> None:
        later = sum(line.batch > self.done for line in map(_line, rest) if line is not None)
        if later:
            raise StoreError(
                f"{self._path} is damaged in batch {self.done} and {later:,} answers of later batches follow "
                "it; restore the file, or start afresh in another --out"
            )

    def append(self, lines: Sequence[SampleLine]) -> None:
        """One batch, in one write, synced. Raises StoreError, leaving the file as it was."""
        data = b"".join(_dump(line) for line in lines)
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise StoreError(f"cannot write {self._path}: {error.strerror}") from error
        self.done += 1


def read_lines(folder: Path) -> Iterator[SampleLine]:
    """The stored answers of a run; a torn last line is left out. Raises StoreError for a foreign line."""
    path = folder / SAMPLES
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            line = _line(raw)
            if line is not None:
                yield line
            elif raw.endswith(b"\n"):
                raise StoreError(f"{path}, line {number} is not an answer of pgbench; restore the file")


def differences(stored: object, current: object, path: str) -> Iterator[str]:
    """What differs between two JSON values: `path: was X, now Y`."""
    if isinstance(stored, Mapping) and isinstance(current, Mapping):
        for name in sorted({*stored, *current}):
            yield from differences(stored.get(name), current.get(name), f"{path}.{name}")
    elif stored != current:
        yield f"{path}: was {_short(stored)}, now {_short(current)}"


def _require_no_answers(folder: Path, lost: str) -> None:
    path = folder / SAMPLES
    if exists(path) and path.stat().st_size:
        raise StoreError(
            f"{folder} holds answers and no {lost}; restore it, or start afresh in another --out"
        )


def _refuse(
    folder: Path, stored: Mapping[str, object], current: Mapping[str, object], parts: tuple[str, ...]
) -> None:
    found = [line for part in parts for line in differences(stored[part], current[part], part)]
    if found:
        raise ResumeError(
            f"{folder} holds a run that began differently: {'; '.join(found)}. "
            "Restore that, or start afresh in another --out"
        )


def _parse(kind: type[T], document: object, path: Path) -> T:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is not a record: {where}: {first['msg']}") from error


def _positions(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each line with the position after it."""
    position = 0
    for raw in lines:
        position += len(raw)
        yield position, raw


def _dump(line: SampleLine) -> bytes:
    return encode({name: getattr(line, name) for name in _FIELDS}, separators=(",", ":"))


def _line(raw: bytes) -> SampleLine | None:
    """A stored line, None for a torn or foreign one."""
    if not raw.endswith(b"\n"):
        return None
    try:
        values = json.loads(raw)
        if isinstance(values["target"], list):
            values["target"] = tuple(values["target"])
        line = SampleLine(**values)
        return line if _sound(line) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sound(line: SampleLine) -> bool:
    """The fields that are computed with hold numbers, and the answer is text."""
    numbers = [line.seconds, line.batch, *(value for sums in line.stats.values() for value in sums.values())]
    return type(line.output) is str and all(type(number) in (float, int) for number in numbers)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
