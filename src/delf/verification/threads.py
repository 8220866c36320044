"""One thread for each matrix product, while candidates share the cores among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from delf.pools import Lock, forks

_lock = Lock()
_inside: Counter[int] = Counter()  # by the number of forks: the threads of a parent are not in a process that it forks
_limit: Any = None


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """Inside, NumPy's matrix products use one thread each; it may be entered by several threads at once.

    Products of a few hundred rows that take all cores stand in each other's way: each waits for the others, and their
    threads spin between them.
    """
    global _limit
    with _lock:
        _inside[forks()] += 1
        if _inside[forks()] == 1:
            if _limit is not None:  # a parent's, which it was inside of when it forked
                _limit.restore_original_limits()
            _limit = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside[forks()] -= 1
            if _inside[forks()] == 0:
                _limit.restore_original_limits()
                _limit = None


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all loaded libraries, which takes milliseconds
