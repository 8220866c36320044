"""Which index suits votes: what faiss has beside ours, for `index.py`.

Of a folder of `holdout.py`, some queries ask a part of its images, those that show the same among them. An index gives
60 neighbours of each feature of a query, with and without ranking four times as many by their 8-bit codes. Measured is

- recall: the share of the 60 exact nearest among them;
- inliers: of the points that geometry confirms between a query and an image that shows the same, the share whose
  feature of the image is among the neighbours of that of the query: what a search by votes is about;
- mAP (Medium) of the images in the order of their votes;
- milliseconds of a processor for the 1,000 features of a query, on one thread;
- bytes of a code. The number of its row comes on top: 8 bytes in the lists of faiss, and no more bits than the rows of
  a segment need in those of `lopq`.

All indexes of faiss have the same words, but where their number is swept. Rotations are learnt from what is left of
descriptors beside their words. Points are those of the usual verification with 20 inliers or more.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np

from delf.codes import Codes, decode
from delf.collection import Collection
from delf.datasets.folders import read_benchmark
from delf.evaluation.metrics import average_precision, mean_of_defined, positive_ranks
from delf.evaluation.protocols import MEDIUM
from delf.features import Delf
from delf.images import read_image
from delf.index import ExactIndex, IvfPqOptions, IvfPqQuantiser, LopqOptions, LopqQuantiser
from delf.index.contract import rescored
from delf.ranking import count_votes
from delf.types import Features, FloatArray, IntArray, Neighbours
from delf.verification import match_and_verify

faiss: Any = _faiss
K, REFINE, LEAST, SAMPLE, VERIFIED = 60, 4, 20, 500_000, 12
FEW = 50_000  # descriptors that additive quantisers and rotations are learnt from: they take minutes
WORDS, PROBES = 2048, (8, 16, 32)
Row = dict[str, Any]
Search = Callable[[FloatArray, int, int], IntArray]  # queries, neighbours, probes -> rows


@dataclass(frozen=True, eq=False)
class Scene:
    """What is searched, and what is right.

    codes: (N, D) of all features. starts: (n + 1,) where those of each image begin. queries: features of each. right,
    junk: images for each query. points: (P, 2) rows of all queries, and of what is searched.
    """

    codes: Codes
    starts: IntArray
    queries: Sequence[Features]
    right: Sequence[IntArray]
    junk: Sequence[IntArray]
    points: IntArray

    @cached_property
    def asked(self) -> FloatArray:
        """The descriptors of all queries."""
        return np.concatenate([one.descriptors for one in self.queries])

    @cached_property
    def exact(self) -> IntArray:
        """(Q, 60) the true neighbours."""
        return ExactIndex(self.codes).search(self.asked, K).ids

    @cached_property
    def sample(self) -> FloatArray:
        """Descriptors to learn from."""
        return decode(self.codes[np.random.default_rng(0).permutation(len(self.codes))[:SAMPLE]])

    def measured(self, ids: IntArray) -> Row:
        """What (Q, 60) neighbours are worth."""
        recall = float(np.mean([np.isin(exact, found).mean() for found, exact in zip(ids, self.exact, strict=True)]))
        inliers = float((ids[self.points[:, 0]] == self.points[:, 1:]).any(axis=1).mean())
        return {"recall": recall, "inliers": inliers, "map": 100 * (mean_of_defined(self._aps(ids)) or 0.0)}

    def _aps(self, ids: IntArray) -> list[float | None]:
        found, first = [], 0
        for query, right, junk in zip(self.queries, self.right, self.junk, strict=True):
            rows = ids[first : first + len(query)]
            first += len(query)
            images = np.searchsorted(self.starts, rows, side="right") - 1
            ranking = count_votes(Neighbours(rows, np.ones(rows.shape, np.float32)), images).images
            found.append(average_precision(positive_ranks(ranking, right, junk), len(right)))
        return found


def compare(collection: Path, folder: Path, images: int, queries: int, output: Path, plot: Path | None,
            only: str = "") -> None:
    """Measure all that was not measured yet, print the table, and draw it."""
    rows: list[Row] = json.loads(output.read_text()) if output.exists() else []
    names = {row["index"] for row in rows}
    todo = {name: make for name, make in systems().items() if name not in names and name.startswith(only)}
    if todo:
        scene = made(collection, folder, images, queries)
        print(f"{len(scene.codes):,} features of {len(scene.starts) - 1} images, {len(scene.queries)} queries, "
              f"{len(scene.points):,} points", flush=True)
        if not rows:
            rows.append({"index": "exact", "words": 0, "probes": 0, "bytes": scene.codes.shape[1], "ms": 0.0,
                         **scene.measured(scene.exact)})
        for name, make in todo.items():
            rows += measure(name, make, scene)
            output.write_text(json.dumps(rows, indent=1))
    show(rows)
    if plot:
        draw(rows, plot)


def made(collection: Path, folder: Path, count: int, asked: int) -> Scene:
    """Queries that are spread over the classes, and the images that concern them, filled up with others."""
    benchmark, extractor = read_benchmark(folder), Delf.load(threads=1)
    chosen = np.linspace(0, len(benchmark.queries) - 1, asked).astype(int).tolist()
    entries = [benchmark.truth.entries[number] for number in chosen]
    own = sorted({one for entry in entries for one in entry.indices((*MEDIUM.positive, *MEDIUM.junk)).tolist()})
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(benchmark.images)), own)).tolist()
    images = [*own, *others[: max(0, count - len(own))]]
    place = {image: number for number, image in enumerate(images)}
    with Collection.open(collection) as opened:
        stored = [opened.features(opened.ordinal_of(benchmark.images[image]) or 0) for image in images]
        codes = np.concatenate([segment_codes(opened, opened.ordinal_of(benchmark.images[image]) or 0)
                                for image in images])
    queries = [extractor.extract(read_image(benchmark.queries[number])) for number in chosen]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in stored])])
    right = [np.array([place[one] for one in entry.indices(MEDIUM.positive).tolist()]) for entry in entries]
    junk = [np.array([place[one] for one in entry.indices(MEDIUM.junk).tolist()], np.int64) for entry in entries]
    bases = np.cumsum([0, *(len(one) for one in queries)])
    points = [verified(query, stored[image]) + np.array([base, starts[image]])
              for query, base, some in zip(queries, bases, right, strict=False) for image in some[:VERIFIED].tolist()]
    return Scene(codes, starts, queries, right, junk, np.concatenate(points))


def segment_codes(collection: Collection, ordinal: int) -> Codes:
    """The stored codes of an image."""
    rows = slice(*collection.snapshot.starts[ordinal : ordinal + 2].tolist())
    segment = int(np.searchsorted(collection.snapshot.bases, ordinal, side="right")) - 1
    first = int(collection.snapshot.starts[collection.snapshot.bases[segment]])
    return collection.segments[segment].descriptors[rows.start - first : rows.stop - first]


def verified(query: Features, image: Features) -> IntArray:
    """(P, 2) rows that geometry confirms, if they are many."""
    found = match_and_verify(query, image)
    return found.inliers if len(found) >= LEAST else np.zeros((0, 2), np.int64)


# --- indexes


def systems() -> dict[str, Callable[[Scene], tuple[int, float, Search]]]:
    """What makes each: words, bytes of a code, and what searches."""
    flat: dict[str, Callable[[Any, int], Any]] = {
        "PQ32x4fs": lambda words, n: faiss.IndexIVFPQFastScan(words, 128, n, 32, 4),
        "RaBitQ": lambda words, n: faiss.IndexIVFRaBitQ(words, 128, n, faiss.METRIC_L2),
        "PQ16x8": lambda words, n: faiss.IndexIVFPQ(words, 128, n, 16, 8),
        "PQ64x4fs": lambda words, n: faiss.IndexIVFPQFastScan(words, 128, n, 64, 4),
        "RaBitQ 2 bits": lambda words, n: faiss.IndexIVFRaBitQ(words, 128, n, faiss.METRIC_L2, True, 2),
        "PRQ 8x2x8": lambda words, n: faiss.IndexIVFProductResidualQuantizer(words, 128, n, 8, 2, 8),
        "PLSQ 8x2x8": lambda words, n: faiss.IndexIVFProductLocalSearchQuantizer(words, 128, n, 8, 2, 8)}
    own: dict[str, Callable[[Scene], tuple[int, float, Search]]] = {
        "ivfpq 16x8": partial(_own, IvfPqQuantiser, IvfPqOptions()),
        "ivfpq 32x8": partial(_own, IvfPqQuantiser, IvfPqOptions(subquantizers=32)),
        "lopq 32x4": partial(_own, LopqQuantiser, LopqOptions(bits=4)),
        "lopq 32x8": partial(_own, LopqQuantiser, LopqOptions())}
    turned = {f"OPQ, {name}": partial(_of_faiss, flat[name], WORDS, int(name[2:4]))
              for name in ("PQ16x8", "PQ32x4fs", "PQ64x4fs")}
    swept = {f"{name}, {words} words": partial(_of_faiss, flat[name], words, 0)
             for name in ("PQ32x4fs",) for words in (512, 8192)}
    return {**own, **{name: partial(_of_faiss, make, WORDS, 0) for name, make in flat.items()}, **swept, **turned}


def _of_faiss(make: Callable[[Any, int], Any], words: int, rotated: int, scene: Scene) -> tuple[int, float, Search]:
    """rotated: of how many parts the rotation is for; 0 does without."""
    coarse = _words(scene.sample, words)
    turn = np.eye(128, dtype=np.float32)
    if rotated:
        index = faiss.IndexFlatL2(128)
        index.add(coarse)
        some = scene.sample[:FEW]
        left = some - coarse[index.search(some, 1)[1][:, 0]]
        rotation = faiss.OPQMatrix(128, rotated)
        rotation.niter, rotation.niter_pq = 8, 4
        rotation.train(left)
        turn = faiss.vector_to_array(rotation.A).reshape(128, 128).T
    quantizer = faiss.IndexFlatL2(128)
    quantizer.add(np.ascontiguousarray(coarse @ turn))
    index = make(quantizer, words)
    some = scene.sample[:FEW] if hasattr(index, "prq") or hasattr(index, "plsq") else scene.sample
    index.train(np.ascontiguousarray(some @ turn))
    for start in range(0, len(scene.codes), 65536):
        index.add(np.ascontiguousarray(decode(scene.codes[start : start + 65536]) @ turn))

    def search(queries: FloatArray, count: int, probes: int) -> IntArray:
        index.nprobe = probes
        found: IntArray = index.search(np.ascontiguousarray(queries @ turn), count)[1]
        return found

    search.keep = quantizer  # type: ignore[attr-defined]  # faiss refers to it, and does not own it
    return words, float(index.code_size), search


def _words(sample: FloatArray, count: int) -> FloatArray:
    kmeans = faiss.Kmeans(128, count, niter=8, seed=0, min_points_per_centroid=1, max_points_per_centroid=40)
    kmeans.train(sample)
    found: FloatArray = kmeans.centroids
    return found


def _own(kind: Any, options: Any, scene: Scene) -> tuple[int, float, Search]:
    """One of ours, in a file."""
    folder = tempfile.TemporaryDirectory()
    quantiser = kind.train(scene.sample, options, len(scene.codes))
    place = Path(folder.name) / "lists"
    quantiser.build([scene.codes], place)

    def search(queries: FloatArray, count: int, probes: int) -> IntArray:
        found: IntArray = quantiser.open(place, None, probes).search(queries, count).ids
        return found

    search.keep = folder  # type: ignore[attr-defined]
    size = quantiser.code_size if isinstance(options, IvfPqOptions) else quantiser.segments * options.bits / 8
    return quantiser.words, float(size), search


def measure(name: str, make: Callable[[Scene], tuple[int, float, Search]], scene: Scene) -> list[Row]:
    """Rows for several numbers of probes, as they are and ranked by 8-bit codes."""
    start = time.process_time()
    words, size, search = make(scene)
    built, rows = time.process_time() - start, list[Row]()
    for probes in PROBES:
        start = time.process_time()
        ids = search(scene.asked, REFINE * K, probes)
        found = time.process_time()
        ranked = rescored(scene.asked, scene.codes, ids, K).ids
        ended, thousands = time.process_time(), len(scene.asked) / 1e6
        about = {"index": name, "words": words, "probes": probes, "bytes": size, "built": built}
        rows += [{**about, "refined": False, "ms": (found - start) / thousands, **scene.measured(ids[:, :K])},
                 {**about, "refined": True, "ms": (ended - start) / thousands, **scene.measured(ranked)}]
        print(rows[-2:], flush=True)
    return rows


# --- what is shown


def front(rows: Sequence[Row], value: str) -> list[Row]:
    """Rows that no other has as few bytes and milliseconds as, with more of the value."""
    return [one for one in rows if not any(
        other is not one and other["bytes"] <= one["bytes"] and other["ms"] <= one["ms"] and other[value] >= one[value]
        and (other["bytes"], other["ms"], other[value]) != (one["bytes"], one["ms"], one[value]) for other in rows)]


def show(rows: Sequence[Row]) -> None:
    """Print a line for each index, at 16 and 32 probes."""
    print("| index | words | bytes | built s | probes | recall@60, with x4 | inliers, with x4 | mAP, with x4 | "
          "ms/1,000, with x4 |\n|---|---|---|---|---|---|---|---|---|")
    best = {id(row) for row in front([row for row in rows if row["probes"]], "inliers")}
    for row in rows:
        if row.get("refined") or row["probes"] not in (0, 16, 32):
            continue
        more = next((other for other in rows if other["index"] == row["index"] and other["probes"] == row["probes"]
                     and other.get("refined")), row)
        marks = ["**" if id(one) in best else "" for one in (row, more)]
        cells = [f"{row[name]:{form}}, {more[name]:{form}}"
                 for name, form in (("recall", ".3f"), ("inliers", ".3f"), ("map", ".1f"), ("ms", ".0f"))]
        cells[1] = f"{marks[0]}{row['inliers']:.3f}{marks[0]}, {marks[1]}{more['inliers']:.3f}{marks[1]}"
        about = f"{row['words']:,} | {row['bytes']:.0f} | {row.get('built', 0):.0f} | {row['probes']}"
        print(f"| {row['index']} | {about} | {' | '.join(cells)} |")


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the inliers that are found against time, ranked by 8-bit codes and not; colours are bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    whole = next(row for row in rows if row["index"] == "exact")
    for refined, axes in zip((False, True), panels, strict=True):
        for name in dict.fromkeys(row["index"] for row in rows if row["probes"]):
            some = sorted((row for row in rows if row["index"] == name and row["refined"] is refined),
                          key=lambda row: row["ms"])
            axes.plot([row["ms"] for row in some], [row["inliers"] for row in some], marker="o", markersize=3,
                      label=f"{name}: {some[0]['bytes']:.0f} bytes", linewidth=2 if name[0].islower() else 1)
        axes.axhline(whole["inliers"], color="0.6", linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel="ms of a processor for a query of 1,000 features",
                 title="the best four times as many ranked by 8-bit codes" if refined else "by the codes of the index")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("verified points among the 60 nearest")
    panels[1].legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=110)
