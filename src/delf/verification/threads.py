"""One thread for each matrix product, while candidates share the cores among them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def single_threaded_products() -> Iterator[None]:
    """Inside, NumPy's matrix products use one thread each; it may be entered by several threads at once.

    Products of a few hundred rows that take all cores stand in each other's way: each waits for the others, and their
    threads spin between them.
    """
    global _inside, _limit
    with _lock:
        _inside += 1
        if _inside == 1:
            _limit = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all loaded libraries, which takes milliseconds
