"""What `delf dataset build` takes of ten thousand photos: seconds of a processor, memory, and pairs that it verifies.

    delf index PHOTOS -o photos.delf --storage compact
    python benchmarks/archive_scale.py photos.delf --folder RUNS [--counts 1000 10000] [--looked 100]

The photos are made of the stored features of real ones (`making.py`). Each step is a process of its own, and extraction
is left out, as it takes the same for each photo. First some photos are looked at, each among all, and then Ctrl-C
comes, as it may. What these take is more than later ones do: a pair is verified once, by the photo that is looked at
first. Then pairs are drawn at random, nine of ten in groups of `GROUP` photos, so that nothing is left to match, and
the same command joins them and writes all tables.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from growth import _memory
from making import Pool, grow

from delf.archive import BuildOptions, build_dataset
from delf.archive.tables import PAIRS
from delf.collection import Collection
from delf.features import Delf
from delf.grouping import Pairs
from delf.grouping.carrying import write_carried

GROUP, LIKELY = 12, 6  # photos of a group; pairs of each photo with others of it
Figures = dict[str, float]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a collection of compact storage")
    parser.add_argument("--folder", type=Path, required=True, help="where the collection is made, and stays")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--looked", type=int, default=100, help="photos that are looked at, or fewer where there are "
                        "not so many")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for count in sorted(arguments.counts):
        for step in STEPS:
            command = [sys.executable, __file__, str(arguments.photos), "--folder", str(arguments.folder), "--looked",
                       str(arguments.looked), "--step", step, "--count", str(count)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            print(f"{count:,} photos, {step}: " + ", ".join(f"{name} {value:,.3g}" if value < 1000 else
                                                            f"{name} {value:,.0f}" for name, value in found.items()),
                  flush=True)


def make(arguments: argparse.Namespace) -> Figures:
    """Grow the collection, and make its lists."""
    with Collection.open(arguments.photos) as source, _grown(arguments) as collection:
        start = time.process_time()
        grow(collection, Pool.of(source.snapshot), arguments.count, (arguments.folder / "made").absolute())
        return {"seconds": time.process_time() - start, "MiB": _memory(), "photos": len(collection)}


def match(arguments: argparse.Namespace) -> Figures:
    """Build, until so many photos were looked at."""
    started: list[float] = []

    def matching(done: int, total: int) -> None:
        started.append(time.process_time())
        if done == arguments.looked + 1:  # the first one is for what is made once
            raise KeyboardInterrupt

    built = _build(arguments, matching)
    judged, confirmed = _judged(arguments.folder / "grown.delf")
    return {"seconds a photo": (started[-1] - started[0]) / (len(started) - 1), "before the first": started[0],
            "MiB": _memory(), "looked at": built.matched[0], "verified a photo": judged / built.matched[0],
            "confirmed a photo": confirmed / built.matched[0]}


def join(arguments: argparse.Namespace) -> Figures:
    """Build where nothing is left to match: groups, and tables."""
    options, whole, (first, second) = BuildOptions(), _extractor(), _pairs(arguments.count)
    judged_by = repr((asdict(options.pairs), dict(sorted(whole.weights().items()))))  # as `match_collection` has it
    rng = np.random.default_rng(1)
    (arguments.folder / "set").mkdir(exist_ok=True)
    with _grown(arguments) as collection:
        images = len(collection)
        probability, share, area = (rng.uniform(low, high, len(first)).astype(np.float32)
                                    for low, high in ((0.5, 1), (0, 0.3), (0, 0.5)))
        pairs = Pairs(first, second, np.full(len(first), 40), probability, share, area, np.ones_like(share), images,
                      images)
        write_carried(arguments.folder / "set" / PAIRS, collection, judged_by, range(images), pairs)
        for file in collection.folder.glob("pairs-*.sqlite*"):  # what `match` has found
            file.unlink()
    start = time.process_time()
    built = _build(arguments, lambda done, total: None)
    return {"seconds": time.process_time() - start, "MiB": _memory(), "pairs": len(first),
            "groups": len(built.landmarks), "bridges": len(built.bridges)}


STEPS: dict[str, Callable[[argparse.Namespace], Figures]] = {"make": make, "match": match, "join": join}


def _extractor() -> Delf:
    return Delf.load("delf-r18-int8", threads=1)


def _grown(arguments: argparse.Namespace) -> Collection:
    return Collection.open_or_create(arguments.folder / "grown.delf", _extractor(), storage="compact")


def _build(arguments: argparse.Namespace, matching: Callable[[int, int], None]) -> Any:
    return build_dataset([], arguments.folder / "set", _extractor(), collection=arguments.folder / "grown.delf",
                         matching=matching)


def _judged(collection: Path) -> tuple[int, int]:
    """How many pairs were verified, and how many of them have more inliers than chance gives."""
    [file] = collection.glob("pairs-*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        [row] = connection.execute("SELECT count(*), sum(inliers >= ?) FROM pairs", [BuildOptions().pairs.confirmed])
    return row[0], row[1] or 0


def _pairs(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(P,) and (P,) ends of pairs, the lower first: of each photo with some of its group, and one in ten beyond."""
    rng = np.random.default_rng(0)
    photos = np.repeat(np.arange(count), LIKELY // 2)
    others = photos // GROUP * GROUP + rng.integers(GROUP, size=len(photos))
    others = np.where(rng.random(len(photos)) < 0.1, rng.integers(count, size=len(photos)), others)
    ends = np.unique(np.sort(np.column_stack([photos, others]), axis=1), axis=0)
    ends = ends[(ends[:, 0] < ends[:, 1]) & (ends[:, 1] < count)]
    return ends[:, 0], ends[:, 1]


if __name__ == "__main__":
    main()
