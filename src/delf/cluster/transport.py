"""How workers are started on machines and called there.

There are two ways: Ray (`delf.cluster.rays`), and threads of this process, for experiments and tests.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any, Protocol

from delf.cluster.worker import Worker


@dataclass(frozen=True)
class Machine:
    """A machine of a cluster. id: by which the cluster knows it. name: for people."""

    id: str
    name: str


class WorkerLostError(Exception):
    """A worker has died, or its machine."""


class Transport(Protocol):
    """Starts workers, calls them, and knows whether they are alive."""

    def machines(self) -> list[Machine]:
        """The machines that are alive."""
        ...

    def start(self, machine: Machine, url: str, cache: str) -> Any:
        """Begin to start a worker on a machine. Returns its handle, which can be called at once."""
        ...

    def put(self, value: Any) -> Any:
        """Make a large value an argument for calls of any number of workers, which is sent to each machine once."""
        ...

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Begin to call a method of a worker. Returns the call, for `wait` and `result`."""
        ...

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """Wait until a call has ended, or for some seconds. Returns the calls that have ended."""
        ...

    def result(self, call: Any) -> Any:
        """The result of a call that has ended. Raises `WorkerLostError`, or the error that the worker has raised."""
        ...

    def cancel(self, calls: Sequence[Any]) -> None:
        """Give up calls that nobody waits for any more."""
        ...

    def stop(self, worker: Any) -> None:
        """End a worker."""
        ...

    def close(self) -> None:
        """Disconnect from the cluster."""
        ...


class _Thread:
    """A worker in this process."""

    def __init__(self, machine: Machine, url: str, cache: str) -> None:
        self.machine, self.dead = machine, threading.Event()
        self._made: Worker | None = None
        self._url, self._cache, self._lock = url, cache, threading.Lock()

    @property
    def worker(self) -> Worker:
        with self._lock:
            self._made = self._made or Worker(self._url, self._cache, 1)
            return self._made

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()


class Threads:
    """Workers as threads of this process, on machines that are only names. `kill` simulates the death of a machine."""

    def __init__(self, machines: int = 2) -> None:
        self._machines = [Machine(f"machine-{number}", f"machine-{number}") for number in range(machines)]
        self._workers: list[_Thread] = []
        self._pool = ThreadPoolExecutor(8, "delf-worker")

    def machines(self) -> list[Machine]:
        """As `Transport` has it."""
        return list(self._machines)

    def start(self, machine: Machine, url: str, cache: str) -> _Thread:
        """As `Transport` has it."""
        self._workers.append(_Thread(machine, url, cache))
        return self._workers[-1]

    def put(self, value: Any) -> Any:
        """As `Transport` has it."""
        return value

    def call(self, worker: _Thread, method: str, *arguments: Any) -> Future[Any]:
        """As `Transport` has it."""
        def work() -> Any:
            answer = None if worker.dead.is_set() else getattr(worker.worker, method)(*arguments)
            if worker.dead.is_set():
                raise WorkerLostError(worker.machine.name)
            return answer

        return self._pool.submit(work)

    def wait(self, calls: Sequence[Future[Any]], seconds: float) -> list[Future[Any]]:
        """As `Transport` has it."""
        return list(wait_for(calls, seconds, FIRST_COMPLETED).done)

    def result(self, call: Future[Any]) -> Any:
        """As `Transport` has it."""
        return call.result()

    def cancel(self, calls: Sequence[Future[Any]]) -> None:
        """As `Transport` has it."""
        for call in calls:
            call.cancel()

    def stop(self, worker: _Thread) -> None:
        """As `Transport` has it."""
        worker.dead.set()

    def kill(self, machine: Machine, *, worker_only: bool = False) -> None:
        """Kill all workers of a machine, and the machine itself unless `worker_only`."""
        if not worker_only:
            self._machines.remove(machine)
        for worker in self._workers:
            if worker.machine == machine:
                worker.dead.set()

    def join(self, machine: Machine) -> None:
        """Add a machine, possibly one that was killed."""
        self._machines.append(machine)

    def close(self) -> None:
        """As `Transport` has it."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()
