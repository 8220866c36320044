"""What it costs that a store is searched on several machines, beside the same photos in one collection on one machine.

    python benchmarks/cluster.py places.delf QUERIES [--workers 1 2 4] [--method delf-asmk] [--queries 20]

The collection is published as a store into a temporary folder, and searched by a Ray cluster of so many nodes, all of
them on this machine, each segment on one of them. Features of the queries are extracted before, so that the time is
that of finding, verifying and ranking, with all that is sent. Each row says whether all answers were those of the one
machine, to the last bit.

All nodes share the cores of this machine. So the table shows what scattering and gathering adds, and not what is gained
by more machines: with two cores, two workers compute no faster than one, and four are slower.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delf.cluster.cluster import Cluster
from delf.cluster.engine import ClusterEngine
from delf.cluster.options import FleetOptions
from delf.cluster.publishing import publish
from delf.cluster.store import Store
from delf.cluster.transport import Threads
from delf.collection import Collection
from delf.images import find_images, read_image
from delf.search import SearchEngine
from delf.types import Features, SearchResult

MEMORY = 100 << 20  # bytes of the object store of each node


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("photos", type=Path, help="that are searched for")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--method", default="delf-asmk")
    arguments = parser.parse_args()
    with Collection.open(arguments.collection) as collection, tempfile.TemporaryDirectory() as folder:
        engine = SearchEngine(collection, method=arguments.method)
        paths = list(find_images([arguments.photos]))[: arguments.queries]
        queries = [engine.extractor.extract(read_image(path)) for path in paths]
        expected, usual = measured(engine, queries)
        images, segments = len(collection), len(collection.segments)
        print(f"{arguments.method}, {images:,} images in {segments} segments, {len(queries)} queries, "
              f"{top_of(expected)} results each at most; milliseconds of a search\n")
        print("| searched by | median | slowest | more than one machine | the same answers |\n|---|---|---|---|---|")
        row("one machine", usual, usual, same=True)
        store = publish(collection, Path(folder) / "bench.store")
        for machines in arguments.workers:
            options = FleetOptions(replicas=1, cache=str(Path(folder) / f"cache-{machines}"))
            with Cluster(Store.open(store.url), Threads(machines), options) as cluster:
                compare(f"{machines} workers in threads", cluster, engine, queries, expected, usual)
        for machines in arguments.workers:
            by_ray(machines, store, folder, engine, queries, expected, usual)
        again, seconds = measured(engine, queries)  # what else this machine does shows between this row and the first
        row("one machine, again", seconds, usual, same=again == expected)


def by_ray(machines: int, store: Store, folder: str, engine: SearchEngine, queries: Sequence[Features],
           expected: list[Any], usual: list[float]) -> None:
    """One row, of a cluster of so many nodes on this machine."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=node)
    try:
        for _ in range(machines - 1):
            nodes.add_node(**node)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
        options = FleetOptions(replicas=1, cache=str(Path(folder) / f"ray-{machines}"))
        with Cluster.open(store.url, address="auto", options=options) as cluster:
            compare(f"{machines} workers by Ray", cluster, engine, queries, expected, usual)
    finally:
        ray.shutdown()
        nodes.shutdown()


def compare(name: str, cluster: Cluster, engine: SearchEngine, queries: Sequence[Features], expected: list[Any],
            usual: list[float]) -> None:
    """One row."""
    found, seconds = measured(ClusterEngine(cluster, engine.extractor, method=engine.method), queries)
    row(name, seconds, usual, same=found == expected)


def measured(engine: SearchEngine, queries: Sequence[Features]) -> tuple[list[Any], list[float]]:
    """What is found, and the seconds of each search; the first one, which opens what is opened when it is needed, is
    done twice.
    """
    answers, seconds = [], []
    for query in [queries[0], *queries]:
        start = time.perf_counter()
        answers.append(said(engine.search_features(query, top=10)))
        seconds.append(time.perf_counter() - start)
    return answers[1:], seconds[1:]


def said(answer: SearchResult) -> list[tuple[Any, ...]]:
    """What is compared."""
    return [(one.key, one.score, one.probability, one.inliers) for one in answer.results]


def top_of(answers: list[Any]) -> int:
    """How many results an answer has at most."""
    return max(map(len, answers), default=0)


def row(name: str, seconds: list[float], usual: list[float], *, same: bool) -> None:
    """Print a line of the table."""
    median = statistics.median(seconds)
    print(f"| {name} | {1000 * median:.0f} | {1000 * max(seconds):.0f} | "
          f"{1000 * (median - statistics.median(usual)):+.0f} | {'yes' if same else 'NO'} |", flush=True)


if __name__ == "__main__":
    main()
