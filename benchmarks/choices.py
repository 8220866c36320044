"""How the order of the recommended method was chosen: forms of a score, on a benchmark that nothing is measured on.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/choices.py runs/holdout [runs/holdout-turned]

Candidates come from ASMK*, the best 100 are verified, and each form makes a score of both; the last rows let confirmed
images speak for others, and verify nothing again. A line is a way to score; mAP under the Medium and Hard protocols, as
the mean over classes, so that a class with many photos counts no more than another.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.evaluate import indexed, read_benchmark
from delf.evaluation import score_ranks
from delf.evaluation.metrics import mean_of_defined
from delf.features import Delf
from delf.methods import SearchOptions
from delf.ranking import SupportOptions
from delf.ranking.order import confirmed
from delf.retrieval import AsmkRetrieval, open_retriever
from delf.search import SearchEngine
from delf.types import Verification

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
SUPPORTS = {f"gain 4, chance 20, range 50, with {images} supporters, gain {gain}": SupportOptions(images, gain)
            for images, gain in ((3, 4.0), (10, 1.0), (10, 2.0), (10, 4.0), (10, 8.0), (30, 4.0))}
ROWS = (*FORMS, *SUPPORTS)


def main() -> None:
    """Search once, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor = Delf.load(arguments.model)
    collection = arguments.folders[0].with_suffix(".delf")  # of all: the database is the same, photo for photo
    columns = [table(folder, extractor, collection) for folder in arguments.folders]
    print(f"| score | {' | '.join(f'{folder.name} M / H' for folder in arguments.folders)} |")
    print(f"|---|{'---|' * len(columns)}")
    for row in ROWS:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


def table(folder: Path, extractor: Delf, collection: Path) -> dict[str, str]:
    """Medium / Hard of every row."""
    benchmark = read_benchmark(folder)
    labels = [path.name.removeprefix("query-").split("--")[0] for path in benchmark.queries]
    options = SearchOptions(retrieval=AsmkRetrieval(), ranking="retrieval", candidates=100)
    ranks: dict[str, list[list[int]]] = {row: [] for row in ROWS}
    start = time.perf_counter()
    with indexed(benchmark, extractor, collection=collection) as database:
        stored = database.collection
        engine = SearchEngine(stored, extractor, options=options)
        supported = {row: open_retriever(stored, AsmkRetrieval(support=one)) for row, one in SUPPORTS.items()}
        for path, entry in zip(benchmark.queries, benchmark.truth.entries, strict=True):
            query = engine.extract(path, box=entry.box)
            found = engine.retrieve(query)
            inliers = np.zeros(len(stored.alive), np.int64)
            for result in engine.search_features(query, candidates=found, top=100).results:
                inliers[result.ordinal] = result.inliers
            verified = [(image, Verification(np.zeros((inliers[image], 2), np.int64), None, 0))
                        for image in found.images[:100].tolist()]
            scored = {row: (found, score) for row, score in FORMS.items()}
            for row, retriever in supported.items():
                scored[row] = retriever.expanded(query, found, verified, stored.alive) or found, confirmed
            for row, (candidates, score) in scored.items():
                order = np.argsort(-score(candidates.scores, inliers[candidates.images]), kind="stable")
                ranks[row].append([number for image in candidates.images[order].tolist()
                                   for number in database.numbers.get(stored.image(image).path, ())])
    print(f"{folder}: {len(labels)} queries in {time.perf_counter() - start:.0f} s", flush=True)
    return {row: means(score_ranks(ranks[row], benchmark.truth).ap, labels) for row in ROWS}


def means(precisions: Any, labels: list[str]) -> str:
    """The means over classes."""
    found = []
    for setting in ("medium", "hard"):
        by_class: dict[str, list[float | None]] = {}
        for label, value in zip(labels, precisions[setting], strict=True):
            by_class.setdefault(label, []).append(value)
        found.append(mean_of_defined([mean_of_defined(values) for values in by_class.values()]))
    return " / ".join("-" if value is None else f"{value:.1f}" for value in found)


if __name__ == "__main__":
    main()
