"""A worker: a fresh process that runs the cells it is given, one after the other, on one loaded checkpoint.

Cells come as lines on a pipe, and reports leave on another one; stdin and stdout stay free for whatever a
library or a task does with them. The end of the first pipe says: stop at the end of the batch. It comes also
when the process that started this one is killed, so that no worker is left behind.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pgbench.engines import wire
from pgbench.recipe.asked import AskedCell
from pgbench.runner import Progress
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Told, Watch, sweep

GRACE = 20.0  # seconds from the wish to stop to SIGKILL; batch systems leave 30 from SIGTERM to theirs
_LOOK = 1.0  # seconds between looks whether the parent lives: a copy of its end of the pipe may outlive it
_SELDOM = 0.1  # seconds between reports of progress


def serve(jobs: int, reports: int, stop: Stop) -> None:
    """Run the cells that come on the file descriptor `jobs`, until it ends or `stop` is asked for.

    Raises UsageError for a line that is no job; KeyboardInterrupt passes through between cells.
    """
    os.set_inheritable(reports, False)
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    arguments = (jobs, lines, stop, os.getppid())
    threading.Thread(target=_listen, args=arguments, name="jobs", daemon=True).start()
    with contextlib.closing(Loans()) as loans:
        while not stop.reason and (raw := lines.get()) is not None:
            job = wire.parse(wire.Job, raw)
            said = _Reports(reports)
            swept = sweep([job.asked], Path(job.out), watch=said, stop=stop, loans=loans, tell=said.tell)
            said.send(wire.report(swept.cells[0], ended=True))
            if swept.stopped:
                return


def _listen(jobs: int, lines: queue.SimpleQueue[bytes | None], stop: Stop, parent: int) -> None:
    """In a thread of its own: from a pipe to a queue; at its end the way out, at the latest by SIGKILL."""
    rest = b""
    while os.getppid() == parent:
        if not select.select([jobs], [], [], _LOOK)[0]:
            continue
        if not (chunk := os.read(jobs, 1 << 16)):
            break
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            lines.put(line)
    stop.ask("the sweep that started this worker has stopped")
    lines.put(None)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)  # loses at most the batch in flight


class _Reports(Watch):
    """What a sweep of one cell tells, sent to the parent."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._next = 0.0  # no progress is told before

    def send(self, message: wire.Report) -> None:
        data = wire.dump(message)
        with contextlib.suppress(OSError):  # the parent is gone: the thread that listens sees it too
            while data:
                data = data[os.write(self._pipe, data) :]

    def tell(self, cells: Sequence[Told]) -> None:
        if cells[0].state == "running":
            self.send(wire.report(cells[0], ended=False))

    def cell(self, asked: AskedCell) -> AbstractContextManager[Progress]:
        return self._progress()

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Progress]:
        yield self._answered

    def _answered(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + _SELDOM
            self.send(wire.Report("running", samples=total, kept=done))
