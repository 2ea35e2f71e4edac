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
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self._lock = threading.Lock()
        self._held = 0

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Raises what `make` raises."""
        while True:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
                if (other := self._making.get(key)) is None:
                    own = self._making[key] = Future[V]()
            if other is None:
                return self._made(key, make, own)
            if other.exception() is None:  # waits for it
                return other.result()

    def _made(self, key: K, make: Callable[[], V], own: Future[V]) -> V:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                self._is_made(key, own)
            own.set_exception(error)
            raise
        with self._lock:
            if self._is_made(key, own):
                self._kept[key] = value
                self._held += self._size(value)
                self._make_room()
        own.set_result(value)
        return value

    def _is_made(self, key: K, own: Future[V]) -> bool:
        """Whether it was not forgotten in the meantime."""
        if self._making.get(key) is not own:
            return False
        del self._making[key]
        return True

    def forget(self, key: K) -> None:
        """The next `get` makes it anew."""
        with self._lock:
            self._making.pop(key, None)
            if key in self._kept:
                self._held -= self._size(self._kept.pop(key))

    def clear(self) -> None:
        with self._lock:
            self._making.clear()
            self._kept.clear()
            self._held = 0

    @property
    def held(self) -> int:
        """The sum of the sizes of what is kept."""
        return self._held

    def _make_room(self) -> None:
        while self._held > self._most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._held -= self._size(oldest)
