"""One writer at a time, on one machine or on many that share a file system: a lock file with a heartbeat.

The file names its holder and is touched every few seconds. It is stale when its holder is known to be dead
(a process of this machine and pid namespace that is gone, or whose number now belongs to another), or when it
was not touched for `PATIENCE`. Ages are told by the file server's clock alone, so that machines whose clocks
differ agree. flock is no substitute: not every network file system has it.

Whoever was suspended for longer than that may wake up without the lock: hence `require` before every write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from pgbench.errors import RunLocked, StoreError
from pgbench.holders import HELD_HERE, PATIENCE, Found, Holder, look, read

BEAT = 5.0  # seconds between two heartbeats
_TRIES, _PAUSE = 200, 0.02  # of a lock that changes hands while it is looked at; seconds between two
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # FAT, some FUSE


class Lock:
    """Holds a path from `with` to its end. Raises RunLocked where another process does; StoreError.

    Taken by linking a finished file to the path, so that a kill leaves no lock without its holder's name;
    without hard links by creating it exclusively. Both are atomic on NFS too.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE, beat: float | None = BEAT) -> None:
        """`patience`, `beat`: seconds; a lock without a beat is held for an instant only."""
        self.path, self._patience, self._beat = path, patience, beat
        self._own = Holder.new()
        self._text = json.dumps(asdict(self._own)).encode() + b"\n"
        self._new = path.with_name(f"{path.name}.{self._own.token}")
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._file = -1

    def __enter__(self) -> Lock:
        HELD_HERE.add(self._own.token)
        try:
            self._announce()
            try:
                self._take()
            finally:
                with contextlib.suppress(OSError):
                    self._new.unlink(missing_ok=True)
            if self._beat is not None:
                self._tidy()
                self._ended = threading.Event()
                self._thread = threading.Thread(target=self._keep_touching, args=[self._beat], daemon=True)
                self._thread.start()
        except BaseException as error:
            self._give_back()
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise StoreError(f"cannot write {self.path.parent}: {reason}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() == self._own.pid:  # else this is a fork of the holder
            self._give_back()

    def _give_back(self) -> None:
        HELD_HERE.discard(self._own.token)
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        if self._file >= 0 and (self._thread is None or not self._thread.is_alive()):  # else the server hangs
            os.close(self._file)
        self._file, self._thread = -1, None
        with contextlib.suppress(OSError, StoreError):  # others see that nobody holds it, or no heartbeat
            if self.still_mine():
                self.path.unlink()

    def still_mine(self) -> bool:
        """Whether the path still is this lock: one small file read. Raises StoreError where it cannot be."""
        try:
            return read(self.path)[0] == self._text
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror or error}") from error

    def require(self) -> None:
        """Before every write. Raises RunLocked where the lock is lost; StoreError."""
        if self.still_mine():
            return
        found = look(self.path)
        taker = f"taken over by {found.holder}" if found and found.holder else "removed"
        raise RunLocked(
            f"the lock of {self.path.parent} was {taker} while this process was held up; it writes no more"
        )

    def _announce(self) -> None:
        """Write the file that will be the lock, under a name of its own.

        It stays open: a heartbeat touches this file wherever it is moved, and no other one's.
        """
        self._file = self._created()
        try:
            if os.write(self._file, self._text) != len(self._text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            with contextlib.suppress(OSError):
                self._new.unlink()
            raise

    def _created(self) -> int:
        for left in reversed(range(_TRIES)):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # the folder was discarded by its holder in between
                if not left:
                    raise
        raise StoreError(f"cannot write {self.path.parent}")

    def _take(self) -> None:
        for _ in range(_TRIES):
            if self._linked():
                return
            found = look(self.path)
            if found is None:
                continue  # released in between
            if found.identity == self._own.token:
                return  # linked, and the file server's answer to it was lost
            age = self._age(found)
            if not found.is_stale(age, self._patience):
                raise RunLocked(self._refusal(found, age))
            if self._taken_over(found):
                return
            time.sleep(_PAUSE)
        raise RunLocked(f"cannot write {self.path.parent}: others are taking it over; try again")

    def _linked(self) -> bool:
        try:
            os.link(self._new, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._made()
        return True

    def _made(self) -> bool:
        """The same where there are no hard links: whoever creates the path may put its file there."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except FileExistsError:
            return False
        os.replace(self._new, self.path)
        return True

    def _taken_over(self, stale: Found) -> bool:
        """Put the own lock in the place of a stale one, if that still is there.

        Only who holds the claim on that very lock may, and looks once more first: a slower one, who saw the
        same stale lock, must not take away the lock of the one who was faster.
        """
        claim = self.path.with_name(f"{self.path.name}.{stale.identity}")
        try:
            with Lock(claim, patience=self._patience, beat=None):
                if look(self.path) != stale:  # gone, another's, or its holder woke up
                    return False
                os.replace(self._new, self.path)
                return True
        except RunLocked:
            return False

    def _age(self, found: Found) -> float:
        """Seconds since its last heartbeat, by the clock that also stamped that one."""
        os.utime(self._file)
        return (os.fstat(self._file).st_mtime_ns - found.touched) / 1e9

    def _refusal(self, found: Found, age: float) -> str:
        who = found.holder or "its lock file cannot be read"
        return (
            f"cannot write {self.path.parent}: another process is writing it ({who}, last heartbeat "
            f"{max(age, 0.0):.0f} s ago); wait for it, or use another --out; "
            f"{self._patience:g} s without a heartbeat count as dead"
        )

    def _tidy(self) -> None:
        """Remove what killed takers of this lock left: their files are named after it, and old."""
        for path in self.path.parent.glob(f"{self.path.name}.*"):
            with contextlib.suppress(OSError):
                if os.fstat(self._file).st_mtime - path.stat().st_mtime > self._patience:
                    path.unlink()

    def _keep_touching(self, beat: float) -> None:
        while not self._ended.wait(beat):
            with contextlib.suppress(OSError):  # a file server that comes back finds it in time, or not
                os.utime(self._file)
