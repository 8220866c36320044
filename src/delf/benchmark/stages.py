"""The stages that are measured, each a function over the same photos; `STAGES` has them by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delf.benchmark import peers
from delf.benchmark.measuring import Measurement, in_turn
from delf.codes import encode
from delf.collection import Collection
from delf.errors import OptionError
from delf.features import Delf
from delf.images import find_images, load
from delf.index import HOW, Asmk, AsmkIndex, Codebook, ExactIndex
from delf.index.asmk import Aggregate, Block
from delf.methods import METHODS
from delf.search import SearchEngine
from delf.settings import Options
from delf.types import Features, FloatArray, ImageArray, Matches
from delf.verification import match_and_verify, match_features, single_threaded_products, verify

CANDIDATES = 100
EXTRACTED = 4  # photos that the stage "extraction" times: peers take long
STORED = 100_000  # descriptors that are searched exactly
IMAGES = 2000  # images that ASMK* scores: the package asmk takes long to add more


@dataclass(frozen=True)
class BenchmarkOptions(Options):
    """rounds: how often each thing is timed. photos: how many are used, spread over the folder. stages: keys of
    `STAGES`.
    """

    rounds: int = 5
    photos: int = 24
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.photos < EXTRACTED:
            raise OptionError(f"A benchmark takes at least 1 round and {EXTRACTED} photos, not {self.rounds} and "
                              f"{self.photos}.")
        if unknown := set(self.stages) - set(STAGES):
            raise OptionError(f"unknown stage {min(unknown)!r}; known are {', '.join(STAGES)}")


@dataclass(eq=False)
class Subject:
    """What is measured with. features: of all photos; matches: of the first with the second."""

    extractor: Delf
    paths: Sequence[Path]
    rounds: int
    images: list[ImageArray] = field(init=False)
    features: list[Features] = field(init=False)
    matches: Matches = field(init=False)

    def __post_init__(self) -> None:
        loaded = [load(path, shrink_to=self.extractor.longest_side) for path in self.paths]
        self.images = [one.pixels for one in loaded]
        self.features = list(self.extractor.extract_many((one.pixels, one.size) for one in loaded))
        self.matches = match_features(self.features[0], self.features[1])

    def measured(self, stage: str, name: str, own: Callable[[], Any], peer_name: str,
                 peer: Callable[[], Any] | None, *, target: float | None = None, share: float = 1.0) -> Measurement:
        """Both, in turn. share: what part of the own work the peer does; its seconds are scaled."""
        seconds, others = in_turn(own, peer, self.rounds)
        note = "" if peer is not None else "the peer is missing"
        return Measurement(stage, name, seconds, peer_name, [second / share for second in others], target, note)


def run_benchmark(folder: Path, extractor: Delf, options: BenchmarkOptions | None = None, *,
                  progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[Measurement]:
    """Measure the stages on the photos of a folder.

    Args:
        progress: called with (stages done, stages to do).

    Raises:
        OptionError: there are too few photos.
    """
    options = options or BenchmarkOptions()
    found = list(find_images([folder]))
    if len(found) < EXTRACTED:
        raise OptionError(f"{folder} has {len(found)} photos, and a benchmark takes {EXTRACTED} or more")
    paths = found[:: max(1, len(found) // options.photos)][: options.photos]
    subject = Subject(extractor, paths, options.rounds)
    stages = options.stages or tuple(STAGES)
    for done, name in enumerate(stages):
        progress(done, len(stages))
        yield from STAGES[name](subject)
    progress(len(stages), len(stages))


def extraction(subject: Subject) -> Iterator[Measurement]:
    """From files to features, several in flight, beside network passes alone."""
    extractor, paths = subject.extractor, subject.paths[:EXTRACTED]
    images = subject.images[:EXTRACTED]

    def own() -> None:
        loaded = (load(path, shrink_to=extractor.longest_side) for path in paths)
        for _ in extractor.extract_many((one.pixels, one.size) for one in loaded):
            pass

    name = f"{len(paths)} photos, decoded and extracted ({extractor.runtime.name})"
    yield subject.measured("extraction", name, own, "eager PyTorch, network passes alone",
                           peers.eager_torch(extractor, images), target=2.5)
    yield subject.measured("extraction", name, own, "the same runtime, network passes alone",
                           peers.bare_network(extractor, images), target=0.87)


def matching(subject: Subject) -> Iterator[Measurement]:
    """One pair of photos."""
    query, database = subject.features[:2]
    with single_threaded_products():
        yield subject.measured("matching", f"{len(query)} x {len(database)} descriptors, mutual nearest, one core",
                               lambda: match_features(query, database), "k-d tree (TensorFlow reference)",
                               peers.kd_tree(query, database), target=10)


def verification(subject: Subject) -> Iterator[Measurement]:
    """The transform of one pair, and a hundred candidates matched and verified on all cores."""
    query, database = subject.features[:2]
    yield subject.measured("verification", f"homography of {len(subject.matches)} tentative matches",
                           lambda: verify(query, database, subject.matches), "scikit-image ransac, 1000 trials",
                           peers.skimage_ransac(query, database, subject.matches), target=300)
    others = (subject.features[1:] * CANDIDATES)[:CANDIDATES]
    tree, ransac = peers.kd_tree(query, database), peers.skimage_ransac(query, database, subject.matches)
    reference = None if tree is None or ransac is None else lambda: (tree(), ransac())
    with ThreadPoolExecutor(subject.extractor.threads) as pool:
        for name, screening in (("with a first look", METHODS["delf-asmk"].screening), ("all features", None)):
            def own(screening: Any = screening) -> None:
                with single_threaded_products():
                    list(pool.map(lambda other: match_and_verify(query, other, screening=screening), others))

            yield subject.measured("verification", f"{CANDIDATES} candidates matched and verified, {name}", own,
                                   "k-d tree and scikit-image, 1 of 100 timed", reference, share=1 / CANDIDATES)


def index(subject: Subject) -> Iterator[Measurement]:
    """Nearest neighbours, and ASMK*, among images that are made of the descriptors of the photos."""
    descriptors = np.concatenate([features.descriptors for features in subject.features])
    query = subject.features[0].descriptors
    stored = _more(descriptors, STORED)
    exact = ExactIndex(encode(stored))
    yield subject.measured("index", f"{len(query)} descriptors, {peers.K} nearest of {STORED:,}",
                           lambda: exact.search(query, peers.K), "matrix product and partition",
                           peers.brute_force(query, stored))
    words = None if subject.extractor.model_file is None else subject.extractor.model_file.with_suffix(".words")
    if words is None or not words.is_file():
        return
    asmk = Asmk(Codebook.load(words), HOW)
    blocks = _blocks(asmk, [features.descriptors for features in subject.features], IMAGES)
    wanted = asmk.query(query)
    with tempfile.TemporaryDirectory() as folder:
        ours = AsmkIndex(asmk, [asmk.write(blocks, Path(folder) / "images.lists")])
        theirs = peers.public_asmk(len(asmk.codebook), blocks, wanted, HOW.alpha, HOW.threshold)
        yield subject.measured("index", f"ASMK* scores of {IMAGES:,} images", lambda: ours.scores(wanted),
                               "the package asmk", theirs)


def end_to_end(subject: Subject) -> Iterator[Measurement]:
    """Indexing the photos, and searching them with one, as the commands do."""
    extractor, paths = subject.extractor, subject.paths
    with tempfile.TemporaryDirectory() as folder:
        made = iter(range(1_000_000))

        def add() -> None:
            with Collection.create(Path(folder) / f"{next(made)}.delf", extractor) as collection:
                collection.add(list(paths[:EXTRACTED]))

        yield subject.measured("end to end", f"{EXTRACTED} photos indexed", add,
                               "eager PyTorch, network passes alone",
                               peers.eager_torch(extractor, subject.images[:EXTRACTED]))
        with Collection.create(Path(folder) / "all.delf", extractor) as collection:
            collection.add(list(paths))
            engine = SearchEngine(collection, extractor)
            query, database = subject.features[:2]
            steps = [peers.eager_torch(extractor, subject.images[:1]), peers.kd_tree(query, database),
                     peers.skimage_ransac(query, database, subject.matches)]
            count = len(paths)

            def reference() -> None:
                for step, times in zip(steps, (1, count, count), strict=True):
                    for _ in range(times):
                        if step is not None:
                            step()

            yield subject.measured("end to end", f"one search among {count} photos ({engine.method})",
                                   lambda: engine.search(paths[0]), "eager PyTorch, k-d tree, scikit-image",
                                   reference if all(step is not None for step in steps) else None)


STAGES: dict[str, Callable[[Subject], Iterator[Measurement]]] = {
    "extraction": extraction, "matching": matching, "verification": verification, "index": index,
    "end-to-end": end_to_end}


def _more(descriptors: FloatArray, count: int) -> FloatArray:
    """(count, D) unit vectors: the descriptors, again and again, moved a little each time."""
    rng = np.random.default_rng(0)
    moved = descriptors[np.arange(count) % len(descriptors)] + rng.normal(0, 0.02, (count, descriptors.shape[1]))
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def _blocks(asmk: Asmk, photos: Sequence[FloatArray], count: int) -> list[Block]:
    """Images that have half of the words of one photo, and as many of any."""
    rng = np.random.default_rng(0)
    parts = [asmk.aggregate(descriptors) for descriptors in photos]
    words, signatures = (np.concatenate([getattr(part, name) for part in parts]) for name in ("words", "signatures"))
    ends = np.cumsum([len(part.words) for part in parts])
    blocks = []
    for image in range(count):
        own = np.arange(ends[image % len(ends)] - len(parts[image % len(ends)].words), ends[image % len(ends)])[::2]
        rows = np.concatenate([own, rng.integers(len(words), size=len(own))])
        rows = rows[np.unique(words[rows], return_index=True)[1]]
        blocks.append(Block(1, len(rows), Aggregate(np.zeros(len(rows), np.int64), words[rows], signatures[rows])))
    return blocks
