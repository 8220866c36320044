"""A stand-in for Ray where the processes are not the point: tasks are done here, a step each time they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any


class Inline:
    """As much of the module `ray` as `delf.cluster` uses. cores: of the cluster. cancelled: the tasks that were."""

    def __init__(self, cores: int = 2) -> None:
        self.cores = cores
        self.cancelled: list[Any] = []
        self.most = 0  # tasks at once
        self.asked: list[str] = []  # nodes that tasks were meant for
        self.util = SimpleNamespace(scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=self._node))

    def _node(self, node_id: str, soft: bool) -> str:
        assert soft
        self.asked.append(node_id)
        return node_id

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}

    def nodes(self) -> list[dict[str, Any]]:
        """Of one core each."""
        return [{"Alive": True, "Resources": {"CPU": 1.0}} for _ in range(self.cores)]

    def put(self, value: Any) -> Any:
        return value

    def get(self, result: Callable[[], Any]) -> Any:
        return result()

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: _Function(function, streams=options.get("num_returns") == "streaming")

    def wait(self, tasks: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(tasks))
        ready = [task for task in tasks if not task.still][:num_returns]
        return ready, [task for task in tasks if task not in ready]

    def cancel(self, task: Any, force: bool) -> None:
        assert force
        self.cancelled.append(task)
        task.cancel()


class _Function:
    def __init__(self, function: Callable[..., Any], streams: bool) -> None:
        self.function, self.streams = function, streams

    def options(self, **options: Any) -> _Function:
        return self

    def remote(self, *arguments: Any) -> Any:
        if not self.streams:
            return lambda: self.function(*arguments)
        return _Task(self.function(*arguments))


class _Task:
    """A generator, each of whose values is a result to be got. `still` where it gives None: it hangs."""

    def __init__(self, values: Iterator[Any]) -> None:
        self.values, self.still, self.ended = values, False, False

    def cancel(self) -> None:
        self.still, self.values = False, iter(())
        self.ended = True

    def __next__(self) -> Callable[[], Any]:
        if self.ended:
            self.ended = False

            def gone() -> Any:
                raise RuntimeError("the task was cancelled")

            return gone
        try:
            value = next(self.values)
        except StopIteration:
            raise
        except Exception as error:
            problem = error

            def failed() -> Any:
                raise problem

            return failed
        self.still = value is None
        return lambda: value
