"""Workers by Ray, one on each node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from delf.cluster.connecting import connected
from delf.cluster.transport import Machine, WorkerLostError
from delf.cluster.worker import Worker

_ASKED_AT_ONCE, _LOADED_AT_ONCE = 16, 2


class RayTransport:
    """Starts workers as actors, one for each node, and calls them."""

    def __init__(self, address: str) -> None:
        """Connect to a cluster: "local" starts one on this machine, which is seen from here alone, and ends with this.

        Raises:
            MissingDependencyError, ClusterError, OptionError: as `delf.cluster.connecting.connected`.
        """
        self._connection = ExitStack()
        self._joined = ray = self._connection.enter_context(connected(address))
        self._closed = False
        # What dies is told by exceptions of these classes.
        self._deaths = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError,
                        ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError)
        groups = {"load": _LOADED_AT_ONCE, "ask": _ASKED_AT_ONCE}
        self._kind = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=_ASKED_AT_ONCE,
                                concurrency_groups=groups)(_with_groups(ray))

    @property
    def _ray(self) -> Any:
        """Ray, while this is connected: asked for anything later, it would start a cluster of its own."""
        if self._closed:
            raise WorkerLostError("the cluster was let go of")
        return self._joined

    def machines(self) -> list[Machine]:
        """As `Transport` has it: the nodes that have a core, or any."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        chosen = [node for node in nodes if node["Resources"].get("CPU", 0) > 0] or nodes
        return [Machine(node["NodeID"], node["NodeManagerHostname"])
                for node in sorted(chosen, key=lambda node: str(node["NodeID"]))]

    def start(self, machine: Machine, url: str, cache: str) -> Any:
        """As `Transport` has it."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        actor = self._kind.options(scheduling_strategy=strategy(machine.id, soft=False))
        return actor.remote(url, cache)

    def put(self, value: Any) -> Any:
        """As `Transport` has it."""
        return self._ray.put(value)

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """As `Transport` has it."""
        assert self._ray is not None, "it raises where this is closed"
        return getattr(worker, method).remote(*arguments)

    def wait(self, calls: Sequence[Any], seconds: float) -> list[Any]:
        """As `Transport` has it."""
        done, _ = self._ray.wait(list(calls), num_returns=1, timeout=seconds, fetch_local=False)
        return list(done)

    def result(self, call: Any) -> Any:
        """As `Transport` has it."""
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except self._deaths as error:
            raise WorkerLostError(str(error)) from None

    def cancel(self, calls: Sequence[Any]) -> None:
        """As `Transport` has it. What has begun ends at its next segment, when its time is over."""
        for call in calls:
            self._ray.cancel(call)

    def stop(self, worker: Any) -> None:
        """As `Transport` has it."""
        self._ray.kill(worker)

    def close(self) -> None:
        """As `Transport` has it."""
        self._closed = True
        self._connection.close()


def _with_groups(ray: Any) -> type[Worker]:
    """The class of workers, of whose methods some may be called while others load."""
    class RayWorker(Worker):
        hold = ray.method(concurrency_group="load")(Worker.hold)
        prepare = ray.method(concurrency_group="load")(Worker.prepare)
        ask = ray.method(concurrency_group="ask")(Worker.ask)

    return RayWorker
