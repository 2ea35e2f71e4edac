"""Every error that a user can meet, drawn once:

    PgbenchError                what a user can mend: one line on stderr, no traceback
    ├── UsageError              a wrong name, flag or value
    ├── DataError               annotations or a data folder that cannot be used
    ├── CheckpointError         a checkpoint that cannot be found, read or run as asked
    │   └── OutOfMemory         a batch that does not fit into memory; a smaller one may
    ├── HubError                the hub refused, or is out of reach
    ├── ResumeError             a run folder that belongs to another spec, stack or data
    ├── SampleError             one sample cannot be run; it is recorded as failed, the run goes on
    ├── StoreError              a record cannot be read or written
    │   └── RunLocked           another process is writing this run
    └── RunStopped              a run stopped after its first sample; it can be resumed

A message says what came, what was expected and what to do next. It names no absolute path that the
user did not give.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from types import TracebackType

OK, REGRESSED, USAGE, INCOMPLETE = 0, 1, 2, 3  # the exit codes of every command


class PgbenchError(Exception):
    """Base of all errors of pgbench. `exit_code` is what the command exits with."""

    exit_code = USAGE


class UsageError(PgbenchError):
    """A name, flag or value that pgbench does not know."""


class DataError(PgbenchError):
    """Annotations or a data folder that cannot be used."""


class CheckpointError(PgbenchError):
    """A checkpoint that cannot be found, read or run as asked."""


class OutOfMemory(CheckpointError):
    """A batch that does not fit into the device's memory. A backend raises it from `generate` and `score`
    and is as usable as before: the batch is halved and asked again."""


class HubError(PgbenchError):
    """The hub refused (401, 403, 404) or is out of reach."""


class ResumeError(PgbenchError):
    """A run folder that belongs to another spec, stack or set of annotations."""


class SampleError(PgbenchError):
    """One sample that cannot be run: recorded as failed, scored 0, kept in n."""

    exit_code = INCOMPLETE


class StoreError(PgbenchError):
    """A record that cannot be read or written."""


class RunLocked(StoreError):
    """Another process is writing this run."""


class RunStopped(PgbenchError):
    """A run that stopped after its first sample and can be resumed."""

    exit_code = INCOMPLETE


def unknown(kind: str, name: str, choices: Iterable[str], *, also: Iterable[str] = (), hint: str = "") -> str:
    """The message for a name that is not among `choices`: nearest names first, then all of them.

    `also`: further names that may have been meant and are too many to list.

    >>> unknown("task", "textvqq", ["textvqa", "gqa"])
    "unknown task 'textvqq'; did you mean textvqa? Available: gqa, textvqa"
    """
    known = sorted(choices)
    near = nearest(name, [*known, *also])
    guess = f"; did you mean {near}?" if near else "."
    return f"unknown {kind} {name!r}{guess} Available: {', '.join(known) or 'none'}{hint}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Up to three names like this one, joined by "or"; "" if there are none."""
    return " or ".join(difflib.get_close_matches(name.lower(), list(choices), n=3, cutoff=0.6))


def task_code(where: str) -> contextlib.AbstractContextManager[None]:
    """Around code that a task's author wrote: whatever it raises is theirs to mend, said in one line."""
    return _TaskCode(where)


class _TaskCode(contextlib.AbstractContextManager[None]):
    """Entered several times for each sample: a generator would take four times as long."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, PgbenchError):
            raise UsageError(f"{self._where}: {told(error)}; it has to be mended") from error


def told(error: BaseException) -> str:
    """An exception's type, text and place in one line; the file's name only, not where it lies."""
    import traceback
    from pathlib import Path

    frames = traceback.extract_tb(error.__traceback__)
    place = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
    text = str(error)
    if isinstance(error, SyntaxError):
        place, text = (error.filename or "", error.lineno), error.msg
    return f"{type(error).__name__}: {' '.join(text.split())} ({Path(place[0]).name}, line {place[1]})"
