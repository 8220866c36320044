"""A bounded pool of threads with a bounded queue, in which the model runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from delf.service.problems import ClientGone, busy, too_many

T = TypeVar("T")
_SMOOTHING = 0.2  # of the mean time of a piece of work: the last five or so count


class Job:
    """A piece of work, as the thread that does it sees it."""

    def __init__(self) -> None:
        self._dropped = threading.Event()

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._dropped.set()

    def check(self) -> None:
        """To be called between two stages. Raises `ClientGone` where nobody waits for the rest."""
        if self._dropped.is_set():
            raise ClientGone


class Workers:
    """Does so many pieces of work at once, lets so many more wait, and refuses the rest.

    A piece whose client goes, or whose time is over, is dropped while it waits, and stops at its next stage when it has
    begun. It keeps its place until then, so that what was dropped cannot pile up behind the scenes.
    """

    def __init__(self, threads: int, waiting: int, seconds: float, name: str) -> None:
        """seconds: that a piece of work may take, waiting included. name: of the threads."""
        self.threads, self.waiting, self.seconds = threads, waiting, seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._accepted = self._running = 0
        self._mean = 1.0

    @property
    def running(self) -> int:
        """How many pieces of work are being done."""
        return self._running

    @property
    def queued(self) -> int:
        """How many wait."""
        return max(0, self._accepted - self._running)

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return self._accepted >= self.threads + self.waiting

    async def run(self, work: Callable[[Job], T], gone: Callable[[], Awaitable[None]] | None = None, *,
                  patient: bool = False) -> T:
        """Do a piece of work in a thread.

        Args:
            gone: ends when the client has gone. patient: it may take any time, since no client waits for it.

        Raises:
            Problem: there is no room, or its time is over. ClientGone: nobody waits for it. What `work` raises.
        """
        self._accept()
        job = Job()
        future = self._pool.submit(self._timed, work, job)
        future.add_done_callback(self._end)
        answer = asyncio.wrap_future(future)
        watch = asyncio.ensure_future(gone()) if gone is not None else None
        try:
            waited: list[asyncio.Future[Any]] = [answer] if watch is None else [answer, watch]
            await asyncio.wait(waited, timeout=None if patient else self.seconds,
                               return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if watch is not None and watch.done():
                raise ClientGone
            raise busy(f"this took longer than {self.seconds:g} seconds and was given up; try again when the service "
                       "has less to do, or with a smaller photo", self.retry_after())
        finally:
            if watch is not None:
                watch.cancel()
            if not answer.done():
                job.drop()
                answer.cancel()

    def require_room(self) -> None:
        """Raises `Problem` where one more would be refused."""
        if self.full:
            raise too_many("the service has as much to do as it takes on; try again in a moment", self.retry_after())

    def retry_after(self) -> float:
        """Seconds in which the work that is there now may be done."""
        return self._mean * self._accepted / self.threads

    def close(self) -> None:
        """Drop what waits, and wait for what is being done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _accept(self) -> None:
        with self._lock:
            self.require_room()
            self._accepted += 1

    def _timed(self, work: Callable[[Job], T], job: Job) -> T:
        with self._lock:
            self._running += 1
        start = time.monotonic()
        try:
            job.check()
            return work(job)
        finally:
            with self._lock:
                self._running -= 1
                self._mean += _SMOOTHING * (time.monotonic() - start - self._mean)

    def _end(self, _: Future[Any]) -> None:
        with self._lock:
            self._accepted -= 1
