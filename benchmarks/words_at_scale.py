"""The stages of a query by visual words on up to a million images, whose lists are made from real photos.

    delf index PHOTOS -o photos.delf
    python benchmarks/words_at_scale.py photos.delf --images 1000000 --lists LISTS [--queries 40] [--only-make]
    python benchmarks/words_at_scale.py grown.delf --photos PHOTOS

The second form searches a collection as it is, with the photos of a folder. In the first, some of the photos are the
queries, and the images are made of all others: half of the words of one photo and a quarter of those of two others,
with one bit in eight of each signature flipped. So what is near in the words of photos is near here as well, and a
photo that shows the same place as a query is found in many images, as a famous one is. The lists take 10 kB an image
and stay in the folder LISTS, of which a run that begins again makes only what is missing; they are of segments of
16,384 images. What an image is verified by are the features of the photo that gave it most.

Each query is searched once, which extracts its features, and then again, which is timed: all that is not extraction.
The table says that for all queries, and for those without a match; how many bytes of lists their words have, and how
long it takes to read as many at the bandwidth that is measured here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection, Snapshot, Stored
from delf.collection.packing import FULL
from delf.images import find_images
from delf.index import HOW, Asmk, scanning
from delf.index.asmk import Aggregate, Block
from delf.index.lists import SignatureLists
from delf.index.scanning import Scan, Wanted
from delf.methods import DEFAULT_METHOD, METHODS
from delf.query import Query
from delf.retrieval.asmk import lists_of
from delf.retrieval.words import find_codebook
from delf.search import SearchEngine, load_extractor
from delf.types import Features, IntArray

SEGMENT, BATCH = 16384, 512
SHARES = (0.5, 0.25, 0.25)  # of the words of the photos that an image is made of
STAGES = ("retrieve", "verify", "rank", "turn")


def main() -> None:
    """Make the lists and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--lists", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--held", type=int, help="bytes of lists that count as memory of the process at most")
    parser.add_argument("--numpy", action="store_true", help="do without numba")
    parser.add_argument("--only-make", action="store_true")
    arguments = parser.parse_args()
    with Collection.open(arguments.collection) as collection:
        extractor = load_extractor(collection)
        if extractor.model_file is None:
            raise SystemExit("The collection must be of a model that brings its visual words, such as delf-r18.")
        asmk = Asmk(find_codebook(collection, extractor.model_file).codebook, HOW)
        if arguments.photos:
            searched: Stored = collection
            asked = list(find_images([arguments.photos]))
        elif arguments.lists:
            order = np.random.default_rng(0).permutation(len(collection.alive))
            searched = made(collection.snapshot, asmk, arguments.images, arguments.lists,
                            np.sort(order[arguments.queries :]))
            asked = [collection.image(int(one)).file for one in order[: arguments.queries]]
        else:
            raise SystemExit("Either --lists or --photos is needed.")
        if arguments.only_make:
            return
        if arguments.numpy:
            scanning.COMPILED_FROM = sys.maxsize
        options = METHODS[DEFAULT_METHOD]
        options = replace(options, retrieval=replace(options.retrieval, held=arguments.held))
        computed = time.process_time()
        engine, seconds = timed(SearchEngine, searched, extractor, options=options)
        print(f"{len(searched):,} images, opened in {seconds:.2f} s ({time.process_time() - computed:.2f} s computed); "
              f"memory {memory()}")
        queries = [Query.of_photo(extractor, one) for one in asked]
        measure(engine, asmk, queries)


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """What some work gives, and the seconds that it takes."""
    start = time.perf_counter()
    return work(*arguments, **options), time.perf_counter() - start


# --- making


@dataclass(frozen=True, eq=False)
class MadeSegment:
    """As much of a `Segment` as a search looks at. sources: the photo of each image, in the snapshot `photos`."""

    folder: Path
    photos: Snapshot
    sources: IntArray
    packing = FULL

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.sources)

    @property
    def rows(self) -> int:
        """As many features as words; lists say the same."""
        return int(np.load(self.folder / "rows.npy"))

    @cached_property
    def sizes(self) -> IntArray:
        """(n, 2) width and height of the photo that each image is made of."""
        return np.array([self.photos.size(int(source)) for source in self.sources])

    def features(self, position: int) -> Features:
        """Those of the photo that an image is made of."""
        return self.photos.features(int(self.sources[position]))

    def expect(self, position: int) -> None:
        """Nothing: photos are in memory soon."""

    def key(self, position: int) -> bytes:
        """As `features`."""
        return bytes.fromhex(self.photos.key_of(int(self.sources[position])))


def made(photos: Snapshot, asmk: Asmk, count: int, folder: Path, chosen: IntArray) -> Snapshot:
    """A state of a collection with so many images, made of the chosen photos."""
    pool = aggregates(asmk, photos, chosen)
    segments = []
    for number, first in enumerate(range(0, count, SEGMENT)):
        place, images = folder / f"{number:04}", min(SEGMENT, count - first)
        drawn = np.random.default_rng([0, number]).integers(len(chosen), size=(images, len(SHARES)))
        segment = MadeSegment(place, photos, chosen[drawn[:, 0]])
        if not is_made(asmk, segment):
            start = time.perf_counter()
            place.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([1, number])
            lists = asmk.write(blocks(rng, pool, drawn), lists_of(segment, asmk))  # type: ignore[arg-type]
            np.save(place / "rows.npy", lists.rows)
            print(f"segment {number} of {-(-count // SEGMENT)}: {lists.entries / images:.0f} words an image, "
                  f"{time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        segments.append(segment)
    sizes = [segment.images for segment in segments]
    return replace(photos, segments=tuple(segments), segment_ids=tuple(range(len(segments))),  # type: ignore[arg-type]
                   bases=np.cumsum([0, *sizes]), alive=np.ones(count, np.bool_), indexes={},
                   starts=np.arange(count + 1))


def is_made(asmk: Asmk, segment: MadeSegment) -> bool:
    """Whether the lists of a segment are there, of as many images."""
    path = lists_of(segment, asmk)  # type: ignore[arg-type]
    return (segment.folder / "rows.npy").exists() and path.exists() and asmk.open(path).images == segment.images


def aggregates(asmk: Asmk, photos: Snapshot, chosen: IntArray) -> Aggregate:
    """Of the chosen photos, which count from 0."""
    parts = [asmk.aggregate(photos.features(int(number)).descriptors) for number in chosen]
    owners = np.repeat(np.arange(len(parts)), [len(part.words) for part in parts])
    return Aggregate(owners, np.concatenate([part.words for part in parts]),
                     np.concatenate([part.signatures for part in parts]))


def blocks(rng: np.random.Generator, pool: Aggregate, drawn: IntArray) -> Iterator[Block]:
    """Images of drawn photos, (n, 3), a batch at a time."""
    counts = np.bincount(pool.images)
    starts = np.cumsum(counts) - counts
    for first in range(0, len(drawn), BATCH):
        photos = drawn[first : first + BATCH].ravel()
        lengths = counts[photos]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(starts[photos] - (ends - lengths), lengths)
        part = np.repeat(np.arange(len(photos)), lengths)
        kept = rng.random(len(rows)) < np.take(SHARES, part % len(SHARES))
        rows, images = rows[kept], part[kept] // len(SHARES)
        # Sorted by image, word and place: the first one of an image and a word is kept.
        order = np.sort(images << 44 | pool.words[rows] << 20 | np.arange(len(rows)))
        once = order[np.diff(order >> 20, prepend=-1) != 0] & (1 << 20) - 1
        signatures = flipped(rng, pool.signatures[rows[once]])
        yield Block(len(photos) // len(SHARES), len(once), Aggregate(images[once], pool.words[rows[once]], signatures))


def flipped(rng: np.random.Generator, signatures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One bit in eight is another."""
    noise = [np.frombuffer(rng.bytes(signatures.size), np.uint8).reshape(signatures.shape) for _ in range(3)]
    return signatures ^ (noise[0] & noise[1] & noise[2])


# --- measuring


class Watch:
    """Counts what threads compute while they look through lists."""

    def __init__(self, scan: Scan) -> None:
        self._scan, self.seconds = scan, 0.0

    def __call__(self, lists: SignatureLists, wanted: Wanted) -> Any:
        """As `delf.index.scanning.add_up`."""
        start = time.thread_time()
        found = self._scan(lists, wanted)
        self.seconds += time.thread_time() - start
        return found


def measure(engine: SearchEngine, asmk: Asmk, queries: list[Query]) -> None:
    """Print how long queries take."""
    index: Any = engine.retriever._images._index  # type: ignore[attr-defined]
    index._scan = watch = Watch(index._scan)
    rows: list[dict[str, float]] = []
    for number, query in enumerate(queries):
        engine.answer(query)  # features and turns are extracted
        watch.seconds, computed = 0.0, time.process_time()
        answer, seconds = timed(engine.answer, query)
        row = {**answer.seconds, "whole": seconds, "computed": time.process_time() - computed, "lists": watch.seconds,
               "match": float(bool(answer.match)), "bytes": bytes_read(index, asmk, query.features)}
        words, row["words"] = timed(asmk.query, query.features.descriptors)
        watch.seconds, computed = 0.0, time.process_time()
        row["scan"] = timed(index.scores, words)[1]
        row["scan, computed"] = time.process_time() - computed
        rows.append(row)
        print(f"query {number + 1} of {len(queries)}: {seconds:.3f} s, {answer.verdict}", file=sys.stderr, flush=True)
    for name, chosen in (("all", rows), ("without a match", [row for row in rows if not row["match"]])):
        if chosen:
            stages = "; ".join(f"{stage} {spread(chosen, stage)}" for stage in STAGES)
            print(f"{name}, {len(chosen)} queries: {spread(chosen, 'whole')}; {stages}; computed by all threads "
                  f"{spread(chosen, 'computed')}, in lists {spread(chosen, 'lists')}")
    speed, read = bandwidth(index), float(np.median([row["bytes"] for row in rows]))
    print(f"a query as it is: its words are found in {spread(rows, 'words')}; {read / 1e6:,.0f} MB of lists are scored "
          f"in {spread(rows, 'scan')}, computed by all threads {spread(rows, 'scan, computed')}; at the "
          f"{speed / 1e9:.1f} GB/s that one thread reads here, to read them takes {1000 * read / speed:.0f} ms")
    print(f"memory {memory()}")


def bytes_read(index: Any, asmk: Asmk, query: Features) -> int:
    """Signatures and images of the lists of the words of a query."""
    words = asmk.query(query.descriptors).words
    return sum(int(part.sizes[words].sum()) * (part.signatures[0].nbytes + part.owners.itemsize)
               for part in index._lists)


def bandwidth(index: Any) -> float:
    """Bytes a second of signatures that one thread adds up, in the best of some attempts."""
    rows = max((part.signatures for part in index._lists), key=len)
    return float(rows.nbytes / min(timed(rows.sum)[1] for _ in range(7)))


def spread(rows: list[dict[str, float]], name: str) -> str:
    """Median and 95th percentile in milliseconds."""
    middle, high = (1000 * float(np.quantile([row.get(name, 0.0) for row in rows], share)) for share in (0.5, 0.95))
    return f"{middle:.0f} ms ({high:.0f})"


def memory() -> str:
    """What this process holds: of its own, and of files, which the system may take back at any time."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return "unknown"
    held = {name: int(value.split()[0]) / 1e6 for name, value in (line.split(":", 1) for line in lines)
            if name in ("RssAnon", "RssFile")}
    return f"{held['RssAnon']:.2f} GB, and {held['RssFile']:.2f} GB of files"


if __name__ == "__main__":
    main()
