"""How time, memory and bytes grow with a collection, and what a model that is fitted to small ones says of large ones.

    delf index PHOTOS -o photos.delf --storage compact
    python benchmarks/growth.py photos.delf --folder RUNS --counts 10000 30000 100000 [--plot growth.png]
    python benchmarks/growth.py PHOTOS --counts 500 5000

The first form makes a collection of compact storage of the entries of real photos (`making.py`) in RUNS, which grows
from count to count; of each count a copy stays, whose segments are links. At each it is measured what a step takes,
each in a process of its own, by the processor's clock (of all its threads), since others may use the machine, and how
much memory: making lists, opening, searching, adding 1,000 images while a reader searches, removing 1,000, merging
after a kill, checking all files, matching an image with all others as `delf explore` does (of 40 images), and finding
that all files are unchanged. Extraction is left out, as it does not depend on the size. What was measured is kept in
RUNS/growth.json and not measured again. The model is a + b n, fitted to all counts but the largest (or to those up to
--fitted), and compared with that.

The second form indexes real pictures made by crops, flips and light, with few features each: whether peak memory of
indexing depends on their number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cost_model import ROWS, draw, show
from making import BLOCK, FOLDER, Pool, entry, grow, made_file, publish

from delf.checking import check_collection
from delf.collection import Collection
from delf.features import Delf
from delf.grouping.pairs import PairOptions, _Matcher
from delf.images import find_images, read_image
from delf.indexing import build_index
from delf.looks import TurningOptions
from delf.methods import METHODS
from delf.search import SearchEngine

QUERIES, ADDED, MATCHED = 12, 1000, 40
SEARCHED = ("delf-asmk", "asmk", "global")
PLAIN = {name: replace(METHODS[name], turning=TurningOptions()) for name in SEARCHED}
Figures = dict[str, float]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a collection of compact storage, or a folder of photos")
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--folder", type=Path, help="where the grown collection is made, and stays")
    parser.add_argument("--fitted", type=int, help="the largest count that the model is fitted to; all but the largest")
    parser.add_argument("--others", type=int, nargs="*", default=(), help="sizes that the model is asked for as well")
    parser.add_argument("--plot", type=Path, help="a PNG to write the picture to")
    parser.add_argument("--openings", type=int, default=5, help="of which the median is told, of a folder of photos")
    parser.add_argument("--step", choices=(*STEPS, *PICTURES), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--collection", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(PICTURES[arguments.step](arguments.collection, arguments.photos) if arguments.step in PICTURES
                         else STEPS[arguments.step](arguments.photos, arguments.folder, arguments.count)))
    elif Collection.exists(arguments.photos):
        grown(arguments)
    else:
        pictures(arguments.photos, arguments.counts, arguments.openings)


def grown(arguments: argparse.Namespace) -> None:
    """Measure all steps at all counts, and print what is known."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    file = arguments.folder / "growth.json"
    known: dict[str, dict[str, Figures]] = json.loads(file.read_text()) if file.exists() else {}
    for count in sorted(arguments.counts):
        there = known.setdefault(str(count), {})
        for name in STEPS:
            if name not in there:
                there[name] = _child(name, arguments.photos, "--folder", arguments.folder, "--count", str(count))
                there[name]["load"] = os.getloadavg()[0]
                print(f"{count:,}: {name} {there[name]}", file=sys.stderr, flush=True)
                file.write_text(json.dumps(known, indent=1))
    table = {name: {count: known[str(count)][step][figure] for count in sorted(map(int, known))
                    if figure in known[str(count)].get(step, {})} for name, (step, figure, _) in ROWS.items()}
    show(table, arguments.fitted, arguments.others)
    if arguments.plot:
        draw(table, arguments.plot)


def make(photos: Path, folder: Path, count: int) -> Figures:
    """Grow the collection to so many images."""
    with Collection.open(photos) as source:
        pool = Pool.of(source.snapshot, asked(source))
        with Collection.open_or_create(folder / "grown.delf", Delf.load(threads=1), storage="compact") as collection:
            start, before = time.process_time(), len(collection)
            grow(collection, pool, count, (folder / "made").absolute())
            return {"cpu": (time.process_time() - start) / max(1, count - before), "memory": _memory(),
                    "segments": len(collection.segments)}


def asked(source: Collection) -> list[int]:
    """The photos that are searched with, and that no image is made of: some of all classes."""
    return np.linspace(0, len(source.alive) - 1, QUERIES).astype(int).tolist()


def pack(photos: Path, folder: Path, count: int) -> Figures:
    """What packing takes, of an image."""
    with Collection.open(photos) as source, Collection.open(folder / "grown.delf") as collection:
        features = [source.features(number) for number in range(20)]
        return {"cpu": _timed(lambda: [collection.snapshot.packing.pack(one) for one in features])[0] / len(features)}


def lists(photos: Path, folder: Path, count: int) -> Figures:
    """Make the lists that segments lack, by opening an engine."""
    with Collection.open(folder / "grown.delf") as collection:
        name = f"asmk-{'?' * 16}.lists"
        images = sum(part.images for part in collection.segments if not list(part.folder.glob(name)))
        cpu, _, _ = _timed(lambda: SearchEngine(collection, Delf.load(threads=1)))
        sizes = collection.bytes_by_kind()
        _linked(collection.folder, _state(folder, count))
        return {"cpu": cpu / max(images, 1), "memory": _memory(), "bytes": sum(sizes.values()) / len(collection),
                "lists": sizes["asmk"] / len(collection), "catalogue": sizes["catalogue"] / len(collection)}


def opening(photos: Path, folder: Path, count: int) -> Figures:
    """Open the collection, and then an engine."""
    extractor = Delf.load(threads=1)
    cpu, wall, collection = _timed(lambda: Collection.open(_state(folder, count)))
    memory = _memory()
    engine, _, _ = _timed(lambda: SearchEngine(collection, extractor))
    return {"cpu": cpu, "wall": wall, "engine": engine, "memory": memory, "with engine": _memory(), "own": _own()}


def searching(photos: Path, folder: Path, count: int) -> Figures:
    """Search by each method; medians of a query."""
    found: Figures = {}
    with Collection.open(photos) as source, Collection.open(_state(folder, count)) as collection:
        queries = [source.features(number) for number in asked(source)]
        for name in SEARCHED:
            engine = SearchEngine(collection, Delf.load(threads=1), method=name, options=PLAIN[name])
            if PLAIN[name].candidates:
                found[f"{name}, found"] = _median(engine.retrieve, queries)
            found[name] = _median(engine.search_features, queries)
            found[f"{name}, memory"], found[f"{name}, own"] = _memory(), _own()
    return found


def adding(photos: Path, folder: Path, count: int) -> Figures:
    """Add images to a copy while a reader searches, who sees nothing of it until it refreshes."""
    copy, stop = _linked(_state(folder, count), folder / "copy.delf"), threading.Event()
    with Collection.open(photos) as source, Collection.open(copy) as collection, Collection.open(copy) as reader:
        pool, query = Pool.of(source.snapshot, asked(source)), source.features(asked(source)[0])
        engine = SearchEngine(reader, Delf.load(threads=1), options=PLAIN["delf-asmk"])
        seen: list[list[tuple[str, int]]] = []

        def read() -> None:
            while not stop.is_set():
                seen.append(_answer(engine, query))

        def write(start: int, stop: int) -> None:
            for first in range(start, stop, BLOCK):
                images = zip(range(first, first + BLOCK), pool.images(first // BLOCK), strict=True)
                with collection.writing() as catalogue:
                    publish(collection, catalogue, [entry(number, folder / "more", one) for number, one in images])

        alone, _, _ = _timed(partial(write, count, count + ADDED))
        refresh, _, _ = _timed(engine.refresh)
        seen = [_answer(engine, query)]
        thread = threading.Thread(target=read)
        thread.start()
        write(count + ADDED, count + ADDED + BLOCK)
        stop.set()
        thread.join()
        return {"cpu": alone, "refresh": refresh, "answers": len(seen),
                "other answers": sum(one != seen[0] for one in seen)}


def removing(photos: Path, folder: Path, count: int) -> Figures:
    """Remove the images of a folder of files, and search on."""
    with Collection.open(folder / "copy.delf") as collection:
        engine = SearchEngine(collection, Delf.load(threads=1), options=PLAIN["delf-asmk"])
        cpu, _, number = _timed(lambda: collection.remove(made_file((folder / "made").absolute(), 0).parent))
        assert number == min(count, FOLDER)
        refresh, _, _ = _timed(engine.refresh)
        return {"cpu": cpu, "refresh": refresh}


def compacting(photos: Path, folder: Path, count: int) -> Figures:
    """Merge what was added and drop what was removed, killed once on the way, and make the lists anew."""
    copy = folder / "copy.delf"
    command: list[str | Path] = [sys.executable, "-m", "delf", "compact", copy]
    with Collection.open(copy) as collection:
        before = int(collection.alive.sum())
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((copy / "segments").glob(".*")):  # it is writing a segment
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with Collection.open(copy) as collection:
        survived = int(collection.alive.sum()) == before
        cpu, _, _ = _timed(collection.compact)
        memory = _memory()
        made, _, _ = _timed(lambda: SearchEngine(collection, Delf.load(threads=1)))
        return {"cpu": cpu, "memory": memory, "lists": made, "killed": float(process.returncode == -signal.SIGKILL),
                "survived": float(survived and len(collection) == before)}


def checking(photos: Path, folder: Path, count: int) -> Figures:
    """Read all files of the copy, and compare them with what was written."""
    cpu, _, report = _timed(lambda: check_collection(folder / "copy.delf"))
    assert not report.problems, report.problems
    shutil.rmtree(folder / "copy.delf")
    return {"cpu": cpu, "memory": _memory()}


def exploring(photos: Path, folder: Path, count: int) -> Figures:
    """Match some images with all others through the lists; seconds of an image."""
    with Collection.open(_state(folder, count)) as collection, ThreadPoolExecutor(1) as pool:
        matcher = _Matcher(collection, Delf.load(threads=1), PairOptions(), lambda done, total: None)
        ordinals = np.random.default_rng(0).permutation(len(collection))[:MATCHED].tolist()
        found = 0
        start = time.process_time()
        for ordinal in ordinals:
            found += sum(pair.inliers >= PairOptions().confirmed for pair in matcher.judged(ordinal, {}, pool))
        return {"cpu": (time.process_time() - start) / MATCHED, "pairs": found / MATCHED, "memory": _memory()}


def scanning(photos: Path, folder: Path, count: int) -> Figures:
    """Walk the files of all images and find that nothing has changed."""
    with Collection.open(_state(folder, count), Delf.load(threads=1)) as collection:
        files = [made_file((folder / "made").absolute(), number).parent for number in range(0, count, FOLDER)]
        cpu, _, number = _timed(lambda: sum(1 for _ in find_images(files)))
        again, _, report = _timed(lambda: collection.add(files))
        assert (number, report.unchanged) == (count, count), (number, report)
        return {"listing": cpu, "again": again, "memory": _memory()}


STEPS: dict[str, Callable[[Path, Path, int], Figures]] = {
    "make": make, "pack": pack, "lists": lists, "open": opening, "search": searching, "add": adding,
    "remove": removing, "compact": compacting, "check": checking, "explore": exploring, "scan": scanning}


def _state(folder: Path, count: int) -> Path:
    """The collection when it had so many images."""
    return folder / f"{count}.delf"


def _linked(source: Path, target: Path) -> Path:
    """A copy of a collection, to keep or to change, whose segments are links to those of the other one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "segments", target / "segments", copy_function=os.link)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy2(path, target)
    return target


def _answer(engine: SearchEngine, query: Any) -> list[tuple[str, int]]:
    return [(one.key, one.inliers) for one in engine.search_features(query).results]


def _median(work: Callable[[Any], Any], queries: Sequence[Any]) -> float:
    return statistics.median(_timed(partial(work, one))[0] for one in queries)


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the processor, by the clock, and what the work gives."""
    start, wall = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - start, time.perf_counter() - wall, found


def pictures(photos: Path, counts: Sequence[int], openings: int) -> None:
    """Print the table of the second form."""
    print("| photos | features | segments | peak MiB, adding photos | with the index built | photos/s | ms to open | "
          "MiB of a process that opened it |\n|---|---|---|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            augment(photos, folder / "photos", count)
            asked = (folder / "photos", "--collection", folder / "places.delf")
            made = _child("index", *asked)
            opened = [_child("opened", *asked) for _ in range(openings)]
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


def index(collection: Path, photos: Path) -> Figures:
    """Index the photos into a new collection."""
    with Collection.create(collection, Delf.load(runtime="onnx", max_image_size=128)) as opened:
        start = time.perf_counter()
        report = opened.add(photos)
        seconds, adding = time.perf_counter() - start, _memory()
        build_index(opened)
        return {"features": opened.rows, "segments": len(opened.segments), "rate": report.added / seconds,
                "adding": adding, "memory": _memory()}


def opened(collection: Path, _: Path) -> Figures:
    """Open the collection."""
    start = time.perf_counter()
    with Collection.open(collection):
        return {"ms": 1000 * (time.perf_counter() - start), "memory": _memory()}


PICTURES: dict[str, Callable[[Path, Path], Figures]] = {"index": index, "opened": opened}


def _child(step: str, photos: Path, *more: str | Path) -> Figures:
    """A step in a process of its own."""
    command = [sys.executable, __file__, photos, "--step", step, *more]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _memory() -> float:
    """Peak of the process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _own() -> float:
    """What the process holds but for pages of files, which the system may take back, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    main()
