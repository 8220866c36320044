"""How many coarse words an index for votes should have, how many of them a search should look at, and what finds them.

    OMP_NUM_THREADS=1 python benchmarks/coarse.py holdout.delf --folder runs/holdout -o coarse.json [--count 300] \\
        [--queries 6] [--factors 0.5 1 2 4 8] [--plot coarse.png]

The features of `count` images of a folder of `holdout.py` are searched by those of a few of its queries, as in
`votes.py`: recall@60, and the share of the points that geometry confirms which are among the 60 nearest, ranked by
8-bit codes. A factor is the number of words in units of the root of the number of features. Each number of words is
searched with 1, 2, 4, ... probes. Where words are many, these are found in three ways: flat compares all words, HNSW
walks a graph of them (Malkov and Yashunin, TPAMI 2020), and two levels look at the words of the nearest cells, of which
there are as many as the root of their number. Times are those of a processor for a query of 1,000 features: that of the
words, and all.

A row is on the front if no other one of as few bytes and milliseconds finds as many points; all have the same bytes
here, 16 for a code and 8 for its number, but for what words and graph take, which is said by feature.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import votes

from delf.index import IvfPqOptions, IvfPqQuantiser
from delf.index.contract import rescored
from delf.index.words import Codebook
from delf.models import PACKAGED
from delf.types import FloatArray, IntArray

faiss: Any = _faiss
K, REFINE = 60, 4
TAUGHT, ROUNDS = 40, 4  # descriptors of the sample for each word that is learnt, and iterations of k-means
MANY, FAR = 2000, 8  # words and probes, of fewer of which all are compared: another way would save nothing
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)
LINKS, EFFORTS = 16, (32, 64, 128)  # of a node of HNSW; nodes that are kept while it is walked
Row = dict[str, Any]
Nearest = Callable[[FloatArray, int], tuple[FloatArray, IntArray]]  # queries, probes -> similarities, words


def main() -> None:
    """Measure what was not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="of full storage, with the images of the folder")
    parser.add_argument("--folder", type=Path, required=True, help="of holdout.py")
    parser.add_argument("-o", "--output", type=Path, required=True, help="what was measured, and is not again")
    parser.add_argument("--count", type=int, default=300, help="images that are searched")
    parser.add_argument("--queries", type=int, default=6)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1, 2, 4, 8])
    parser.add_argument("--plot", type=Path, help="a PNG to write the picture to")
    arguments = parser.parse_args()
    rows: list[Row] = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    todo = [factor for factor in arguments.factors if factor not in {row["factor"] for row in rows}]
    if todo:
        scene = votes.made(arguments.collection, arguments.folder, arguments.count, arguments.queries)
        print(f"{len(scene.codes):,} features of {len(scene.starts) - 1} images, {len(scene.queries)} queries, "
              f"{len(scene.points):,} points; exact: {scene.measured(scene.exact)}", flush=True)
        for factor in todo:
            rows += measured(scene, factor)
            arguments.output.write_text(json.dumps(rows, indent=1))
    show(rows)
    print_coarse()
    if arguments.plot:
        draw(rows, arguments.plot)


def measured(scene: votes.Scene, factor: float) -> Iterator[Row]:
    """Rows of a number of words, for each way to find them and each number of probes."""
    words, start = round(factor * math.sqrt(len(scene.codes))), time.process_time()
    quantiser = IvfPqQuantiser.train(scene.sample[: TAUGHT * words], IvfPqOptions(words=words, iterations=ROUNDS),
                                     len(scene.codes))
    with tempfile.TemporaryDirectory() as folder:
        opened = quantiser.build([scene.codes], Path(folder) / "lists")
        index = opened._index  # which refers to what `opened` has mapped
        built = time.process_time() - start
        for name, nearest, nbytes in ways(index.quantizer.reconstruct_n(0, words)):
            for probes in PROBES:
                if probes * 2 > words or (name != "flat" and (words < MANY or probes < FAR)):
                    continue
                start = time.process_time()
                similarities, cells = nearest(scene.asked, probes)
                found = time.process_time()
                index.nprobe = probes
                _, ids = index.search_preassigned(scene.asked, REFINE * K, cells, similarities)
                ranked = rescored(scene.asked, scene.codes, ids, K).ids
                ended, thousands = time.process_time(), len(scene.asked) / 1e6
                yield {"factor": factor, "words": words, "built": built, "coarse": name, "probes": probes,
                       "bytes": 24 + nbytes / len(scene.codes), "ms of words": (found - start) / thousands,
                       "ms": (ended - start) / thousands, **scene.measured(ranked)}


def ways(words: FloatArray) -> Iterator[tuple[str, Nearest, int]]:
    """Ways to find the most similar of some words: a name, what finds them, and the bytes that it takes."""
    flat = faiss.IndexFlatIP(words.shape[1])
    flat.add(words)
    yield "flat", flat.search, words.nbytes
    graph = faiss.IndexHNSWFlat(words.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.add(words)
    for effort in EFFORTS:
        def walked(queries: FloatArray, probes: int, effort: int = effort) -> tuple[FloatArray, IntArray]:
            graph.hnsw.efSearch = max(effort, probes)
            found: tuple[FloatArray, IntArray] = graph.search(queries, probes)
            return found

        yield f"HNSW, {effort}", walked, words.nbytes + 4 * 2 * LINKS * len(words)
    count = round(math.sqrt(len(words)))
    top = faiss.IndexFlatIP(words.shape[1])
    cells = faiss.IndexIVFFlat(top, words.shape[1], count, faiss.METRIC_INNER_PRODUCT)
    cells.cp.min_points_per_centroid = 1
    cells.train(words)
    cells.add(words)
    for share in (8, 4):
        def descended(queries: FloatArray, probes: int, share: int = share) -> tuple[FloatArray, IntArray]:
            cells.nprobe = max(1, count // share)
            found: tuple[FloatArray, IntArray] = cells.search(queries, probes)
            return found

        yield f"two levels, 1/{share}", descended, words.nbytes


def print_coarse() -> None:
    """What the three ways cost for many words: those of the packaged model, of which real descriptors ask."""
    words = np.ascontiguousarray(Codebook.load(PACKAGED / "delf-r18.words").words)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    queries = words[rng.integers(len(words), size=2000)] + rng.normal(0, 0.06, (2000, words.shape[1]))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    print("\n| words | by | ms for 32 of 1,000 queries | of the nearest 32, found |\n|---|---|---|---|")
    for count in (2048, 16384):
        right = None
        for name, nearest, _ in ways(words[:count]):
            start = time.process_time()
            found = nearest(queries, 32)[1]
            seconds = time.process_time() - start
            right = found if right is None else right
            share = np.mean([np.isin(one, other).mean() for one, other in zip(right, found, strict=True)])
            print(f"| {count:,} | {name} | {1e6 * seconds / len(queries):.0f} | {100 * share:.1f} % |", flush=True)


def front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other is as quick as, with as many inliers."""
    return [one for one in rows if not any(
        other is not one and other["ms"] <= one["ms"] and other["inliers"] >= one["inliers"]
        and (other["ms"], other["inliers"]) != (one["ms"], one["inliers"]) for other in rows)]


def show(rows: Sequence[Row]) -> None:
    """Print a line for each number of words and probes; the flat quantiser, and what is on the front."""
    best = {id(row) for row in front(rows)}
    print("| words / root of N | words | found by | probes | recall@60 | inliers | mAP | ms of words | ms | bytes |\n"
          + "|---" * 10 + "|")
    for row in sorted(rows, key=lambda row: row["factor"]):
        if row["coarse"] != "flat" and id(row) not in best:
            continue
        mark = "**" if id(row) in best else ""
        print(f"| {row['factor']:g} | {row['words']:,} | {row['coarse']} | {row['probes']} | {row['recall']:.3f} | "
              f"{mark}{row['inliers']:.3f}{mark} | {row['map']:.1f} | {row['ms of words']:.0f} | {row['ms']:.0f} | "
              f"{row['bytes']:.1f} |")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the inliers against the time, a line for each number of words, with the front of all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for factor in sorted({row["factor"] for row in rows}):
        some = sorted((row for row in rows if row["factor"] == factor and row["coarse"] == "flat"),
                      key=lambda row: row["ms"])
        axes.plot([row["ms"] for row in some], [row["inliers"] for row in some], marker="o", markersize=3,
                  label=f"{some[0]['words']:,} words, {factor:g} roots of N")
    best = sorted(front(rows), key=lambda row: row["ms"])
    axes.plot([row["ms"] for row in best], [row["inliers"] for row in best], color="0.3", linestyle="--", linewidth=1,
              label="the front, however words are found")
    axes.set(xscale="log", xlabel="ms of a processor for a query of 1,000 features",
             ylabel="verified points among the 60 nearest")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
