"""Threads and locks that work in a process that was forked.

Such a process has a copy of every object, and of all threads only the one that forked: a pool of threads in it takes
work, and nobody does it; a lock that another thread held is never let go. `Pool` makes its threads, and `Lock` its
lock, when they are needed first, in each process anew.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_forks = 0


def forks() -> int:
    """How many forks lie between this process and the one that began: what was made at another number is not ours."""
    return _forks


def _forked() -> None:
    global _forks
    _forks += 1
    set_threads = getattr(sys.modules.get("faiss"), "omp_set_num_threads", None)
    if set_threads is not None:
        # OpenMP, of which faiss has a copy of its own, waits for ever for the threads of the parent where the thread
        # that forked asks for several; others begin anew. OpenCV and NumPy's products see to that themselves.
        set_threads(1)


if hasattr(os, "register_at_fork"):  # where there is none, there are no forks
    os.register_at_fork(after_in_child=_forked)


class Pool(Executor):
    """A pool of threads, for as long as the object lives. Several threads may use it at once, and forked processes.

        pool = Pool(4, "delf-extract")
        pool.submit(function, argument).result()
        list(pool.map(function, arguments))

    It can be pickled and copied: the other one has as many threads of its own.
    """

    def __init__(self, threads: int, name: str) -> None:
        """threads: how many at most. name: what the names of the threads begin with."""
        self.threads = threads
        self.name = name
        # By the number of forks. Those of a parent are kept, as their end would wait for threads that are not here.
        self._executors: dict[int, ThreadPoolExecutor] = {}

    def submit(self, function: Callable[..., _Value], /, *arguments: Any, **options: Any) -> Future[_Value]:
        """Call a function in one of the threads."""
        return self._executor.submit(function, *arguments, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads of this process end when their work is done; the next use makes new ones."""
        executor = self._executors.pop(forks(), None)
        if executor is not None:
            executor.shutdown(wait, cancel_futures=cancel_futures)

    @property
    def _executor(self) -> ThreadPoolExecutor:
        executor = self._executors.get(forks())
        if executor is None:  # made without a lock, which could be held when a process forks: one of them is kept
            executor = self._executors.setdefault(forks(), ThreadPoolExecutor(self.threads, self.name))
        return executor

    def __reduce__(self) -> tuple[type[Pool], tuple[int, str]]:
        return Pool, (self.threads, self.name)


class Lock:
    """A lock that a thread may enter again, for `with`; in a forked process it is free."""

    def __init__(self) -> None:
        self._locks: dict[int, threading.RLock] = {}

    def __enter__(self) -> None:
        self._held.acquire()

    def __exit__(self, *_: object) -> None:
        self._held.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()

    @property
    def _held(self) -> threading.RLock:
        return self._locks.get(forks()) or self._locks.setdefault(forks(), threading.RLock())


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
