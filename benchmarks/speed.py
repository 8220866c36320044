"""Rates, latencies, sizes and memory of the main job, beside RootSIFT with MAGSAC in the same run.

    python benchmarks/speed.py [--folder ../shared/data/bench/provence] [--queries 20] [--model delf-r18] \\
        [--methods delf-asmk delf]

The folder is a benchmark folder with `images/` and `gnd.json`. Indexing is a process of its own (`delf index`), whose
peak memory the operating system reports. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from baselines import database_images, magsac_inliers, query_images, root_sift

from delf.collection import Collection
from delf.datasets.folders import find_named, first_queries, names_of, truth_file
from delf.evaluation import read_ground_truth
from delf.features import Delf
from delf.methods import METHODS
from delf.search import SearchEngine

SHARED = Path(os.environ.get("DELF_SHARED", Path(__file__).parents[2] / "shared"))
Item = TypeVar("Item")
Result = TypeVar("Result")
DELF = [sys.executable, "-m", "delf"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=SHARED / "data" / "bench" / "provence")
    parser.add_argument("--queries", type=int, default=20, help="how many queries are timed")
    parser.add_argument("--model", default="delf-r18")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        sys.exit(f"there is no benchmark folder {arguments.folder}; name one with --folder")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{arguments.folder.name}, {arguments.model}, {cores} cores\n")
    with tempfile.TemporaryDirectory() as work:
        place = Path(work) / "speed.delf"
        indexing(arguments.folder, place, arguments.model, cores)
        searching(arguments.folder, place, arguments.methods, arguments.queries, cores)
    starting()


def indexing(folder: Path, place: Path, model: str, cores: int) -> None:
    """Rate, memory and size of `delf index` on the photos of the database."""
    paths = find_named(folder, names_of(read_ground_truth(truth_file(folder)))[0])
    command = [*DELF, "index", *map(str, paths), "-o", str(place), "--model", model, "--quiet"]
    wall, cpu, peak = measured(command)
    again, _, _ = measured(command)
    facts = json.loads(subprocess.run([*DELF, "info", str(place), "--json"], check=True, capture_output=True).stdout)
    sift = timed(lambda: parallel(root_sift, list(database_images(folder)), cores))[0]
    print("| indexing | |\n|---|---|")
    print(f"| photos | {len(paths):,} |\n| features | {facts['features']:,} |")
    print(f"| rate | {len(paths) / wall:.2f} photos/s ({cpu / len(paths):.2f} CPU-s a photo) |")
    print(f"| RootSIFT (2,000 features) in the same run | {len(paths) / sift:.2f} photos/s; "
          f"delf takes {wall / sift:.1f} times as long |")
    print(f"| again, nothing new | {again:.2f} s |")
    print(f"| peak memory | {peak / 2**20:,.0f} MiB |\n| on disk | {facts['bytes_per_image']:,} bytes a photo |\n")


def searching(folder: Path, place: Path, methods: Sequence[str], count: int, cores: int) -> None:
    """Latency of one search after another, by method, and of RootSIFT with MAGSAC on every image."""
    truth = first_queries(read_ground_truth(truth_file(folder)), count)
    queries = list(zip(find_named(folder, names_of(truth)[1]), truth.entries, strict=True))
    rows = {}
    with Collection.open(place) as collection:
        extractor = Delf.load(collection.about["model"]["name"], **collection.about["options"])
        for method in methods:
            engine = SearchEngine(collection, extractor, method=method)
            engine.search(queries[0][0], box=queries[0][1].box)  # the first one loads what is loaded when needed
            answers = [engine.search(path, box=entry.box) for path, entry in queries]
            totals = [sum(answer.seconds.values()) for answer in answers]
            rows[method] = totals, {stage: statistics.mean(answer.seconds[stage] for answer in answers)
                                    for stage in answers[0].seconds}
    cv2.setNumThreads(1)
    database = parallel(root_sift, list(database_images(folder)), cores)
    sift = []
    for image in list(query_images(folder, min(5, count))):
        start = time.perf_counter()
        query = root_sift(image)
        parallel(partial(magsac_inliers, query), database, cores)
        sift.append(time.perf_counter() - start)
    reference = statistics.median(sift)
    print("| search | median ms | p95 ms | of RootSIFT's | decode, extract, retrieve, verify, rank, turn (mean ms) |")
    print("|---|---|---|---|---|")
    for method, (totals, stages) in rows.items():
        print(f"| {method} | {1000 * statistics.median(totals):.0f} | {1000 * float(np.percentile(totals, 95)):.0f} | "
              f"{statistics.median(totals) / reference:.2f} | "
              f"{', '.join(f'{1000 * seconds:.0f}' for seconds in stages.values())} |")
    print(f"| RootSIFT, MAGSAC on every image | {1000 * reference:.0f} | | 1 | |\n")


def starting() -> None:
    """How long the command takes to answer without working."""
    measured([*DELF, "--help"])
    print(f"`delf --help`: {statistics.median(measured([*DELF, '--help'])[0] for _ in range(5)):.2f} s")


def measured(command: list[str]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and peak bytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[:4])
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def parallel(work: Callable[[Item], Result], items: list[Item], threads: int) -> list[Result]:
    """The results of `work` in the order of the items."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


if __name__ == "__main__":
    main()
