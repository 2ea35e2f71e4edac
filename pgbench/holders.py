"""What a lock file says: who holds it, since when it was not touched, and whether that process still runs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from pgbench.plan import Shard

PATIENCE = 120.0  # seconds without a heartbeat; NFS clients may keep a file's times for up to 60 (acregmax)
HELD_HERE: set[str] = set()  # tokens of the locks that this process holds
_MOST = 4096  # bytes of a lock file that are read


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock. It is no record, and goes with the lock."""

    host: str
    pid: int
    started: str  # when the process did, in its system's own units; "" where that cannot be told
    namespace: str  # within which a pid means one process: a boot of a machine, and a pid namespace
    token: str  # of this lock alone

    @staticmethod
    def new() -> Holder:
        """This process, with a token of its own."""
        pid = os.getpid()
        return Holder(socket.gethostname(), pid, _stat(pid)[1], _namespace(), secrets.token_hex(8))

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that it will never write again."""
        if (self.host, self.namespace) != (socket.gethostname(), _namespace()):
            return False
        if self.pid == os.getpid() and self.started == _stat(self.pid)[1]:
            return self.token not in HELD_HERE  # left behind by a release that failed
        return not _runs(self.pid, self.started)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Found:
    """A lock file as it lies there."""

    holder: Holder | None  # None: empty, torn or foreign; judged by its age alone
    identity: str  # of this lock and no later one
    touched: int  # the file server's time of its last heartbeat, in nanoseconds

    def is_stale(self, age: float, patience: float) -> bool:
        return age > patience or (self.holder is not None and self.holder.is_dead)


def lock_of(shard: Shard) -> str:
    """The name of the lock beside a shard's samples file."""
    return f".lock-{shard.index}-of-{shard.count}"


def locks_of(folder: Path) -> list[Path]:
    """The locks of a run folder, stale ones too; not the files of those who just try to take one."""
    return sorted(path for path in folder.glob(".lock-*-of-*") if path.name.count(".") == 1)


def holder_of(path: Path, patience: float = PATIENCE) -> Holder | None:
    """Who holds a lock, None where nobody does; for showing. It writes nothing, and so goes by this
    machine's clock where the holder is on another one."""
    try:
        found = look(path)
    except OSError:
        return None
    if found is None or found.is_stale(time.time() - found.touched / 1e9, patience):
        return None
    return found.holder


def look(path: Path) -> Found | None:
    """None where there is no lock. Raises OSError."""
    try:
        text, state = read(path)
    except FileNotFoundError:
        return None
    except PermissionError:  # another user's
        text, state = b"", path.stat()
    except OSError as error:
        if error.errno == errno.ESTALE:  # removed by another machine while it was read
            return None
        raise
    holder = _parsed(text)
    seen = f"{state.st_ino} {state.st_mtime_ns}".encode() + text
    identity = holder.token if holder else hashlib.sha256(seen).hexdigest()[:16]
    return Found(holder, identity, state.st_mtime_ns)


def read(path: Path) -> tuple[bytes, os.stat_result]:
    """Opened each time, which is what makes NFS ask the server. Not blocking: a pipe is no lock."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST), os.fstat(file)
    finally:
        os.close(file)


def _parsed(text: bytes) -> Holder | None:
    try:
        holder = Holder(**json.loads(text))
        names = (holder.host, holder.started, holder.namespace, holder.token)
        sound = all(type(name) is str and len(name) < 300 and name.isprintable() for name in names)
        sound = sound and type(holder.pid) is int and 0 < holder.pid < 2**31 and holder.token.isalnum()
    except (ValueError, TypeError, RecursionError):
        return None
    return holder if sound else None


def _runs(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's: it is there
        pass
    state, since = _stat(pid)
    return state not in ("Z", "X") and (not since or not started or since == started)


def _stat(pid: int) -> tuple[str, str]:
    """State and start time of a process, "" where the system does not tell them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]  # fields 3 and 22 of proc(5); the name before them may hold spaces
    except (OSError, IndexError):
        return "", ""


def _namespace() -> str:
    """Equal for two processes only where they see the same pids. Containers and machines share host names."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return f"{uuid.getnode():012x}"
