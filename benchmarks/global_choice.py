"""How the global descriptor, its expansion and its fusion were chosen, on a benchmark that nothing is measured on.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/global_choice.py runs/holdout --manifest MANIFEST.csv

Feature maps are pooled in several ways at each level of the pyramid; all the rest is arithmetic. Whitenings are learnt
from photos of the training classes, without those that are distractors here. What was pooled is kept, so that the
command may be run again. A line is a choice; mAP Medium / Hard, mean over classes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from choices import means
from numpy.typing import NDArray

from delf.collection import Collection
from delf.datasets.folders import Benchmark, read_benchmark
from delf.evaluate import Database, indexed
from delf.evaluation import score_ranks
from delf.features import Delf
from delf.features.pooling import join_levels, pool_rmac
from delf.files import whole_file
from delf.images import limit_size, read_image, resize
from delf.models import Whitening
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.ranking import Candidates
from delf.ranking.expansion import RerankOptions, augment, expand, rerank
from delf.ranking.fusion import fused
from delf.retrieval import GlobalRetrieval, VoteOptions
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.fused import FusedRetrieval, FusedRetriever
from delf.retrieval.votes import VoteRetriever
from delf.training.finish import principal
from delf.training.photos import LabelledPhoto, of_split, read_photos
from delf.training.whitening import discriminative, same_class_pairs
from delf.types import Features, FloatArray, IntArray, Verification
from delf.verification import match_features, verify

POWERS = (2.0, 3.0, 4.6, 6.0, 10.0)
POOLINGS = (*(f"GeM, p = {power:g}" for power in POWERS), "R-MAC")
POWER, SMALLEST, SHRINKAGE, PARTNERS = 4.6, 0.5, 0.3, 6  # what was chosen
POOLED = f"GeM, p = {POWER:g}"
FEW = 5
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
Vectors = dict[str, FloatArray]  # "training", "database" and "queries" -> (N, G)
Row = tuple[str, list[str]]


class Table:
    """Scores rankings of some queries of the benchmark."""

    def __init__(self, benchmark: Benchmark, chosen: Sequence[int] | None = None) -> None:
        truth = benchmark.truth
        self.chosen = list(range(len(truth.entries)) if chosen is None else chosen)
        self.truth = type(truth)(truth.images, None, tuple(truth.entries[i] for i in self.chosen), truth.source)
        self.labels = [benchmark.queries[i].name.removeprefix("query-").split("--")[0] for i in self.chosen]

    def of(self, ranks: Sequence[Sequence[int]]) -> str:
        """Medium / Hard of rankings by numbers of images, one for each of these queries."""
        return means(score_ranks(ranks, self.truth).ap, self.labels)

    def of_scores(self, scores: FloatArray) -> str:
        """Medium / Hard of (queries, images) scores, of all queries."""
        return self.of(np.argsort(-scores[self.chosen], axis=1, kind="stable").tolist())


def with_few(benchmark: Benchmark) -> list[int]:
    """The queries with at most `FEW` right images."""
    return [number for number, entry in enumerate(benchmark.truth.entries)
            if len(entry.indices(("easy", "hard"))) <= FEW]


def main() -> None:
    """Pool what is not pooled yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manifest", type=Path, required=True, help="file,class,split of the photos to whiten by")
    parser.add_argument("--model", default="delf-r18")
    parser.add_argument("--photos", type=int, default=700, help="that whitenings are learnt from")
    parser.add_argument("--every", type=int, default=2, help="queries that are verified: one in so many; 0 for none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/global"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    benchmark = read_benchmark(arguments.folder)
    extractor = Delf.load(arguments.model, threads=arguments.threads)
    photos = whitening_photos(arguments.manifest, benchmark, arguments.photos)
    pooled = pool_all(extractor, {"training": [photo.path for photo in photos], "database": benchmark.images,
                                  "queries": benchmark.queries}, arguments.output)
    labels, scales, table = [photo.label for photo in photos], extractor.options.scales, Table(benchmark)
    pairs = same_class_pairs(labels, PARTNERS, np.random.default_rng(0))
    show(("pooling, levels from", "as it is", "PCA whitening", "discriminative"),
         poolings(pooled, scales, pairs, table))
    show(("photos, shrinkage", "mAP"), whitenings(pooled, scales, labels, table))
    whitening = learnt(joined(pooled, scales, POOLED, SMALLEST)["training"], pairs)
    vectors = joined(pooled, scales, POOLED, SMALLEST, whitening)
    show(("query expansion", *(f"k = {k}" for k in DEPTHS)), expansions(vectors, table))
    few = with_few(benchmark)
    show((f"the same, of {len(few)} queries with {FEW} right images or fewer", *(f"k = {k}" for k in DEPTHS)),
         expansions(vectors, Table(benchmark, few)))
    show(("augmentation, re-ranking", "mAP"), [*augmentations(vectors, table), *rerankings(vectors, table)])
    if not arguments.every:
        return
    whitened = with_whitening(arguments.model, whitening, arguments.output)
    show(("expansion", *(f"w = {weight:g}" for weight in WEIGHTS)),
         fusions(benchmark, Delf.load(whitened, threads=arguments.threads), arguments.every, arguments.output))


def show(header: Sequence[str], rows: Iterable[Row]) -> None:
    """Print a table."""
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for name, cells in rows:
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


# --- pooling and whitening


def whitening_photos(manifest: Path, benchmark: Benchmark, count: int) -> list[LabelledPhoto]:
    """Photos of the training split that are not searched here, drawn at random."""
    searched = {path.resolve() for path in benchmark.images}
    photos = [photo for photo in of_split(read_photos(manifest), "train") if photo.path.resolve() not in searched]
    return [photos[i] for i in sorted(np.random.default_rng(0).permutation(len(photos))[:count])]


def pool_all(extractor: Delf, paths: dict[str, Sequence[Path]], output: Path) -> Vectors:
    """(N, L, V, G) of each kind of photos: at each level, pooled in each of V ways."""
    file = output / f"pooled-{extractor.runtime.config.fingerprint[:12]}-{len(paths['training'])}.npz"
    if not file.is_file():
        start = time.perf_counter()
        found = {kind: np.stack([pool(extractor, path) for path in listed]) for kind, listed in paths.items()}
        print(f"pooled {sum(map(len, paths.values()))} photos in {time.perf_counter() - start:.0f} s", flush=True)
        with whole_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **{kind: array.astype(np.float16) for kind, array in found.items()})  # type: ignore[arg-type]
    with np.load(file) as arrays:
        return {kind: arrays[kind].astype(np.float32) for kind in paths}


def pool(extractor: Delf, path: Path) -> FloatArray:
    """(L, V, G) of one photo, each of unit length."""
    image, levels = read_image(path), []
    size = limit_size(image.shape[1], image.shape[0], extractor.options.max_image_size or max(image.shape))
    for scale in extractor.options.scales:
        pixels = resize(image, (round(size[0] * scale), round(size[1] * scale))).transpose(2, 0, 1)[None]
        [feature_map] = extractor.runtime.run(pixels.astype(np.float32)).feature_map
        logarithms = np.log(np.maximum(feature_map, 1e-6))
        ways = [np.exp(logarithms * power).mean(axis=(1, 2)) ** (1 / power) for power in POWERS]
        levels.append(unit(np.stack([*ways, pool_rmac(feature_map)])))
    return np.stack(levels)


def unit(vectors: FloatArray) -> FloatArray:
    """Scaled to unit length."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def joined(pooled: Vectors, scales: Sequence[float], way: str, smallest: float,
           whitening: Whitening | None = None) -> Vectors:
    """One descriptor for each photo."""
    kept = [number for number, scale in enumerate(scales) if scale >= smallest]
    number = POOLINGS.index(way)
    return {kind: np.stack([join_levels(levels[kept, number], [scales[i] for i in kept], whitening)
                            for levels in array]) for kind, array in pooled.items()}


def learnt(vectors: FloatArray, pairs: IntArray, shrinkage: float = SHRINKAGE) -> Whitening:
    """The discriminative whitening."""
    return Whitening(*discriminative(vectors, pairs, shrinkage))


def by_pca(vectors: FloatArray) -> Whitening:
    """PCA whitening, with variances that are raised by their mean: without that it is worse."""
    mean = vectors.mean(axis=0)
    axes, variances = principal(np.cov((vectors - mean).T.astype(np.float64)), vectors.shape[1])
    return Whitening(mean, axes / np.sqrt(variances + variances.mean())[:, None])


def poolings(pooled: Vectors, scales: Sequence[float], pairs: IntArray, table: Table) -> Iterable[Row]:
    """Ways to pool, smallest levels, and whitenings."""
    for way in POOLINGS:
        for smallest in (0.25, 0.5, 0.7):
            plain = joined(pooled, scales, way, smallest)["training"]
            yield f"{way}, {smallest:g}", [cosines(joined(pooled, scales, way, smallest, whitening), table)
                                           for whitening in (None, by_pca(plain), learnt(plain, pairs))]


def cosines(vectors: Vectors, table: Table) -> str:
    """Of a plain search."""
    return table.of_scores(vectors["queries"] @ vectors["database"].T)


def whitenings(pooled: Vectors, scales: Sequence[float], labels: Sequence[str], table: Table) -> Iterable[Row]:
    """How much it is learnt from, and how much of it is believed."""
    plain = joined(pooled, scales, POOLED, SMALLEST)["training"]
    for count in (len(labels) // 4, len(labels) // 2, len(labels)):
        chosen = np.sort(np.random.default_rng(1).permutation(len(labels))[:count])
        pairs = same_class_pairs([labels[i] for i in chosen], PARTNERS, np.random.default_rng(0))
        for shrinkage in (0.0, 0.1, 0.3, 1.0, 3.0):
            whitening = learnt(plain[chosen], pairs, shrinkage)
            yield f"{count}, {shrinkage:g}", [cosines(joined(pooled, scales, POOLED, SMALLEST, whitening), table)]


# --- expansion


DEPTHS = (0, 1, 2, 3, 5, 8, 12)


def expanded(vectors: Vectors, depth: int, alpha: float) -> FloatArray:
    """Queries, expanded by their nearest images."""
    nearest = np.argsort(-(vectors["queries"] @ vectors["database"].T), axis=1, kind="stable")[:, :depth]
    return np.stack([expand(query, vectors["database"][rows], alpha)
                     for query, rows in zip(vectors["queries"], nearest, strict=True)])


def expansions(vectors: Vectors, table: Table) -> Iterable[Row]:
    """Depths and alphas."""
    for alpha in (0.0, 1.0, 2.0, 3.0):
        yield f"alpha = {alpha:g}", [table.of_scores(expanded(vectors, depth, alpha) @ vectors["database"].T)
                                     for depth in DEPTHS]


def augmentations(vectors: Vectors, table: Table) -> Iterable[Row]:
    """Augmented images, with queries as they are and expanded."""
    for count in (2, 5):
        moved = {**vectors, "database": np.concatenate(list(augment(vectors["database"], count, 1.0)))}
        yield f"augmented by {count}", [cosines(moved, table)]
        yield f"augmented by {count}, expanded by 5", [table.of_scores(expanded(moved, 5, 1.0) @ moved["database"].T)]


def rerankings(vectors: Vectors, table: Table) -> Iterable[Row]:
    """Re-ranking, of queries as they are and expanded."""
    for options in (RerankOptions(), RerankOptions(beta=0.5)):
        for depth in (0, 5):
            queries = expanded(vectors, depth, 1.0)
            rows = [reranked(query, vectors["database"], options) for query in queries]
            yield f"re-ranked, beta = {options.beta:g}, expanded by {depth}", [table.of(rows)]


def reranked(query: FloatArray, database: FloatArray, options: RerankOptions) -> list[int]:
    """A ranking whose best images are ranked anew."""
    order = np.argsort(-(database @ query), kind="stable")
    best = order[: options.depth]
    return [*best[np.argsort(-rerank(query, database[best], options), kind="stable")].tolist(),
            *order[options.depth :].tolist()]


# --- fusion


def with_whitening(model: str, whitening: Whitening, output: Path) -> Path:
    """The file of the model with the chosen pooling and whitening."""
    given = DelfModel.from_pretrained(model)
    copy = DelfModel(given.config, given.pca, replace(whitening, smallest_scale=np.array([SMALLEST], np.float32)))
    copy.load_state_dict({**given.state_dict(), "pooling.p": torch.tensor(POWER)})
    copy.eval().save_pretrained(output / "whitened.safetensors")
    export_onnx(DelfModel.from_pretrained(output / "whitened.safetensors"), output / "whitened.onnx")
    return output / "whitened.onnx"


def fusions(benchmark: Benchmark, extractor: Delf, every: int, output: Path) -> Iterable[Row]:
    """Weights of the inliers, with queries that are expanded by the nearest or by verified images."""
    kinds = {"none": FusedRetrieval(pooled=GlobalRetrieval(), expansion="nearest"),
             "nearest 5, alpha = 1": FusedRetrieval(pooled=GlobalRetrieval(expansion=5), expansion="nearest"),
             **{f"verified {depth}, alpha = {alpha:g}": FusedRetrieval(
                 pooled=GlobalRetrieval(expansion=depth, alpha=alpha))
                for depth, alpha in ((5, 0.0), (5, 1.0), (12, 0.0), (12, 1.0), (20, 0.0))}}
    table = Table(benchmark, range(0, len(benchmark.queries), every))
    collection = output / f"{benchmark.name}-whitened.delf"
    with indexed(benchmark, extractor, collection=collection) as database:
        verified, alive = Verifier(database), database.collection.alive
        queries = [extractor.extract(read_image(path)) for path in benchmark.queries[::every]]
        local = VoteRetriever(database.collection, VoteOptions())
        voted = {id(query): local.candidates(query, alive) for query in queries}
        for name, options in kinds.items():
            retriever = RememberedVotes(database.collection, options, voted)
            found = [verified.look(query, retriever) for query in queries]
            yield name, [table.of([verified.ranking(images, fused(scores, inliers.astype(np.float64), weight))
                                   for images, scores, inliers in found]) for weight in WEIGHTS]


class RememberedVotes(FusedRetriever):
    """Has votes that were counted before, for the very same queries: the search of the nearest features takes long."""

    def __init__(self, collection: Collection, options: FusedRetrieval, voted: dict[int, Candidates]) -> None:
        super().__init__(collection, options)
        self._local = _Remembered(voted)


class _Remembered(Retriever):
    def __init__(self, found: dict[int, Candidates]) -> None:
        self._found = found

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        return self._found[id(query)]


class Verifier:
    """Verifies the best candidates; the same pair is not verified twice."""

    def __init__(self, database: Database) -> None:
        self._collection, self._known = database.collection, dict[tuple[int, int], Verification]()
        self._alive = database.collection.alive
        self._numbers = [database.numbers.get(database.collection.snapshot.key_of(image), ())
                         for image in range(len(self._alive))]

    def look(self, query: Features, retriever: FusedRetriever) -> tuple[IntArray, FloatArray, IntArray]:
        """Images, their global scores and inliers, as `SearchEngine` finds them."""
        candidates = retriever.candidates(query, self._alive)
        best = candidates.images[:100].tolist()
        verified = [(image, self._verify(query, image)) for image in best]
        again = retriever.expanded(query, candidates, verified, self._alive)
        candidates = again or candidates
        inliers = np.zeros(len(candidates), np.int64)
        inliers[:100] = [len(self._verify(query, image)) for image in candidates.images[:100].tolist()]
        return candidates.images, candidates.scores, inliers

    def _verify(self, query: Features, image: int) -> Verification:
        key = id(query), image
        if key not in self._known:
            stored = self._collection.features(image)
            self._known[key] = verify(query, stored, match_features(query, stored))
        return self._known[key]

    def ranking(self, images: IntArray, scores: NDArray[np.float64]) -> list[int]:
        """Numbers of the benchmark, best first."""
        return [number for image in images[np.argsort(-scores, kind="stable")].tolist()
                for number in self._numbers[image]]


if __name__ == "__main__":
    main()
