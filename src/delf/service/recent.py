"""What was made lately and may be asked for again, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps values up to a total size; those that were used longest ago go first. For many threads."""

    def __init__(self, size: int, size_of: Callable[[T], int] = lambda value: 1) -> None:
        self._size, self._size_of = size, size_of
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key; made where it is not kept. Two threads that ask at once may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values and self._size_of(value) <= self._size:
                self._values[key] = value
                self._total += self._size_of(value)
            while self._total > self._size:
                self._total -= self._size_of(self._values.popitem(last=False)[1])
        return value

    @property
    def total(self) -> int:
        """The size of all that is kept."""
        return self._total
