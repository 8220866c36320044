"""The same by Ray: nodes of a cluster on this machine, of which one dies while it is searched."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from whole_store import said

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine
from delf.cluster.options import FleetOptions
from delf.cluster.store import Store
from delf.collection import Collection
from delf.search import SearchEngine
from delf.types import Features, SearchResult

PATIENCE = 120  # seconds, for Ray to see that a node has died and for segments to be loaded


class Searching(threading.Thread):
    """Searches again and again until it is told to end. What goes wrong is kept."""

    def __init__(self, engine: ClusterEngine, query: Features) -> None:
        super().__init__()
        self._engine, self._query = engine, query
        self.answers: list[SearchResult] = []
        self.error: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                self.answers.append(self._engine.search_features(self._query, top=5))
        except BaseException as error:
            self.error = error

    def wait_for_more(self) -> None:
        """Until it has begun and ended another search."""
        wanted, end = len(self.answers) + 2, time.monotonic() + PATIENCE
        while len(self.answers) < wanted and self.error is None:
            assert time.monotonic() < end, "it searches no more"
            time.sleep(0.05)


def wait_until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come to that"
        time.sleep(0.1)


def test_a_node_and_a_worker_die_while_it_is_searched(
        cluster: Any, node_options: dict[str, Any], whole: Collection, store: Store, extractor: Any,
        query_features: dict[str, Features], tmp_path: Path) -> None:
    """All answers are those of one machine, whole, to the last bit; what died is replaced."""
    coffee = query_features["coffee"].select(slice(400))
    expected = said(SearchEngine(whole, extractor).search_features(coffee, top=5))
    node, told = cluster.add_node(**node_options), []
    options = FleetOptions(replicas=2, cache=str(tmp_path / "cache"), watching=0.5)
    with Cluster.open(store.url, address="auto", options=options, told=told.append) as served:
        assert len(served.fleet.workers) == 3
        searching = Searching(ClusterEngine(served, extractor), coffee)
        searching.start()
        try:
            searching.wait_for_more()
            cluster.remove_node(node, allow_graceful=False)
            searching.wait_for_more()
            wait_until(lambda: len(served.fleet.workers) == 2 and all(
                len(served.fleet.holders(one)) == 2 for one in served.snapshot.edition.slices))
            searching.wait_for_more()
            before = served.fleet.restarts
            process = next(iter(served.health()["machines"].values()))["process"]
            os.kill(process, signal.SIGKILL)
            searching.wait_for_more()
            wait_until(lambda: served.fleet.restarts > before and all(
                len(served.fleet.holders(one)) == 2 for one in served.snapshot.edition.slices))
            searching.wait_for_more()
        finally:
            searching.ended.set()
            searching.join()
        assert searching.error is None
        assert all((said(one), one.missing) == (expected, 0) for one in searching.answers)
        assert any("has died" in sentence for sentence in told)
