"""What answers on a node of a Ray cluster: batches of cells, streamed to the one process that writes them.

A message is a letter and plain bytes, JSON of our own: Ray moves bytes, and pickles no type of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from pgbench.answering import Answering
from pgbench.backends import Backend
from pgbench.engines import wire
from pgbench.errors import PgbenchError, StoreError, told
from pgbench.lines import dump
from pgbench.recipe.asked import AskedCell
from pgbench.records import Data, Session, Stack
from pgbench.runner import plan_of, stack_of
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.opening import EngineOf, engine_of, open_cell

Letter: TypeAlias = Literal[b"B", b"L", b"S", b"F"]  # begun, lines of a batch, spent, failed
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Begun:
    """What a worker sees of a cell: all that has to be equal on every node."""

    key: str
    data: Data
    stack: Stack
    session: Session  # before the warm-up


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a cell cannot be answered, as text: an exception would be pickled."""

    reason: str


class Worker:
    """One process for one checkpoint, which stays loaded from one piece of work to the next."""

    def __init__(self, settings: Mapping[str, str], engine_of: EngineOf = engine_of) -> None:
        """`settings`: environment variables, in time for what an engine will import.

        By Ray's runtime_env they would cost a process more: Ray has started one that they do not fit.
        """
        os.environ |= settings
        self._loans = Loans(engine_of)
        self._at: tuple[AskedCell, _Open] | None = None  # the cell asked for last

    def ready(self) -> None:
        """Returns once the process runs."""

    def answer(self, job: bytes, numbers: Sequence[int]) -> Iterator[bytes]:
        """Messages about these batches of the plan of a cell (`wire.Job`); ends early after a failure."""
        try:
            yield from self._answer(job, numbers)
        except PgbenchError as error:
            yield self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - a defect, or a library's: this process can answer other cells
            yield self._failed(f"unexpected {told(error)}; please report it")

    def _answer(self, job: bytes, numbers: Sequence[int]) -> Iterator[bytes]:
        at = self._opened(job)
        yield _message(b"B", at.begun)
        with contextlib.closing(at.answering.batches(numbers)) as answered:
            for lines in answered:
                first, last = at.warmed_up(), lines[0].batch == numbers[-1]
                if first or last:  # before the answers: the last ones of a cell make its record
                    yield _message(b"S", at.session())
                yield b"L" + b"".join(map(dump, lines))

    def _opened(self, job: bytes) -> _Open:
        wanted = wire.parse(wire.Job, job)
        if self._at is None or self._at[0] != wanted.asked:
            self._at = None
            self._at = (wanted.asked, _Open(wanted, self._loans))
        return self._at[1]

    def _failed(self, reason: str) -> bytes:
        self._at = None
        self._loans.close_if_lent()
        return _message(b"F", Failed(reason))


class _Open:
    """A cell with its checkpoint loaded."""

    def __init__(self, job: wire.Job, loans: Loans) -> None:
        cell, _ = open_cell(job.asked, loans.engine)
        plan = plan_of(cell, Path())
        cell.engine.imports()
        kept, shared = cell.engine.kept(), cell.engine.shared()
        before = time.perf_counter()
        self._backend: Backend = cell.engine.load()
        seconds = time.perf_counter() - before if kept is None else kept
        session = Session(seconds, 0.0, self._backend.peak_memory(), shared_load=shared)
        if job.stack and callable(go_on := getattr(self._backend, "go_on_with", None)):
            go_on(read(Stack, job.stack.encode()))  # what this node finds fastest need not be what began it
        self.begun = Begun(cell.spec.key, plan.data, stack_of(cell, self._backend), session)
        self.answering = Answering(cell, self._backend, plan.batches)

    def warmed_up(self) -> bool:
        """Whether the warm-up has been since this was asked last."""
        session, seconds = self.begun.session, self.answering.warmup_seconds
        self.begun = replace(self.begun, session=replace(session, warmup_seconds=seconds))
        return seconds != session.warmup_seconds

    def session(self) -> Session:
        return replace(self.begun.session, peak_memory=self._backend.peak_memory())


def _message(letter: Letter, content: Begun | Session | Failed) -> bytes:
    return letter + json.dumps(asdict(content)).encode()


def read(kind: type[T], content: bytes) -> T:
    """The content of a message. Raises StoreError for anything else: another pgbench runs on that node."""
    from pydantic import TypeAdapter, ValidationError

    try:
        found: T = TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"a worker sent no {kind.__name__} ({where}: {first['msg']}); install one pgbench on all nodes"
        ) from error
    return found
