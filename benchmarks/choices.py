"""How the order of the recommended method was chosen: forms of a score, on a benchmark that nothing is measured on.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/choices.py runs/holdout [runs/holdout-turned]

Candidates come from ASMK*, the best 100 are verified, and each form makes a score of both. A line is a form; mAP under
the Medium and Hard protocols, as the mean over classes, so that a class with many photos counts no more than another.
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
from delf.retrieval import AsmkRetrieval
from delf.search import SearchEngine, SearchOptions

Array = NDArray[np.float64]
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


def main() -> None:
    """Search once, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor = Delf.load(arguments.model)
    collection = arguments.folders[0].with_suffix(".delf")  # of all: the database is the same, photo for photo
    columns = [table(folder, extractor, collection) for folder in arguments.folders]
    print(f"| form | {' | '.join(f'{folder.name} M / H' for folder in arguments.folders)} |")
    print(f"|---|{'---|' * len(columns)}")
    for form in FORMS:
        print(f"| {form} | {' | '.join(column[form] for column in columns)} |")


def table(folder: Path, extractor: Delf, collection: Path) -> dict[str, str]:
    """Medium / Hard of every form."""
    benchmark = read_benchmark(folder)
    labels = [path.name.removeprefix("query-").split("--")[0] for path in benchmark.queries]
    options = SearchOptions(retrieval=AsmkRetrieval(), ranking="retrieval", candidates=100)
    ranks: dict[str, list[list[int]]] = {form: [] for form in FORMS}
    start = time.perf_counter()
    with indexed(benchmark, extractor, collection=collection) as database:
        engine = SearchEngine(database.collection, extractor, options=options)
        for path, entry in zip(benchmark.queries, benchmark.truth.entries, strict=True):
            results = engine.search(path, box=entry.box, top=None).results
            scores, inliers = np.array([(one.score, one.inliers) for one in results], float).reshape(-1, 2).T
            for form, score in FORMS.items():
                order = np.argsort(-score(scores, inliers), kind="stable")
                ranks[form].append([number for i in order for number in database.numbers.get(results[i].image, ())])
    print(f"{folder}: {len(labels)} queries in {time.perf_counter() - start:.0f} s", flush=True)
    return {form: means(score_ranks(ranks[form], benchmark.truth).ap, labels) for form in FORMS}


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
