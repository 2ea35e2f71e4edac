"""What comes next is prepared in threads while what is there is answered.

At most `ahead` batches wait beside the one in hand: that bounds the memory. What preparing raises is raised
at the turn of its batch, so that the answers before it are kept.

Threads are for what Python's lock does not hold up: reading, decoding and resizing a picture. To lay out a
prompt about a picture that is there takes less than its thread takes from the model's, which needs the lock
between any two operations: on a CPU, and where these are short, such prompts are prepared at their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_WORKERS = 4  # threads that read and decode images


@dataclass(frozen=True, slots=True)
class Turn(Generic[T, R]):
    """One batch, prepared."""

    number: int
    items: Sequence[T]
    prepared: Sequence[R]


def in_turn(
    numbers: Iterable[int], gather: Callable[[int], Sequence[T]], prepare: Callable[[T], R]
) -> Generator[Turn[T, R], None, None]:
    """Each batch is prepared when it is asked for: where there is little to do, handing it to a thread would
    take longer."""
    for number in numbers:
        items = gather(number)
        yield Turn(number, items, [prepare(item) for item in items])


def in_threads(
    numbers: Iterable[int],
    gather: Callable[[int], Sequence[T]],
    prepare: Callable[[T], R],
    ahead: int,
    alike: Callable[[T], Hashable] | None = None,
) -> Generator[Turn[T, R], None, None]:
    """The batches in their order. `gather` runs in the caller's thread, `prepare` in several.

    `alike`: of the items of a batch that are, the first one is prepared in a thread and the others at their
    turn; None: all in threads. Closing it waits for what is being prepared, and begins nothing more.
    """
    rest, coming = iter(numbers), deque[_Coming[T, R]]()
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prepare")

    def begin(most: int) -> None:
        while len(coming) < most and (number := next(rest, None)) is not None:
            coming.append(_begin(workers, number, gather, prepare, alike))

    def turned() -> Turn[T, R]:  # what a generator's own frame held would stay while its caller works
        turn = coming.popleft().turn()
        begin(ahead)  # now, since the threads shall run beside the model and not beside what is done here
        return turn

    try:
        begin(1)
        while coming:
            yield turned()
            begin(1)  # where none may wait
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Coming(Generic[T, R]):
    number: int
    items: Sequence[T]
    prepare: Callable[[T], R]
    early: Sequence[int] = ()  # places of the items that threads prepare,
    parts: Sequence[Future[list[R]]] = ()  # which these are, in their order
    error: Exception | None = None  # why its items could not be gathered

    def turn(self) -> Turn[T, R]:
        """Waits for it. Raises what preparing it raised."""
        if self.error is not None:
            raise self.error
        made = (one for part in self.parts for one in part.result())
        there = dict(zip(self.early, made, strict=True))
        prepared = [
            there[place] if place in there else self.prepare(item) for place, item in enumerate(self.items)
        ]
        return Turn(self.number, self.items, prepared)


def _begin(
    workers: ThreadPoolExecutor,
    number: int,
    gather: Callable[[int], Sequence[T]],
    prepare: Callable[[T], R],
    alike: Callable[[T], Hashable] | None,
) -> _Coming[T, R]:
    """Neighbours go to one thread: they often share a picture, and each handing over costs."""
    try:
        items = gather(number)
    except Exception as error:  # noqa: BLE001 - a source that fetches late; raised at the turn of its batch
        return _Coming(number, (), prepare, error=error)
    early = [*range(len(items))] if alike is None else _firsts(map(alike, items))
    size = max(1, -(-len(early) // _WORKERS))
    parts = [[items[place] for place in early[start : start + size]] for start in range(0, len(early), size)]
    return _Coming(number, items, prepare, early, [workers.submit(_all, prepare, part) for part in parts])


def _firsts(keys: Iterable[Hashable]) -> list[int]:
    """The places of the first of each."""
    found: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, place)
    return [*found.values()]


def _all(prepare: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [prepare(item) for item in items]
