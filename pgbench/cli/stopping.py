"""SIGUSR1 and SIGTERM, which batch systems send before they take a machine: stop at the end of the batch."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from pgbench.sweeping.stop import Stop

_WORDS = {signal.SIGUSR1: "stopped at the end of a batch (SIGUSR1)", signal.SIGTERM: "terminated"}


@contextlib.contextmanager
def at_batch_end() -> Iterator[Stop]:
    """Its `at_boundary` raises KeyboardInterrupt once a signal came; a second SIGTERM does so at once.

    Elsewhere than in the main thread, where no handler can be set, it never does.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if stop.reason and number == signal.SIGTERM:
            raise KeyboardInterrupt("terminated")
        stop.ask(_WORDS[signal.Signals(number)])

    before = {number: signal.signal(number, handler) for number in _WORDS}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
