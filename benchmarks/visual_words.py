"""ASMK* on many images: time of a query, size, nearest words exactly and nearly, and the public package beside it.

    python benchmarks/visual_words.py COLLECTION [--images 100000] [--words 65536]

COLLECTION gives the descriptors: one made by `delf index` of a thousand photos or more, for 65,536 words. Of its images
as many are made as asked for: half of the words of one of them and half from all others, with an eighth of the bits of
each signature flipped. Lists are those of segments of 16,384 images, as `delf compact` makes them. Queries are images
of the collection with noise in their descriptors. What is compared is timed in the same run, one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.index import HOW, Asmk, AsmkIndex, AsmkLists, Codebook, CodebookOptions
from delf.index.asmk import Aggregate, Block
from delf.indexing import training_sample
from delf.types import FloatArray

SEGMENT, BATCH = 16384, 512


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=65536)
    parser.add_argument("--iterations", type=int, default=3, help="of k-means")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--public-images", type=int, default=2000, help="for the package asmk, whose building is slow")
    arguments = parser.parse_args()
    with Collection.open(arguments.collection) as collection:
        codebook, seconds = timed(Codebook.train, training_sample(collection, collection.rows),
                                  CodebookOptions(arguments.words, arguments.iterations))
        print(f"{len(codebook):,} words of {codebook.dimensions} dimensions, learnt from {collection.rows:,} "
              f"descriptors in {seconds:.0f} s ({arguments.iterations} iterations)")
        queries = noisy(collection, arguments.queries)
        compare_assignments(codebook, queries)
        asmk = Asmk(codebook, HOW)
        pool = aggregates(asmk, collection)
    with tempfile.TemporaryDirectory() as folder:
        lists, seconds = timed(build, asmk, pool, arguments.images, Path(folder))
        index = AsmkIndex(asmk, lists)
        print(f"{len(index):,} images with {sum(one.entries for one in lists) / len(index):.0f} words each, written in "
              f"{seconds:.0f} s: {index.nbytes / len(index):,.0f} bytes an image")
        search_all(asmk, index, queries)
        compare_with_public(asmk, pool, arguments.public_images, queries, Path(folder))


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """What some work gives, and the seconds that it takes."""
    start = time.perf_counter()
    return work(*arguments, **options), time.perf_counter() - start


def spread(seconds: list[float]) -> str:
    """Median, minimum and maximum in milliseconds."""
    low, middle, high = (1000 * float(np.quantile(seconds, share)) for share in (0, 0.5, 1))
    return f"{middle:.0f} ms ({low:.0f} to {high:.0f})"


def noisy(collection: Collection, count: int) -> list[FloatArray]:
    """The descriptors of some images, moved a little."""
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(collection.alive))[:count]
    queries = [collection.features(int(ordinal)).descriptors for ordinal in chosen]
    moved = [query + rng.normal(scale=0.03, size=query.shape) for query in queries]
    return [(query / np.linalg.norm(query, axis=1, keepdims=True)).astype(np.float32) for query in moved]


def compare_assignments(codebook: Codebook, queries: list[FloatArray]) -> None:
    """The nearest words, exactly and by way of quantised distances: how long, and how many are the same."""
    codebook.assign(queries[0], exact=False)  # quantises the words
    for count in (1, HOW.assignments):
        exact, quantised, shares = [], [], []
        for query in queries:
            truth, seconds = timed(codebook.assign, query, count, exact=True)
            exact.append(seconds)
            found, seconds = timed(codebook.assign, query, count, exact=False)
            quantised.append(seconds)
            shares.append(np.mean([len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True)]) / count)
        print(f"{count} nearest words of the {len(queries[0])} features of an image: {spread(exact)} exactly, "
              f"{spread(quantised)} by quantised distances, where {np.mean(shares):.1%} are the same")


def aggregates(asmk: Asmk, collection: Collection) -> Aggregate:
    """Of all images of the collection."""
    parts = [asmk.aggregate(collection.features(number).descriptors) for number in range(len(collection.alive))]
    owners = np.repeat(np.arange(len(parts)), [len(part.words) for part in parts])
    return Aggregate(owners, np.concatenate([part.words for part in parts]),
                     np.concatenate([part.signatures for part in parts]))


def build(asmk: Asmk, pool: Aggregate, count: int, folder: Path) -> list[AsmkLists]:
    """The lists of so many images that are like those of the pool."""
    rng = np.random.default_rng(0)
    return [asmk.write(synthetic(rng, pool, min(SEGMENT, count - first)), folder / f"{first}.lists")
            for first in range(0, count, SEGMENT)]


def synthetic(rng: np.random.Generator, pool: Aggregate, count: int) -> Iterator[Block]:
    """Blocks of images made from the pool."""
    starts = np.flatnonzero(np.diff(pool.images, prepend=-1, append=-1))
    for first in range(0, count, BATCH):
        images = min(BATCH, count - first)
        rows, owners = [], []
        for image in range(images):
            source = rng.integers(len(starts) - 1)
            own = np.arange(starts[source], starts[source + 1])
            other = rng.integers(len(pool.words), size=len(own) // 2)
            _, once = np.unique(pool.words[both := np.concatenate([own[::2], other])], return_index=True)
            rows.append(both[once])
            owners.append(np.full(len(once), image))
        chosen = np.concatenate(rows)
        yield Block(images, len(chosen), Aggregate(np.concatenate(owners), pool.words[chosen],
                                                   flipped(rng, pool.signatures[chosen])))


def flipped(rng: np.random.Generator, signatures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One bit in eight is another."""
    noise = [rng.integers(256, size=signatures.shape, dtype=np.uint8) for _ in range(3)]
    return signatures ^ (noise[0] & noise[1] & noise[2])


def search_all(asmk: Asmk, index: AsmkIndex, queries: list[FloatArray]) -> None:
    """The time of the two halves of a query, once all lists have been read."""
    index.search(queries[0])
    words, scores, aggregated = [], [], []
    for query in queries:
        aggregate, seconds = timed(asmk.query, query)
        words.append(seconds)
        aggregated.append(len(aggregate.words))
        scores.append(timed(index.scores, aggregate)[1])
    print(f"a query of {np.mean(aggregated):.0f} words: {spread(words)} to find and aggregate them, {spread(scores)} "
          f"to score all {len(index):,} images")


def compare_with_public(asmk: Asmk, pool: Aggregate, count: int, queries: list[FloatArray], folder: Path) -> None:
    """The same entries and queries in the package asmk (one process, one thread, as ours)."""
    try:
        from asmk import inverted_file, kernel  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        print("The package asmk is not installed, so nothing is compared with it.")
        return
    blocks = list(synthetic(np.random.default_rng(2), pool, count))
    lists, ours_built = timed(asmk.write, blocks, folder / "public.lists")
    index = AsmkIndex(asmk, [lists])
    public = inverted_file.IVF.initialize_empty(codebook_size=len(asmk.codebook), use_idf=False)

    def add() -> None:
        for number, block in enumerate(blocks):
            public.add(block.aggregate.signatures.view(np.uint32), block.aggregate.words,
                       block.aggregate.images + BATCH * number)

    _, public_built = timed(add)
    compare = kernel.ASMKKernel(None, binary=True)

    def similarity(*parts: Any) -> Any:
        return compare.similarity(*parts, alpha=HOW.alpha, similarity_threshold=HOW.threshold)

    ours, theirs, worst = [], [], 0.0
    for query in map(asmk.query, queries):
        scores, seconds = timed(index.scores, query)
        ours.append(seconds)
        (ranks, found), seconds = timed(public.search, query.signatures.view(np.uint32), query.words,
                                         similarity_func=similarity, topk=None)
        theirs.append(seconds)
        worst = max(worst, float(np.abs(scores[ranks] - found).max()))
    print(f"{count:,} images: {spread(ours)} to score, the package asmk {spread(theirs)}, "
          f"{np.median(theirs) / np.median(ours):.0f} times as long; writing {ours_built:.1f} s, asmk "
          f"{public_built:.1f} s; scores differ by {worst:.1e} at most")


if __name__ == "__main__":
    main()
