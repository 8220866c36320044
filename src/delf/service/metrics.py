"""Counts and times in the form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


class Metrics:
    """Those of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("delf_requests", "Requests that were answered.", ("method", "route", "status"),
                                 registry=self._registry)
        self._latency = Histogram("delf_request_seconds", "From the headers of a request to the end of its answer.",
                                  ("method", "route"), buckets=SECONDS, registry=self._registry)
        self._stages = Histogram("delf_search_stage_seconds", "Time of each stage of a search.", ("stage",),
                                 buckets=SECONDS, registry=self._registry)
        self._searches = Counter("delf_searches", "Searches by method, and whether they found a match.",
                                 ("method", "match"), registry=self._registry)

        self._machines: Callable[[], Mapping[str, Mapping[str, float]]] = dict
        self._of_machines = Gauge("delf_machine", "Of each machine of a cluster: segments that it has, requests that "
                                  "it was asked and has answered, and the seconds that these took.",
                                  ("machine", "what"), registry=self._registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is looked at when it is asked for."""
        Gauge(name, about, registry=self._registry).set_function(value)

    def watch_machines(self, values: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Numbers of machines that work for the service, which are asked for them when they are looked at."""
        self._machines = values

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. route: as the service names it, so that there are only so many."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(seconds)

    def searched(self, method: str, match: bool | None, seconds: Mapping[str, float]) -> None:
        """A search was done. match: whether it found one; None where its method cannot tell."""
        self._searches.labels(method, str(match).lower()).inc()
        for stage, time in seconds.items():
            self._stages.labels(stage).observe(time)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        for machine, values in self._machines().items():
            for name, value in values.items():
                self._of_machines.labels(machine, name).set(value)
        return generate_latest(self._registry)
