"""What comes next is prepared in threads while what is there is answered.

At most `ahead` batches wait beside the one in hand: that bounds the memory. What preparing raises is raised
at the turn of its batch, so that the answers before it are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
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
    numbers: Iterable[int], gather: Callable[[int], Sequence[T]], prepare: Callable[[T], R], ahead: int
) -> Generator[Turn[T, R], None, None]:
    """The batches in their order. `gather` runs in the caller's thread, `prepare` in several.

    Closing it waits for what is being prepared, and begins nothing more.
    """
    rest, coming = iter(numbers), deque[_Coming[T, R]]()
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="prepare")
    try:
        while True:
            while len(coming) <= ahead and (number := next(rest, None)) is not None:
                coming.append(_begin(workers, number, gather, prepare))
            if not coming:
                return
            yield coming.popleft().turn()
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Coming(Generic[T, R]):
    number: int
    items: Sequence[T]
    parts: Sequence[Future[list[R]]]
    error: Exception | None = None  # why its items could not be gathered

    def turn(self) -> Turn[T, R]:
        """Waits for it. Raises what preparing it raised."""
        if self.error is not None:
            raise self.error
        return Turn(self.number, self.items, [one for part in self.parts for one in part.result()])


def _begin(
    workers: ThreadPoolExecutor,
    number: int,
    gather: Callable[[int], Sequence[T]],
    prepare: Callable[[T], R],
) -> _Coming[T, R]:
    """Neighbours go to one thread: they often share a picture, and each handing over costs."""
    try:
        items = gather(number)
    except Exception as error:  # noqa: BLE001 - a source that fetches late; raised at the turn of its batch
        return _Coming(number, (), (), error)
    size = -(-len(items) // _WORKERS)
    parts = [items[start : start + size] for start in range(0, len(items), max(1, size))]
    return _Coming(number, items, [workers.submit(_all, prepare, part) for part in parts])


def _all(prepare: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [prepare(item) for item in items]
