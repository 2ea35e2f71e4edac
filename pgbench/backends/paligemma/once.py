"""What is computed once, though several threads ask for it, and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Values by key; the longest unused go first, and the one asked for last stays whatever its size.

    What fails is not kept, and who waited for it tries in turn: an error may name whom it befell.
    Thread-safe.
    """

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        """`most`: the sum of `size` over what is kept, in bytes say."""
        self._most, self._size = most, size
        self._kept: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()
        self._held = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Raises what `make` raises."""
        found, own = self._there(key)
        while found is not own:
            if found.exception() is None:  # waits for it
                return found.result()
            found, own = self._there(key)
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._forget(key, own)
            own.set_exception(error)
            raise
        with self._lock:  # as one: what forgets it between the two would take off a size not yet added
            own.set_result(value)
            if self._kept.get(key) is own:
                self._held += self._size(value)
                self._make_room(key)
        return value

    def _there(self, key: K) -> tuple[Future[V], Future[V] | None]:
        """Of another who was asked before, or else one's own, twice."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found, None
            own = self._kept[key] = Future[V]()
            return own, own

    def forget(self, key: K) -> None:
        """The next `get` makes it anew."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._forget(key, found)

    def clear(self) -> None:
        with self._lock:
            for key, found in [*self._kept.items()]:
                self._forget(key, found)

    @property
    def held(self) -> int:
        """The sum of the sizes of what is kept."""
        return self._held

    def _make_room(self, but: K) -> None:
        while self._held > self._most:
            done = (pair for pair in self._kept.items() if pair[0] != but and pair[1].done())
            if (oldest := next(done, None)) is None:
                return
            self._forget(*oldest)

    def _forget(self, key: K, found: Future[V]) -> None:
        if self._kept.get(key) is not found:
            return
        del self._kept[key]
        if found.done() and found.exception() is None:
            self._held -= self._size(found.result())
