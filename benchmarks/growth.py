"""Whether memory while indexing and the time to open grow with the collection.

    python benchmarks/growth.py PHOTOS [--counts 500 5000]

Each count of photos is made from the real ones by crops, flips and light (seeded), and indexed by a process of its own
with few features for each photo, so that the sizes differ while the work on one photo does not. Peak memory is that of
the process; opening is `Collection.open` in a new process, the median of five.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from delf.collection import Collection
from delf.features import Delf
from delf.images import find_images, read_image
from delf.indexing import build_index


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--step", choices=("index", "open"), help=argparse.SUPPRESS)
    parser.add_argument("--collection", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps({"index": index, "open": opening}[arguments.step](arguments.collection, arguments.photos)))
        return
    print("| photos | features | segments | peak MiB, adding photos | with the index built | photos/s | ms to open | "
          "MiB of a process that opened it |")
    print("|---|---|---|---|---|---|---|---|")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            augment(arguments.photos, folder / "photos", count)
            made = _step("index", folder)
            opened = [_step("open", folder) for _ in range(5)]
        milliseconds = statistics.median(one["ms"] for one in opened)
        print(f"| {count:,} | {made['features']:,} | {made['segments']} | {made['adding']:.0f} | "
              f"{made['memory']:.0f} | {made['rate']:.1f} | {milliseconds:.0f} | {opened[0]['memory']:.0f} |",
              flush=True)


def augment(photos: Path, folder: Path, count: int) -> None:
    """Write `count` different pictures made from real photos, 320 pixels wide at most."""
    folder.mkdir()
    rng, sources = np.random.default_rng(0), list(find_images([photos]))
    for number in range(count):
        image = read_image(sources[number % len(sources)])
        scale = 320 / max(image.shape[:2])
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        height, width = image.shape[:2]
        top, left = rng.integers(0, height // 8 + 1), rng.integers(0, width // 8 + 1)
        part = image[top : top + height * 7 // 8, left : left + width * 7 // 8, ::-1]
        part = part[:, ::-1] if rng.random() < 0.5 else part
        light = np.clip(part * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:06}.jpg"), light)


def index(collection: Path, photos: Path) -> dict[str, float]:
    """Index the photos into a new collection."""
    with Collection.create(collection, Delf.load(runtime="onnx", max_image_size=128)) as opened:
        start = time.perf_counter()
        report = opened.add(photos)
        seconds, adding = time.perf_counter() - start, _memory()
        build_index(opened)
        return {"features": opened.rows, "segments": len(opened.segments), "rate": report.added / seconds,
                "adding": adding, "memory": _memory()}


def opening(collection: Path, _: Path) -> dict[str, float]:
    """Open the collection."""
    start = time.perf_counter()
    with Collection.open(collection):
        return {"ms": 1000 * (time.perf_counter() - start), "memory": _memory()}


def _step(step: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, str(folder / "photos"), "--step", step, "--collection",
               str(folder / "places.delf")]
    done: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
