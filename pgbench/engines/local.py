"""`--engine local`: a sweep on all devices of this machine, in one fresh process per loaded checkpoint.

The processes write the run folders as a sweep without an engine does; this one gives out the cells, starts
again what dies, and writes OUT/sweep.json. It never loads an engine itself.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType

from pgbench import store
from pgbench.engines import devices, wire
from pgbench.engines.devices import Slot
from pgbench.engines.process import Worker
from pgbench.errors import StoreError, UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.sweeping.state import Ledger
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept, Told, Watch, same_checkpoint

SPARE = 2  # processes that may take up a cell again before one of them answers anything
_TICK = 0.1  # seconds between looks at what sends no message: a death, a signal


def sweep(
    asked: Sequence[AskedCell],
    out: Path,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
    workers: int | None = None,
) -> Swept:
    """Run every cell to its record, as many at once as there are devices (`devices.slots`).

    A cell whose process dies is resumed in another one, until it fails for good, which stops no other cell.
    `stop`, Ctrl-C and SIGTERM end the sweep after the batches in flight, a second signal at once; what was
    answered is kept, and the same call goes on. No process is left behind, also where this one is killed.
    Backends and tasks are found by name or path: what was registered in this process alone is not.
    Raises UsageError for a device with a number, StoreError where `out` cannot be written.
    """
    slots = devices.slots(workers, cpu=all(one.model.device == "cpu" for one in asked))
    _refuse_numbers(asked, slots)
    stop = stop or Stop()
    with Ledger(out) as ledger, _signals(stop) as hurry:
        desk = _Desk(asked, out, slots, ledger.write, watch or Watch(), stop)
        desk.run(hurry)
    return desk.swept()


def _refuse_numbers(asked: Sequence[AskedCell], slots: Sequence[Slot]) -> None:
    for one in asked:
        if one.model.device == "auto-map":
            raise UsageError(
                "device auto-map: --engine local gives each process one device; use --engine serial"
            )
        if one.model.device.startswith("cuda:") and devices.VISIBLE in slots[0].settings:
            raise UsageError(
                f"device {one.model.device}: with --engine local each process sees one GPU; say cuda, and "
                f"choose GPUs with {devices.VISIBLE}"
            )


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[Callable[[], bool]]:
    """Signals become wishes here: an exception between any two statements could lose sight of a process.
    Gives what says whether to hurry."""
    wishes: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        wishes.append(number)
        if not stop.reason:
            stop.ask("interrupted" if number == signal.SIGINT else "terminated")

    before = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere no handler can be set
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield lambda: len(wishes) > 1
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Waiting:
    """The cells that no process has taken, those that share a loaded checkpoint together."""

    def __init__(self, asked: Sequence[AskedCell]) -> None:
        self._groups: list[deque[int]] = []
        self._begun: set[int] = set()
        for number, one in enumerate(asked):
            if not number or not same_checkpoint(asked[number - 1], one):
                self._groups.append(deque())
            self._groups[-1].append(number)

    def again(self, number: int) -> None:
        """A cell that could not have its turn: after all others."""
        self._groups.append(deque([number]))

    def more(self, group: int) -> int | None:
        """The next cell of a loaded checkpoint."""
        return self._groups[group].popleft() if self._groups[group] else None

    def fresh(self) -> tuple[int, int] | None:
        """A group and its next cell, for a process that has loaded nothing: of a checkpoint that no process
        has, or else where most is left to do, which loads that checkpoint once more."""
        left = [number for number, cells in enumerate(self._groups) if cells]
        if not left:
            return None
        new = [number for number in left if number not in self._begun]
        group = new[0] if new else max(left, key=lambda number: len(self._groups[number]))
        self._begun.add(group)
        return group, self._groups[group].popleft()


@dataclass(slots=True)
class _Post:
    """A slot, and who works there at what."""

    slot: Slot
    worker: Worker | None = None
    group: int = -1  # whose checkpoint its worker loads
    number: int | None = None  # the cell in hand


class _Desk:
    """Gives out the cells and hears what becomes of them. All in one thread: nothing happens at once."""

    def __init__(
        self,
        asked: Sequence[AskedCell],
        out: Path,
        slots: Sequence[Slot],
        tell: Callable[[Sequence[Told]], object],
        watch: Watch,
        stop: Stop,
    ) -> None:
        self._out, self._tell, self._watch, self._stop = out, tell, watch, stop
        self._cells = [Told(one) for one in asked]
        self._waiting = Waiting(asked)
        self._posts = [_Post(slot) for slot in slots]
        self._second: set[int] = set()  # cells that were locked, and have another turn
        self._spare = dict.fromkeys(range(len(asked)), SPARE)
        self._kept: Counter[int] = Counter()  # answers of each cell, as told
        self._total: Counter[int] = Counter()
        self._known: dict[int, int] = {}  # answers of each cell on disk, when that was looked at last

    def run(self, hurry: Callable[[], bool]) -> None:
        self._tell(self._cells)
        try:
            self._employ()
            while any(post.worker for post in self._posts):
                wait([pipe for post in self._posts if post.worker for pipe in post.worker.pipes], _TICK)
                for post in self._posts:
                    self._mind(post, hurry())
                self._watch.several(self._kept.total(), self._total.total())
                self._employ()
        finally:
            for post in self._posts:
                if post.worker is not None:
                    post.worker.kill()
                    post.worker.close()
        self._tell(self._cells)

    def swept(self) -> Swept:
        ended = all(cell.state in ("done", "failed", "locked") for cell in self._cells)
        return Swept(tuple(self._cells), "" if ended else self._stop.reason)

    def _employ(self) -> None:
        for post in self._posts:
            if post.worker is None and not self._stop.reason:
                self._hire(post)
            elif post.worker is not None and not post.worker.leaving:
                self._go_on(post, post.worker)

    def _hire(self, post: _Post) -> None:
        """A fresh process, for the cell that the last one left or for another checkpoint."""
        while post.worker is None:
            if post.number is None:
                found = self._waiting.fresh()
                if found is None:
                    return
                post.group, post.number = found
            try:
                post.worker = Worker(post.slot)
            except UsageError as error:
                self._lost(post, post.number, str(error))
            else:
                self._give(post.worker, post.number)

    def _go_on(self, post: _Post, worker: Worker) -> None:
        if self._stop.reason:
            worker.leave()
        elif post.number is None:
            post.number = self._waiting.more(post.group)
            if post.number is None:
                worker.leave()  # the next checkpoint is loaded once its memory is free
            else:
                self._give(worker, post.number)

    def _give(self, worker: Worker, number: int) -> None:
        told = self._cells[number]
        self._now(number, replace(told, state="running"))
        worker.give(wire.Job(str(self._out), told.asked))

    def _mind(self, post: _Post, hurry: bool) -> None:
        worker = post.worker
        if worker is None:
            return
        gone = worker.gone  # looked at before it is heard: nothing is said later
        for said in worker.heard():
            if post.number is not None:
                self._hear(post, post.number, said)
        if gone:
            worker.close()
            post.worker = None
            if post.number is not None:
                self._lost(post, post.number, f"its process {worker.reason()}")
        elif worker.overdue or (worker.leaving and hurry):
            worker.kill()

    def _hear(self, post: _Post, number: int, said: wire.Report) -> None:
        if said.kept is not None:
            self._kept[number], self._total[number] = said.kept, said.samples or 0
        elif said.ended and said.state == "stopped":
            return  # by a signal of its own, or because it was told to: its end is heard of next
        elif said.ended and said.state == "locked" and number not in self._second:
            post.number = None  # what another process writes may be done later, or that one gone
            self._second.add(number)
            self._waiting.again(number)
            self._now(number, wire.told(said, self._cells[number].asked))
        elif said.ended:
            post.number = None
            self._end(number, _with_record(wire.told(said, self._cells[number].asked), said))
        else:
            told = wire.told(said, self._cells[number].asked)
            self._now(number, told)
            if told.folder is not None:
                self._known.setdefault(number, answers(told.folder))

    def _lost(self, post: _Post, number: int, reason: str) -> None:
        """A process ended with a cell in hand, which stays there as long as it may be tried again."""
        told = self._cells[number]
        if self._stop.reason:
            post.number = None
            self._now(number, replace(told, state="stopped", reason=self._stop.reason))
            return
        kept = answers(told.folder) if told.folder else 0
        if kept > self._known.get(number, 0):
            self._known[number], self._spare[number] = kept, SPARE
        if self._spare[number]:
            self._spare[number] -= 1
            return
        post.number = None
        end = f"{reason}; so {SPARE + 1} times without an answer in between, {kept:,} answers are kept"
        self._end(number, replace(told, state="failed", reason=end))

    def _end(self, number: int, told: Told) -> None:
        self._now(number, told)
        self._watch.ended(told)

    def _now(self, number: int, told: Told) -> None:
        self._cells[number] = told
        self._tell(self._cells)


def answers(folder: Path) -> int:
    """Lines in the files of answers of a run."""
    count = 0
    for path in folder.glob("samples-*.jsonl"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
    return count


def _with_record(told: Told, said: wire.Report) -> Told:
    if not said.recorded or told.folder is None:
        return told
    try:
        return replace(told, record=store.read_record(told.folder))
    except StoreError as error:
        return replace(told, state="failed", reason=str(error))
