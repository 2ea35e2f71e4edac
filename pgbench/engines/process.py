"""A worker process as the sweep that started it sees it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pgbench.engines import wire
from pgbench.engines.devices import Slot
from pgbench.engines.serving import GRACE
from pgbench.errors import StoreError, UsageError

_TAIL = 4000  # bytes kept of what a worker prints
_CHUNK, _CHUNKS = 1 << 16, 16  # bytes at once, and how often: one that prints without end is not waited for
_SHOWN = 300  # characters of them that are told
_FOLDERS = re.compile(r"(?<![\w.])(?:/[^\s/\"':,]+)+/(?=[^\s/])")  # of an absolute path


class Worker:
    """Started at once, in a session of its own: a Ctrl-C of the terminal reaches the parent alone.

    Raises UsageError where no process can be started.
    """

    def __init__(self, slot: Slot) -> None:
        self.broken = ""  # why what it says can no longer be believed
        self._rest = b""
        self._printed = b""
        self._until: float | None = None  # when a worker that was told to leave is killed
        self._reports, theirs = os.pipe()
        try:
            self._process = _start(slot, theirs)
        except OSError as error:
            os.close(self._reports)
            raise UsageError(f"cannot start a worker process: {error.strerror}; use fewer") from error
        finally:
            os.close(theirs)
        pipe = self._process.stdout
        if pipe is None:
            raise StoreError("a worker without a pipe")
        self._output = pipe.fileno()
        self.pipes = {self._reports, self._output}  # that have not ended
        for end in self.pipes:
            os.set_blocking(end, False)

    def give(self, job: wire.Job) -> None:
        """One that is gone does not hear it, which its death will tell."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(wire.dump(job))

    def leave(self) -> None:
        """Stop at the end of the batch, or at once where it has no cell."""
        self._until = self._until or time.monotonic() + GRACE
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def leaving(self) -> bool:
        return self._until is not None

    @property
    def overdue(self) -> bool:
        """Told to leave, and still there after the time that it has for its batch."""
        return self._until is not None and time.monotonic() > self._until

    def heard(self) -> Iterator[wire.Report]:
        """What it has said since, and what it has printed is taken up. Nothing of either is waited for."""
        self._printed = (self._printed + self._drained(self._output))[-_TAIL:]
        *lines, self._rest = (self._rest + self._drained(self._reports)).split(b"\n")
        for line in lines:
            try:
                said = wire.parse(wire.Report, line)
            except UsageError as error:
                self.broken = str(error)
                self.kill()
                return
            yield said

    def _drained(self, pipe: int) -> bytes:
        found = b""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_CHUNKS if pipe in self.pipes else 0):
                chunk = os.read(pipe, _CHUNK)
                if not chunk:
                    self.pipes.discard(pipe)
                    break
                found += chunk
        return found

    @property
    def gone(self) -> bool:
        return self._process.poll() is not None

    def reason(self) -> str:
        """How it ended, with the end of what it printed."""
        code = self._process.returncode
        text = f"ended by itself with code {code}"
        if self.broken:
            text = f"said what is no report: {self.broken}"
        elif code is not None and code < 0:
            kill = " (out of memory?)" if -code == signal.SIGKILL else ""
            text = f"ended by {_name(-code)}{kill}"
        words = _FOLDERS.sub("", " ".join(self._printed.decode(errors="replace").split()))
        shown = words if len(words) <= _SHOWN else "..." + words[-_SHOWN:]
        return f"{text}, having printed: {shown}" if shown else text

    def kill(self) -> None:
        """With all that it started."""
        if not self.gone:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Take the end of a process that is gone or killed."""
        self._process.wait()
        self.leave()
        os.close(self._reports)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _start(slot: Slot, reports: int) -> subprocess.Popen[bytes]:
    here = str(Path.cwd())  # as -m alone would do, only where this process did the same
    safe = [] if {"", here} & set(sys.path) else ["-P"]
    return subprocess.Popen(
        [sys.executable, *safe, "-m", "pgbench", "worker", str(reports)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        pass_fds=(reports,),
        start_new_session=True,
        env={**os.environ, **slot.settings},
    )


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
