"""How the order of the recommended method was chosen: forms of a score, on a benchmark that nothing is measured on.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/choices.py runs/holdout [runs/holdout-turned]

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.evaluate import indexed, read_benchmark
from delf.evaluation import GroundTruth, score_ranks
from delf.evaluation.ground_truth import Entry
from delf.evaluation.metrics import mean_of_defined
from delf.features import Delf
from delf.methods import SearchOptions
from delf.ranking import Candidates, SupportOptions
from delf.ranking.order import confirmed
from delf.retrieval import AsmkRetrieval, Mask, Retriever, open_retriever
from delf.search import SearchEngine
from delf.types import Features, IntArray, Verification

Array = NDArray[Any]
Form = Callable[[Array, Array], Array]


def raised(gain: float, chance: int, range_: int) -> Form:
    """`score * (1 + gain * clip((inliers - chance) / range, 0, 1))`."""
    return lambda scores, inliers: scores * (1 + gain * np.clip((inliers - chance) / range_, 0, 1))


FORMS: dict[str, Form] = {
    "ASMK* alone": lambda scores, inliers: scores,
    "inliers, then ASMK*": lambda scores, inliers: inliers + scores / (scores.max(initial=0) + 1),
    **{f"gain {gain}, chance {chance}, range {range_}": raised(gain, chance, range_)
       for gain, chance, range_ in ((1, 0, 100), (2, 0, 100), (2, 0, 50), (4, 0, 50), (2, 10, 50), (4, 10, 50),
                                    (2, 20, 20), (1, 20, 50), (2, 20, 50), (4, 20, 50), (8, 20, 50), (4, 20, 100),
                                    (2, 30, 50), (4, 30, 50))},
}
SUPPORTS = {f"gain 4, chance 20, range 50; {one.images} supporters above {one.inliers}, gain {one.gain:g}": one
            for one in (SupportOptions(gain=1.0, inliers=20), SupportOptions(gain=4.0, inliers=20),
                        SupportOptions(gain=2.0, inliers=30), SupportOptions(gain=1.0), SupportOptions(),
                        SupportOptions(gain=4.0), SupportOptions(inliers=50), SupportOptions(images=3),
                        SupportOptions(images=30))}
ROWS = (*FORMS, *SUPPORTS)
FEW = (1, 2, 4)  # right photos
MEDIUM = ("medium",)


def main() -> None:
    """Search once, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor = Delf.load(arguments.model)
    collection = arguments.folders[0].with_suffix(".delf")  # of all: the database is the same, photo for photo
    columns = [table(folder, extractor, collection) for folder in arguments.folders]
    cells = [f"{folder.name} {cell}" for folder in arguments.folders
             for cell in ("M / H", "labels", *(f"{few} right" for few in FEW))]
    print(f"| score | {' | '.join(cells)} |\n|---|{'---|' * len(cells)}")
    for row in ROWS:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


def table(folder: Path, extractor: Delf, collection: Path) -> dict[str, str]:
    """The cells of every row."""
    benchmark = read_benchmark(folder)
    labels = [path.name.removeprefix("query-").split("--")[0] for path in benchmark.queries]
    options = SearchOptions(retrieval=AsmkRetrieval(), ranking="retrieval", candidates=100)
    truths = {"": benchmark.truth, **{str(few): with_few(benchmark.truth, few) for few in FEW}}
    ranks: dict[str, dict[str, list[list[int]]]] = {kind: {row: [] for row in ROWS} for kind in truths}
    start = time.perf_counter()
    with indexed(benchmark, extractor, collection=collection) as database:
        stored = database.collection
        engine = SearchEngine(stored, extractor, options=options)
        supported = {row: open_retriever(stored, AsmkRetrieval(support=one)) for row, one in SUPPORTS.items()}
        numbers = [database.numbers.get(stored.image(image).path, ()) for image in range(len(stored.alive))]
        for number, (path, entry) in enumerate(zip(benchmark.queries, benchmark.truth.entries, strict=True)):
            query = engine.extract(path, box=entry.box)
            found = engine.retrieve(query)
            inliers = np.zeros(len(stored.alive), np.int64)
            for result in engine.search_features(query, candidates=found, top=100).results:
                inliers[result.ordinal] = result.inliers
            for kind, truth in truths.items():
                left_out = set(truth.entries[number].labels["left out"].tolist()) if kind else set()
                alive = stored.alive & ~np.array([bool(left_out & set(one)) for one in numbers])
                for row, images in ordered(query, found, inliers, alive, supported):
                    ranks[kind][row].append([one for image in images for one in numbers[image]])
    print(f"{folder}: {len(labels)} queries in {time.perf_counter() - start:.0f} s", flush=True)
    scores = {kind: {row: score_ranks(found, truths[kind]).ap for row, found in rows.items()}
              for kind, rows in ranks.items()}
    by_label = labelled(benchmark.truth)
    return {row: " | ".join([means(scores[""][row], labels),
                             means(score_ranks(ranks[""][row], by_label).ap, labels, MEDIUM),
                             *(means(scores[str(few)][row], labels, MEDIUM) for few in FEW)]) for row in ROWS}


def ordered(query: Features, found: Candidates, inliers: IntArray, alive: Mask,
            supported: dict[str, Retriever]) -> Iterator[tuple[str, list[int]]]:
    """The images that are there, best first, by every row."""
    there = alive[found.images]
    found = Candidates(found.images[there], found.scores[there])
    verified = [(image, Verification(np.zeros((inliers[image], 2), np.int64), None, 0))
                for image in found.images[:100].tolist()]
    for row in ROWS:
        again = supported[row].expanded(query, found, verified, alive) if row in supported else None
        candidates = again or found
        scores = FORMS.get(row, confirmed)(candidates.scores, inliers[candidates.images])
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
