"""What quick looks cost and lose: the first look at each candidate, and the quick look at each turn of a query.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/looks.py runs/holdout [--limit 84] [--collection runs/holdout.delf]
    python benchmarks/looks.py runs/holdout-turned --turns [--rows "the packaged one" "all eighths"]

Every row searches with the same features and candidates. mAP under the Medium and Hard protocols, as the mean over
classes; images with more inliers than chance gives, and how many a row does not find of those that all features (or
the first row that turns) find; queries for which a match is declared. With `--turns`, each query is asked twice: as it
is, and with all photos of its class left out, so that nothing in the collection shows it. The processor time is that of
a whole search, extraction included, as the median and the 95th percentile of either kind.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from choices import means

from delf.datasets.folders import read_benchmark
from delf.evaluate import Database, indexed
from delf.evaluation import score_ranks
from delf.features import Delf
from delf.looks import TurningOptions
from delf.methods import METHODS, SearchOptions
from delf.ranking import CHANCE
from delf.search import SearchEngine
from delf.types import SearchResult
from delf.verification import ScreeningOptions, VerificationOptions

RECOMMENDED = METHODS["delf-asmk"]
PLAIN = replace(RECOMMENDED, screening=None, turning=TurningOptions())


def turnings() -> dict[str, SearchOptions]:
    """Rows of the table of turned looks."""
    chosen = RECOMMENDED.turning
    glance, close = chosen.glance, chosen.close
    everything = replace(chosen, glance=replace(glance, features=1000, candidates=30), promising=1, sure=10_000,
                         close=replace(close, candidates=30), likely=0.0,
                         thorough=replace(chosen.thorough, candidates=100))
    rows = {"not turned": TurningOptions(), "the packaged one": chosen, "always a thorough look": everything,
            "thorough looks at 20 candidates": replace(chosen, thorough=replace(chosen.thorough, candidates=20)),
            "the same, from 10 % only": replace(chosen, likely=0.1, thorough=replace(chosen.thorough, candidates=20)),
            "all eighths": replace(chosen, beside=4),
            "all eighths, glances of 32 cells": replace(chosen, beside=4, glance=replace(glance, cells=32)),
            "glances up to level 0.71": replace(chosen, glance=replace(glance, share=0.36)),
            "closer looks from 11 inliers, thorough ones from 20 %": replace(chosen, promising=11, sure=20, likely=0.2)}
    return {name: replace(RECOMMENDED, turning=turning) for name, turning in rows.items()}


def screenings() -> dict[str, SearchOptions]:
    """Rows of the table of candidates."""
    return {"all features": PLAIN,
            **{f"the best {thorough} thoroughly": replace(PLAIN, screening=ScreeningOptions(), thorough=thorough)
               for thorough in (0, 10, 20, 40)},
            "all features, another seed": replace(PLAIN, verification=VerificationOptions(seed=1)),
            **{f"best {one.features} features first, {one.minimum_inliers} inliers pass": replace(PLAIN, screening=one)
               for one in (ScreeningOptions(minimum_inliers=12), ScreeningOptions(features=400))}}


@dataclass
class Row:
    """What one row answered. cpu: seconds of each search with a right answer in the collection, and without."""

    answers: list[SearchResult] = field(default_factory=list)
    unanswerable: list[SearchResult] = field(default_factory=list)
    cpu: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", action="store_true", help="compare turned looks instead")
    parser.add_argument("--rows", nargs="+", help="only these, by their names")
    parser.add_argument("--limit", type=int, help="every so many-th query, to have this many")
    parser.add_argument("--collection", type=Path, help="by default beside the folder")
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor, benchmark = Delf.load(arguments.model), read_benchmark(arguments.folder)
    step = max(1, len(benchmark.queries) // (arguments.limit or len(benchmark.queries)))
    chosen = range(0, len(benchmark.queries), step)[: arguments.limit]
    collection = arguments.collection or arguments.folder.with_suffix(".delf")
    rows: dict[str, Row] = {}
    with indexed(benchmark, extractor, collection=collection) as database:
        options = turnings() if arguments.turns else screenings()
        options = {name: options[name] for name in arguments.rows or options}
        engines = {name: SearchEngine(database.collection, extractor, options=one) for name, one in options.items()}
        for number in chosen:
            path, box = benchmark.queries[number], benchmark.truth.entries[number].box
            others = _of_class(database, benchmark.files, path) if arguments.turns else []
            for name, engine in engines.items():
                row = rows.setdefault(name, Row())
                row.answers.append(_timed(engine, path, box, [], row.cpu[0]))
                if arguments.turns:
                    row.unanswerable.append(_timed(engine, path, box, others, row.cpu[1]))
        entries = benchmark.truth.entries
        truth = replace(benchmark.truth, queries=None, entries=tuple(entries[number] for number in chosen))
        labels = [_class_of(benchmark.queries[number]) for number in chosen]
        print(f"{len(chosen)} queries\n\n| | M / H | above chance | of these not | matches | matches without | "
              "processor s | without |\n|---|---|---|---|---|---|---|---|")
        first = rows[next((name for name, one in options.items() if one.turning.angles), next(iter(options)))].answers
        for name, row in rows.items():
            ranks = [[number for one in answer.results for number in database.numbers.get(one.key, ())]
                     for answer in row.answers]
            above, lost = compared(first, row.answers)
            found, wrong = (sum(bool(answer.match) for answer in some) for some in (row.answers, row.unanswerable))
            print(f"| {name} | {means(score_ranks(ranks, truth).ap, labels)} | {above} | {lost} | {found} | {wrong} | "
                  f"{' | '.join(map(_spread, row.cpu))} |")


def _timed(engine: SearchEngine, path: Path, box: object, exclude: list[int], spent: list[float]) -> SearchResult:
    start = time.process_time()
    answer = engine.search(path, box=box, top=None, exclude=exclude)  # type: ignore[arg-type]
    spent.append(time.process_time() - start)
    return answer


def _spread(seconds: list[float]) -> str:
    return f"{np.median(seconds):.1f}, {np.percentile(seconds, 95):.1f}" if seconds else ""


def _class_of(path: Path) -> str:
    return path.name.removeprefix("query-").split("--")[0]


def _of_class(database: Database, files: Sequence[Path], query: Path) -> list[int]:
    """The ordinals of all photos of the query's class."""
    found = (database.collection.ordinal_of(path) for path in files if _class_of(path) == _class_of(query))
    return sorted({ordinal for ordinal in found if ordinal is not None})


def compared(expected: Sequence[SearchResult], found: Sequence[SearchResult]) -> tuple[int, int]:
    """How many images have more inliers than chance gives, and how many of the expected ones have not."""
    confirmed = [[{one.key for one in answer.results if one.inliers > CHANCE} for answer in answers]
                 for answers in (expected, found)]
    return sum(map(len, confirmed[1])), sum(len(a - b) for a, b in zip(*confirmed, strict=True))


if __name__ == "__main__":
    main()
