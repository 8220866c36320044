"""What descriptors can be compressed to: quantisers of faiss beside the indexes of delf, on real descriptors.

    OMP_NUM_THREADS=1 python benchmarks/compression.py COLLECTION [--count 130] [--queries 3] [--plot front.png]

The features of `count` images of a collection are searched with those of further ones. recall@60 is the share of the 60
exact nearest that are found, `x4` that after four times as many are ranked by their 8-bit codes. Bytes are those of a
code, without the number of its row; ms are those of the processor, for a thousand queries. A row is marked `*` where no
other one has fewer bytes and more recall with x4. All search the nearest `probes` of as many cells.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from index import K, descriptors, recall, timed

from delf.codes import Codes, encode
from delf.index import ExactIndex, IvfPqOptions, IvfPqQuantiser, LopqOptions, LopqQuantiser
from delf.index.contract import rescored
from delf.types import FloatArray, IntArray

faiss: Any = _faiss
FACTORIES = ("IVF{},PQ16x8", "OPQ16,IVF{},PQ16x8", "OPQ32,IVF{},PQ32x8", "IVF{},PQ32x4fs", "IVF{},PQ64x4fs",
             "OPQ64,IVF{},PQ64x4fs", "IVF{},RaBitQ", "IVF{},RQ8x8", "IVF{},SQ4")
OURS = {"ivfpq 32x8": IvfPqOptions(), "lopq 32x8": LopqOptions(), "lopq 32x6": LopqOptions(bits=6),
        "lopq 32x4": LopqOptions(bits=4), "lopq 16x8": LopqOptions(segments=16),
        "lopq 16x5 of 64": LopqOptions(dimensions=64, segments=16, bits=5),
        "lopq 10x5 of 40": LopqOptions(dimensions=40, segments=10, bits=5)}


@dataclass(frozen=True)
class Row:
    """One method. plain, refined: recalls. milliseconds: of a thousand queries, without and with refinement."""

    name: str
    code: float
    plain: float
    refined: float
    milliseconds: tuple[float, float]
    build: float


def main() -> None:
    """Print a table, and draw the front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="a collection")
    parser.add_argument("--count", type=int, default=130, help="images that are searched")
    parser.add_argument("--queries", type=int, default=3, help="images to query with")
    parser.add_argument("--probes", type=int, default=32, help="cells that are searched")
    parser.add_argument("--plot", type=Path, help="a picture of recall by bytes")
    arguments = parser.parse_args()
    described = descriptors(arguments.collection, arguments.count + arguments.queries)
    queries, stored = (np.concatenate(part) for part in
                       (described[: arguments.queries], described[arguments.queries :]))
    queries, codes = queries[: len(queries) // 1000 * 1000], encode(stored)
    truth, words = timed(ExactIndex(codes), queries)[0], len(stored) // 256
    print(f"{len(stored)} descriptors of {stored.shape[1]} dimensions, {len(queries)} queries, {words} cells\n")
    print(f"  {'index':24}{'bytes':>8}{'recall':>8}{'x4':>8}{'ms':>8}{'x4 ms':>8}{'build s':>9}")
    rows = [*(ours(name, codes, stored, queries, truth, words, arguments.probes) for name in OURS),
            *(theirs(name, codes, stored, queries, truth, words, arguments.probes) for name in FACTORIES)]
    for row in sorted(rows, key=lambda row: row.code):
        mark = "*" if on_front(row, rows) else " "
        print(f"{mark} {row.name:24}{row.code:8.2f}{row.plain:8.3f}{row.refined:8.3f}{row.milliseconds[0]:8.0f}"
              f"{row.milliseconds[1]:8.0f}{row.build:9.1f}")
    if arguments.plot:
        draw(rows, arguments.plot)


def ours(name: str, codes: Codes, stored: FloatArray, queries: FloatArray, truth: IntArray, words: int,
         probes: int) -> Row:
    """One of delf's indexes."""
    options, start = OURS[name], time.process_time()
    quantiser: IvfPqQuantiser | LopqQuantiser
    if isinstance(options, LopqOptions):
        quantiser = LopqQuantiser.train(stored, LopqOptions(**{**vars(options), "words": words}))
        bits = quantiser.segments * options.bits
    else:
        quantiser = IvfPqQuantiser.train(stored, IvfPqOptions(words=words))
        bits = 8 * quantiser.code_size
    with tempfile.TemporaryDirectory() as folder:
        quantiser.build([codes], Path(folder) / "segment")
        spent = time.process_time() - start
        (plain, first), (refined, second) = (timed(quantiser.open(Path(folder) / "segment", at_hand, probes), queries)
                                             for at_hand in (None, codes))
    return Row(name, bits / 8, recall(plain, truth), recall(refined, truth), (first, second), spent)


def theirs(name: str, codes: Codes, stored: FloatArray, queries: FloatArray, truth: IntArray, words: int,
           probes: int) -> Row:
    """An index of faiss, searched for four times as many, of which the best are the plain answer."""
    start = time.process_time()
    index = faiss.index_factory(stored.shape[1], name.format(words), faiss.METRIC_INNER_PRODUCT)
    index.train(stored)
    index.add(stored)
    spent = time.process_time() - start
    ivf = faiss.extract_index_ivf(index)
    ivf.nprobe, times, answers = probes, [], []
    for count in (K, 4 * K):
        start = time.process_time()
        ids = index.search(queries, count)[1]
        answers.append(ids if count == K else rescored(queries, codes, ids, K).ids)
        times.append(1e6 * (time.process_time() - start) / len(queries))
    return Row(f"faiss {name.format(words)}", ivf.code_size, recall(answers[0], truth), recall(answers[1], truth),
               (times[0], times[1]), spent)


def on_front(row: Row, rows: list[Row]) -> bool:
    """Whether no other one is as good in both bytes and refined recall, and better in one."""
    return not any(other.code <= row.code and other.refined >= row.refined
                   and (other.code, other.refined) != (row.code, row.refined) for other in rows)


def draw(rows: list[Row], path: Path) -> None:
    """Recall by bytes, the front as a line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    front = sorted((row.code, row.refined) for row in rows if on_front(row, rows))
    axes.step(*zip(*front, strict=True), where="post", color="0.7")
    for row in rows:
        axes.plot(row.code, row.refined, "o", color="tab:red" if "faiss" in row.name else "tab:blue")
        axes.annotate(row.name.removeprefix("faiss "), (row.code, row.refined), fontsize=7, xytext=(3, 3),
                      textcoords="offset points")
    axes.set_xlabel("bytes of a code")
    axes.set_ylabel(f"recall@{K} after ranking four times as many")
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
