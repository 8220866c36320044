"""How the order of the recommended method was chosen: forms of a score, on benchmarks that nothing is measured on.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/choices.py runs/holdout [runs/holdout-turned] [--street runs/holdout-street]

Candidates come from ASMK*, the best 100 are verified, and each form makes a score of both; the last rows let confirmed
images speak for others, and verify nothing again. A line is a way to score; mAP under the Medium and Hard protocols, as
the mean over classes, so that a class with many photos counts no more than another. "labels" takes all photos of the
class as right, since chains of verified pairs, which say what is Hard, might favour what works by chains. "1 right"
leaves one right photo in the database, drawn at random, and takes out the others of the class.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.datasets.folders import read_benchmark
from delf.evaluate import indexed
from delf.evaluation import GroundTruth, score_ranks
from delf.evaluation.ground_truth import Entry
from delf.evaluation.metrics import mean_of_defined
from delf.features import Delf
from delf.looks import TurningOptions
from delf.methods import METHODS
from delf.ranking import Candidates, SupportOptions, distinct_inliers
from delf.ranking.order import by_inliers, by_retrieval
from delf.retrieval import AsmkRetrieval, Mask, Retriever, open_retriever
from delf.search import SearchEngine
from delf.types import Features, Verification

Array = NDArray[Any]


@dataclass(frozen=True)
class Form:
    """`score * (1 + gain * clip((inliers - chance) / range, 0, 1))`.

    rivals: of `distinct_inliers`; None counts all inliers. support: what confirmed images say.
    """

    gain: float = 4.0
    chance: float = 10.0
    range: float = 40.0
    rivals: float | None = 0.12
    support: SupportOptions | None = None

    def score(self, scores: Array, inliers: Array) -> Array:
        """(n,) of images with (n,) scores of ASMK* and counts of inliers."""
        return scores * (1 + self.gain * np.clip((inliers - self.chance) / self.range, 0, 1))

    def __str__(self) -> str:
        counted = "inliers" if self.rivals is None else f"distinct inliers ({self.rivals:g})"
        said = f"gain {self.gain:g}, {counted} above {self.chance:g}, range {self.range:g}"
        one = self.support
        return said if one is None else (f"{said}; {one.images} images above {one.inliers:g}, range {one.range:g}, "
                                         f"gain {one.gain:g}")


ALL = {"rivals": None, "chance": 20, "range": 50}
FORMS = [Form(**one) for one in (
    ALL, ALL | {"chance": 10}, ALL | {"chance": 0}, ALL | {"chance": 30},
    {}, {"rivals": 0.03}, {"rivals": 0.5}, {"chance": 5}, {"chance": 15}, {"range": 80}, {"gain": 2}, {"gain": 8})]
SUPPORTS = [Form(support=SupportOptions(**one)) for one in (
    {}, {"gain": 1.0}, {"gain": 4.0}, {"inliers": 10}, {"inliers": 30}, {"range": 50}, {"images": 3},
    {"images": 30})]
ROWS: dict[str, Form | Callable[[Array, Array], Array]] = {
    "ASMK* alone": by_retrieval, "inliers, then ASMK*": by_inliers, **{str(one): one for one in (*FORMS, *SUPPORTS)}}
FEW = (1, 2, 4)  # right photos
MEDIUM = ("medium",)


def main() -> None:
    """Search once, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="with the same database, photo for photo")
    parser.add_argument("--street", type=Path, help="one with another database")
    parser.add_argument("--limit", type=int, help="only the first so many queries of each")
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor = Delf.load(arguments.model)
    places = {folder: arguments.folders[0].with_suffix(".delf") for folder in arguments.folders}
    if arguments.street:
        places[arguments.street] = arguments.street.with_suffix(".delf")
    columns = [table(folder, extractor, place, arguments.limit) for folder, place in places.items()]
    cells = [f"{folder.name} {cell}" for folder in places
             for cell in ("M / H", "labels", *(f"{few} right" for few in FEW))]
    print(f"| score | {' | '.join(cells)} |\n|---|{'---|' * len(cells)}")
    for row in ROWS:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


def table(folder: Path, extractor: Delf, collection: Path, limit: int | None) -> dict[str, str]:
    """The cells of every row."""
    benchmark = read_benchmark(folder, limit=limit)
    labels = [path.name.removeprefix("query-").split("--")[0] for path in benchmark.queries]
    options = replace(METHODS["delf-asmk"], retrieval=AsmkRetrieval(), turning=TurningOptions())
    truths = {"": benchmark.truth, **{str(few): with_few(benchmark.truth, few) for few in FEW}}
    ranks: dict[str, dict[str, list[list[int]]]] = {kind: {row: [] for row in ROWS} for kind in truths}
    start = time.perf_counter()
    with indexed(benchmark, extractor, collection=collection) as database:
        stored = database.collection
        engine = SearchEngine(stored, extractor, options=options)
        supported = {str(one): open_retriever(stored, AsmkRetrieval(support=one.support)) for one in SUPPORTS}
        numbers = [database.numbers.get(stored.snapshot.key_of(image), ()) for image in range(len(stored.alive))]
        for number, (path, entry) in enumerate(zip(benchmark.queries, benchmark.truth.entries, strict=True)):
            query = engine.extract(path, box=entry.box)
            found = engine.retrieve(query)
            verified = [(one.ordinal, one.found) for one in engine.verify(query, found)]
            for kind, truth in truths.items():
                left_out = set(truth.entries[number].labels["left out"].tolist()) if kind else set()
                alive = stored.alive & ~np.array([bool(left_out & set(one)) for one in numbers])
                for row, images in ordered(query, found, verified, alive, supported):
                    ranks[kind][row].append([one for image in images for one in numbers[image]])
    print(f"{folder}: {len(labels)} queries in {time.perf_counter() - start:.0f} s", flush=True)
    scores = {kind: {row: score_ranks(found, truths[kind]).ap for row, found in rows.items()}
              for kind, rows in ranks.items()}
    by_label = labelled(benchmark.truth)
    return {row: " | ".join([means(scores[""][row], labels),
                             means(score_ranks(ranks[""][row], by_label).ap, labels, MEDIUM),
                             *(means(scores[str(few)][row], labels, MEDIUM) for few in FEW)]) for row in ROWS}


def ordered(query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]], alive: Mask,
            supported: dict[str, Retriever]) -> Iterator[tuple[str, list[int]]]:
    """The images that are there, best first, by every row."""
    there = alive[found.images]
    found = Candidates(found.images[there], found.scores[there])
    verified = [(image, one) for image, one in verified if alive[image]]
    counts: dict[float | None, Array] = {}
    for rivals in {form.rivals for form in (*FORMS, *SUPPORTS)}:
        counts[rivals] = np.zeros(len(alive))
        every = [one for _, one in verified]
        counts[rivals][[image for image, _ in verified]] = (
            [len(one) for one in every] if rivals is None else distinct_inliers(every, rivals))
    for row, form in ROWS.items():
        again = supported[row].expanded(query, found, verified, alive) if row in supported else None
        candidates = again or found
        rivals, score = (form.rivals, form.score) if isinstance(form, Form) else (None, form)
        scores = score(candidates.scores, counts[rivals][candidates.images])
        yield row, candidates.images[np.argsort(-scores, kind="stable")].tolist()


def labelled(truth: GroundTruth) -> GroundTruth:
    """The same, with all photos of the class right."""
    none = np.zeros(0, np.int64)
    return replace(truth, entries=tuple(
        Entry({"easy": entry.indices(("easy", "hard", "junk")), "hard": none, "junk": none}, entry.box)
        for entry in truth.entries))


def with_few(truth: GroundTruth, few: int) -> GroundTruth:
    """The same with so many right photos of each query, drawn at random; the others of its class are to be left out."""
    rng, none, entries = np.random.default_rng(0), np.zeros(0, np.int64), []
    for entry in truth.entries:
        kept = rng.permutation(entry.indices(("easy", "hard")))[:few]
        left_out = np.setdiff1d(entry.indices(("easy", "hard", "junk")), kept)
        entries.append(Entry({"easy": kept, "hard": none, "junk": none, "left out": left_out}, entry.box))
    return replace(truth, entries=tuple(entries))


def means(precisions: Any, labels: list[str], settings: Sequence[str] = ("medium", "hard")) -> str:
    """The means over classes."""
    found = []
    for setting in settings:
        by_class: dict[str, list[float | None]] = {}
        for label, value in zip(labels, precisions[setting], strict=True):
            by_class.setdefault(label, []).append(value)
        found.append(mean_of_defined([mean_of_defined(values) for values in by_class.values()]))
    return " / ".join("-" if value is None else f"{value:.1f}" for value in found)


if __name__ == "__main__":
    main()
