"""Recall, size and speed of the indexes on real descriptors.

    python benchmarks/index.py PHOTOS [--count 800] [--queries 20] [--dimensions 40 128] [--only lopq]
    python benchmarks/index.py COLLECTION --votes runs/holdout -o votes.json [--count 300] [--plot votes.png]

PHOTOS is a collection, whose descriptors are taken, or a folder of photos, of which RootSIFT is computed: of `count`
photos, with 128 dimensions, and 40 after a PCA learnt from them. Queries are the features of further photos, 1000 at a
time; recall@60 is the share of their 60 exact nearest neighbours that an index returns. Bytes are those of the index
file, by feature; "+ codes" marks what also reads the 8-bit codes. Searches are timed by the processor's clock: set
OMP_NUM_THREADS=1 to have what one thread takes.

With --votes, what faiss has is compared as well (`votes.py`), by what a search by votes wants of an index.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import votes

from delf.codes import Codes, decode, encode
from delf.collection import Collection
from delf.index import (
    LOPQ_PAPER,
    PAPER,
    ExactIndex,
    Index,
    IvfPqOptions,
    IvfPqQuantiser,
    LopqOptions,
    LopqQuantiser,
)
from delf.types import FloatArray, IntArray

K = 60


def main() -> None:
    """Print a table for 40 and for 128 dimensions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a collection, or a folder of photos")
    parser.add_argument("--count", type=int, default=800, help="photos in the index")
    parser.add_argument("--queries", type=int, default=20, help="photos to query with")
    parser.add_argument("--dimensions", type=int, nargs="+", choices=(40, 128), default=(40, 128))
    parser.add_argument("--only", default="", help="indexes whose names begin so")
    parser.add_argument("--votes", type=Path, help="a folder of holdout.py, of whose images COLLECTION is")
    parser.add_argument("-o", "--output", type=Path, help="what was measured by --votes, which is not measured again")
    parser.add_argument("--plot", type=Path, help="a PNG to write the picture of --votes to")
    arguments = parser.parse_args()
    if arguments.votes:
        votes.compare(arguments.photos, arguments.votes, arguments.count, arguments.queries, arguments.output,
                      arguments.plot, arguments.only)
        return
    described = descriptors(arguments.photos, arguments.count + arguments.queries)
    queries = np.concatenate(described[: arguments.queries])
    stored = np.concatenate(described[arguments.queries :])
    basis = principal_axes(stored, 40)
    print(f"{len(stored)} descriptors, {len(queries) // 1000} x 1000 queries, recall@{K}\n")
    print(f"{'dim':>4}  {'index':16}{'words':>7}{'code':>8}{'probes':>8}{'refine':>8}{'recall':>8}{'bytes':>8}"
          f"{'ms/1000':>9}{'train s':>9}{'build s':>9}")
    for dimensions in arguments.dimensions:
        axes = basis if dimensions == 40 else (np.zeros(128, np.float32), np.eye(128, dtype=np.float32))
        table(projected(stored, *axes), projected(queries[: len(queries) // 1000 * 1000], *axes), arguments.only)


def table(stored: FloatArray, queries: FloatArray, only: str) -> None:
    """Print a line for every index and number of probes."""
    codes, dimensions = encode(stored), stored.shape[1]
    exact = ExactIndex(codes)
    truth, milliseconds = timed(exact, queries)
    print(f"{dimensions:4}  {'exact':16}{'':31}{1:8.3f}{exact.nbytes / len(exact):8.1f}{milliseconds:9.0f}", flush=True)
    presets: dict[str, IvfPqOptions | LopqOptions] = {
        "ivfpq": IvfPqOptions(), "lopq": LopqOptions(), "lopq, half": LopqOptions(bits=4),
        "lopq, 40 of 128": LopqOptions(dimensions=40, segments=10, bits=5)}
    if dimensions == 40:
        presets = {"ivfpq, paper": PAPER, "lopq, paper": LOPQ_PAPER,
                   "ivfpq, 50 bits": IvfPqOptions(subquantizers=10, bits=5),
                   "lopq, 50 bits": LopqOptions(segments=10, bits=5), **presets}
        del presets["lopq, 40 of 128"]
    for name, options in presets.items():
        if name.startswith(only):
            compare(name, options, codes, stored, queries, truth)


def compare(name: str, options: IvfPqOptions | LopqOptions, codes: Codes, stored: FloatArray, queries: FloatArray,
            truth: IntArray) -> None:
    """Train and build once, then search with several numbers of probes, without and with refinement."""
    start = time.perf_counter()
    sample = stored[np.random.default_rng(1).permutation(len(stored))[:250_000]]
    quantiser: IvfPqQuantiser | LopqQuantiser
    if isinstance(options, LopqOptions):
        quantiser, probes = LopqQuantiser.train(sample, options, len(stored)), options.assignments
        segments = quantiser.segments
    else:
        quantiser, probes = IvfPqQuantiser.train(sample, options, len(stored)), options.probes
        segments = 8 * quantiser.code_size // options.bits
    trained = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        quantiser.build([codes], path)
        built = time.perf_counter()
        for probed in sorted({5, 8, 16, 32, probes}):
            for refined in (False, True):
                index = quantiser.open(path, codes if refined else None, probed)
                ids, milliseconds = timed(index, queries)
                print(f"{quantiser.dimensions:4}  {name:16}{quantiser.words:7}{segments:5}x{options.bits:<2}"
                      f"{probed:8}{f'x{options.refine}' if refined else '':>8}{recall(ids, truth):8.3f}"
                      f"{index.nbytes / len(index):8.1f}{milliseconds:9.0f}{trained - start:9.1f}"
                      f"{built - trained:9.1f}{'  + codes' if refined else ''}", flush=True)


def timed(index: Index, queries: FloatArray) -> tuple[IntArray, float]:
    """The ids of all queries, and the median time of a thousand in milliseconds of the processor."""
    ids, seconds = [], []
    for start in range(0, len(queries), 1000):
        began = time.process_time()
        ids.append(index.search(queries[start : start + 1000], K).ids)
        seconds.append(time.process_time() - began)
    return np.concatenate(ids), 1e3 * float(np.median(seconds))


def recall(found: IntArray, truth: IntArray) -> float:
    """The share of the true neighbours that were found."""
    return float(np.mean([np.isin(right, answer).mean() for answer, right in zip(found, truth, strict=True)]))


def descriptors(photos: Path, count: int) -> list[FloatArray]:
    """(N, 128) descriptors of each of `count` images of a collection, or photos of a folder, chosen at random."""
    if Collection.exists(photos):
        with Collection.open(photos) as collection:
            order = np.random.default_rng(0).permutation(len(collection))[:count]
            return [decode(encode(collection.features(int(ordinal)).descriptors)) for ordinal in order]
    paths = sorted(path for path in photos.rglob("*") if path.suffix in (".webp", ".jpg", ".jpeg", ".png"))
    order = np.random.default_rng(0).permutation(len(paths))[:count]
    return [root_sift(paths[number]) for number in order]


def root_sift(path: Path) -> FloatArray:
    """(N, 128) square-rooted SIFT descriptors (Arandjelović and Zisserman, CVPR 2012), at most 1000."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path} is not an image.")
    _, descriptors = cv2.SIFT.create(1000).detectAndCompute(image, None)
    values = np.zeros((0, 128), np.float32) if descriptors is None else np.asarray(descriptors, np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9))


def principal_axes(vectors: FloatArray, dimensions: int) -> tuple[FloatArray, FloatArray]:
    """The mean (D,) and the axes (D, dimensions) of largest variance."""
    mean = vectors.mean(axis=0)
    _, axes = np.linalg.eigh((vectors - mean).T @ (vectors - mean))
    return mean, np.ascontiguousarray(axes[:, ::-1][:, :dimensions])


def projected(vectors: FloatArray, mean: FloatArray, axes: FloatArray) -> FloatArray:
    """The unit vectors along the axes."""
    reduced = (vectors - mean) @ axes
    reduced /= np.maximum(np.linalg.norm(reduced, axis=1, keepdims=True), 1e-9)
    return reduced.astype(np.float32)


if __name__ == "__main__":
    main()
