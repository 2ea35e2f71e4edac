"""samples-<i>-of-<n>.jsonl: the answers of a run, in as many files as there are writers.

A batch is the atom: its lines go to disk in one `write`, so that a kill at any instant loses at most the
batch in flight. A file is a sequence of complete batches in any order; a run is complete when its files
together hold every batch of the plan. Whoever answered a batch, its lines are read in plan order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from pgbench.durable import tidy
from pgbench.errors import RunLocked, StoreError
from pgbench.holders import lock_of, locks_of
from pgbench.lines import dump, parse, place
from pgbench.locks import Lock
from pgbench.plan import WHOLE, Shard
from pgbench.records import SampleLine

SYNC_EVERY = 1.0  # seconds between two fsyncs, at most
_FILE = re.compile(r"samples-(\d+)-of-(\d+)\.jsonl")


def name_of(shard: Shard) -> str:
    """The file that one shard writes; `WHOLE`'s is that of a run by one process."""
    return f"samples-{shard.index}-of-{shard.count}.jsonl"


def shard_of(path: Path) -> Shard:
    """Whose file it is, as `files_of` gives them."""
    match = _FILE.fullmatch(path.name)
    return Shard(int(match[1]), int(match[2])) if match else WHOLE


SAMPLES = name_of(WHOLE)


def files_of(folder: Path) -> list[Path]:
    """The samples files of a run, in a fixed order. Raises StoreError."""
    try:
        found = [(match, path) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror}") from error
    return [path for match, path in sorted(found, key=lambda one: (int(one[0][2]), int(one[0][1])))]


class Answers:
    """Where each complete batch of a run lies."""

    def __init__(self, planned: Sequence[int]) -> None:
        """`planned`: the size of each batch, in plan order."""
        self.end = 0  # of the last complete batch of the file that was scanned last, in bytes
        self._planned = planned
        self._paths: list[Path] = []
        self._file = array("i", [-1]) * len(planned)
        self._start = array("q", [0]) * len(planned)
        self.done = 0  # complete batches

    @staticmethod
    def of(folder: Path, planned: Sequence[int]) -> Answers:
        """All that lies in a run folder now. Raises StoreError for a damaged file."""
        found = Answers(planned)
        for path in files_of(folder):
            for _ in found.scan(path):
                pass
        return found

    def __contains__(self, batch: int) -> bool:
        return self._file[batch] >= 0

    def missing(self, batches: Sequence[int]) -> list[int]:
        """Those of these batches that are nowhere."""
        return [batch for batch in batches if batch not in self]

    def enter(self, path: Path, batch: int, start: int) -> None:
        """A batch has been written to this file, from this byte on."""
        if path not in self._paths:
            self._paths.append(path)
        if batch not in self:  # a shard may have been answered twice; the first one counts
            self._file[batch], self._start[batch] = self._paths.index(path), start
            self.done += 1

    def scan(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Enter the complete batches of a file and yield each, with the ids of its samples; `self.end` is
        the byte after the last one.

        What follows it can be the tail that a kill left. Raises StoreError where complete answers of other
        batches follow a line that is not in its place: no kill leaves that, so the file was damaged.
        """
        self.end = position = start = 0
        current = -1  # the batch that is being read
        ids: list[str] = []
        seen = bytearray(len(self._planned))
        with path.open("rb") as lines:
            for raw in lines:
                batch, name = place(raw) or (-1, "")
                begins = not ids and 0 <= batch < len(seen) and not seen[batch]
                if not begins and (not ids or batch != current):
                    self._require_tail(path, current, itertools.chain([raw], lines))
                    return
                current = batch
                ids.append(name)
                position += len(raw)
                if len(ids) == self._planned[batch]:
                    self.enter(path, batch, start)
                    seen[batch] = 1
                    yield batch, ids
                    self.end = start = position
                    current, ids = -1, []

    def _require_tail(self, path: Path, current: int, rest: Iterator[bytes]) -> None:
        later = sum(found[0] != current for raw in rest if (found := place(raw)) is not None)
        if later:
            raise StoreError(
                f"{path} is damaged at byte {self.end:,} and {later:,} answers of other batches follow; "
                "restore the file, or start afresh in another --out"
            )

    def read(self, batch: int) -> list[SampleLine]:
        """The lines of one batch."""
        with self._paths[self._file[batch]].open("rb") as file:
            file.seek(self._start[batch])
            return self._take(file, batch)

    def lines(self) -> Iterator[SampleLine]:
        """All answers in plan order. Raises StoreError for a file that has changed since it was scanned."""
        opened: dict[int, IO[bytes]] = {}
        try:
            for batch, number in enumerate(self._file):
                if number < 0:
                    continue
                file = opened.get(number) or opened.setdefault(number, self._paths[number].open("rb"))
                if file.tell() != self._start[batch]:
                    file.seek(self._start[batch])
                yield from self._take(file, batch)
        finally:
            for file in opened.values():
                file.close()

    def _take(self, file: IO[bytes], batch: int) -> list[SampleLine]:
        found = [line for _ in range(self._planned[batch]) if (line := parse(file.readline()))]
        if len(found) != self._planned[batch] or any(line.batch != batch for line in found):
            raise StoreError(f"{file.name} has changed while it was read; try again")
        return found


class Samples:
    """The samples file of one shard, held by one writer, and what the other files of the run hold.

    Raises StoreError when the disk is full, RunLocked when another process holds the file.
    """

    def __init__(self, folder: Path, planned: Sequence[int], shard: Shard = WHOLE) -> None:
        """`planned`: the size of each batch, in plan order."""
        self._path = folder / name_of(shard)
        self._batches = shard.of(len(planned))
        self.answers = Answers(planned)
        self._synced = 0.0  # time.monotonic() of the last fsync
        self._lock = Lock(folder / lock_of(shard))

    def __enter__(self) -> Samples:
        with contextlib.ExitStack() as held:
            held.enter_context(self._lock)
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                held.callback(os.close, self._file)
                self._fence()
                if locks_of(self._path.parent) == [self._lock.path]:
                    tidy(self._path.parent)
                self.fresh = os.fstat(self._file).st_size == 0  # no answer of this shard yet
            except OSError as error:
                raise StoreError(f"cannot write {self._path.parent}: {error.strerror}") from error
            self._held = held.pop_all()
        return self

    def _fence(self) -> None:
        """A second lock where the file system has it: one that a suspended process does not lose.

        Without it, what was suspended between its look at the lock and its write would still write.
        """
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it dies
        except BlockingIOError as error:
            raise RunLocked(
                f"cannot write {self._path.parent}: a process that lost its lock still has the answers open; "
                "end it, or use another --out"
            ) from error
        except OSError:  # a file system that knows no locks of this kind
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def recover(self) -> Iterator[tuple[int, list[str]]]:
        """The complete batches of all files, each with the ids of its samples; a torn tail of the own file
        is cut off.

        Raises StoreError, and cuts nothing, for a file that was damaged.
        """
        yield from self.answers.scan(self._path)
        os.ftruncate(self._file, self.answers.end)
        for path in files_of(self._path.parent):
            if path != self._path:
                yield from self.answers.scan(path)

    def pending(self) -> list[int]:
        """The batches of this shard that no file holds."""
        return self.answers.missing(self._batches)

    def append(self, lines: Sequence[SampleLine]) -> None:
        """One batch, in one write. Raises StoreError, leaving the file as it was, RunLocked if it is lost.

        Synced at most once a second, and by `sync`: a kill loses at most the batch in flight, a power cut at
        most what was answered in the second before it.
        """
        data = b"".join(map(dump, lines))
        self._lock.require()
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if time.monotonic() - self._synced >= SYNC_EVERY:
                self._sync()
        except OSError as error:
            os.ftruncate(self._file, size)
            raise StoreError(f"cannot write {self._path}: {error.strerror}") from error
        self.answers.enter(self._path, lines[0].batch, size)

    def sync(self) -> None:
        """All that was appended is on the disk. Raises StoreError."""
        try:
            self._sync()
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror}") from error

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()


_PLACE = re.compile(rb',"batch":(\d+),"batch_size":(\d+),')  # a quote inside JSON text has a backslash


def read_lines(folder: Path) -> Iterator[SampleLine]:
    """The stored answers of a run in plan order, each once; a torn batch at an end is left out.

    Raises StoreError for a foreign line.
    """
    places: dict[int, tuple[Path, int, int]] = {}  # batch -> file, first byte, lines
    for path in files_of(folder):
        for batch, start, count in _places(path):
            places.setdefault(batch, (path, start, count))
    opened: dict[Path, IO[bytes]] = {}
    try:
        for batch in sorted(places):
            path, start, count = places[batch]
            file = opened.get(path) or opened.setdefault(path, path.open("rb"))
            if file.tell() != start:
                file.seek(start)
            for _ in range(count):
                line = parse(file.readline())
                if line is None:
                    raise StoreError(f"{path}, batch {batch} holds what is no answer of pgbench; restore it")
                yield line
    finally:
        for file in opened.values():
            file.close()


def _places(path: Path) -> Iterator[tuple[int, int, int]]:
    """Batch, first byte and number of lines of each complete batch of a file."""
    position = start = count = batch = 0
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.endswith(b"\n"):
                return
            place = _PLACE.search(raw)
            if place is None:
                raise StoreError(f"{path}, line {number} is not an answer of pgbench; restore the file")
            if count and int(place[1]) != batch:
                raise StoreError(f"{path}, line {number}: batch {batch} before it is not whole; restore it")
            batch, position, count = int(place[1]), position + len(raw), count + 1
            if count == int(place[2]):
                yield batch, start, count
                start, count = position, 0
