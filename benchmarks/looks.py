"""What quick looks cost and lose: the first look at each candidate, and the quick look at each turn of a query.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/looks.py runs/holdout [--limit 84] [--collection runs/holdout.delf]
    python benchmarks/looks.py runs/holdout-turned --turns

Every row searches with the same features and candidates. mAP under the Medium and Hard protocols, as the mean over
classes; images with more inliers than chance gives, and how many a row does not find of those that all features (or all
turns) find; queries for which a match is declared; seconds of verification, or of all turned looks, as the median over
queries. "another seed" is the noise of the estimator.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from choices import means

from delf.evaluate import indexed, read_benchmark
from delf.evaluation import score_ranks
from delf.features import Delf
from delf.methods import METHODS, TURNS, SearchOptions
from delf.ranking import CHANCE
from delf.search import PROMISING, QUICK_CANDIDATES, SearchEngine, Turned, _Look
from delf.types import SearchResult
from delf.verification import ScreeningOptions, VerificationOptions

RECOMMENDED = METHODS["delf-asmk"]
CHOSEN = "and eighths, where that finds no match"
PLAIN = replace(RECOMMENDED, screening=None, turns=())


class Quarters(SearchEngine):
    """As before: a thorough look at the best quarter turn, which adds what it confirms to the order of the first."""

    def _turned_looks(self, first: _Look, turned: Turned, exclude: Sequence[int]) -> list[_Look]:
        quick = [self._look(query, self.retrieve(query, exclude=exclude), exclude, QUICK_CANDIDATES)
                 for query in turned(degrees=TURNS[0], quick=True)]
        best = max(range(3), key=lambda number: quick[number].inliers)
        if quick[best].inliers < PROMISING:
            return [first, *quick]
        return [first, *quick, *(self._look(query, self.retrieve(query, exclude=exclude), exclude)
                                 for query in turned(degrees=TURNS[0][best : best + 1]))]


class Foremost(Quarters):
    """The same, but all images are ranked by the look that confirms most."""

    def _turned_looks(self, first: _Look, turned: Turned, exclude: Sequence[int]) -> list[_Look]:
        return sorted(super()._turned_looks(first, turned, exclude), key=lambda look: -look.confirmed)


TURNED = {"not turned": (SearchEngine, ()),
          "quarters, a thorough look at the best": (Quarters, TURNS), "the same, foremost": (Foremost, TURNS),
          "quarters, the best turned upright": (SearchEngine, TURNS[:1]), CHOSEN: (SearchEngine, TURNS)}


def screenings() -> dict[str, SearchOptions]:
    """Rows of the table of candidates."""
    return {"all features": PLAIN,
            **{f"the best {thorough} thoroughly": replace(PLAIN, screening=ScreeningOptions(), thorough=thorough)
               for thorough in (0, 10, 20, 40)},
            "all features, another seed": replace(PLAIN, verification=VerificationOptions(seed=1)),
            **{f"best {one.features} features first, {one.minimum_inliers} inliers pass": replace(PLAIN, screening=one)
               for one in (ScreeningOptions(minimum_inliers=12), ScreeningOptions(features=400))}}


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", action="store_true", help="compare turned looks instead")
    parser.add_argument("--limit", type=int, help="every so many-th query, to have this many")
    parser.add_argument("--collection", type=Path, help="by default beside the folder")
    parser.add_argument("--model", default="delf-r18")
    arguments = parser.parse_args()
    extractor, benchmark = Delf.load(arguments.model), read_benchmark(arguments.folder)
    step = max(1, len(benchmark.queries) // (arguments.limit or len(benchmark.queries)))
    chosen = range(0, len(benchmark.queries), step)[: arguments.limit]
    collection = arguments.collection or arguments.folder.with_suffix(".delf")
    with indexed(benchmark, extractor, collection=collection) as database:
        rows: dict[str, SearchEngine] = {
            name: SearchEngine(database.collection, extractor, options=options)
            for name, options in screenings().items()}
        if arguments.turns:
            rows = {name: kind(database.collection, extractor, options=replace(RECOMMENDED, turns=turns))
                    for name, (kind, turns) in TURNED.items()}
        answers: dict[str, list[SearchResult]] = {name: [] for name in rows}
        for number in chosen:
            path, box = benchmark.queries[number], benchmark.truth.entries[number].box
            query = next(iter(rows.values())).extract(path, box=box)
            for name, engine in rows.items():
                answers[name].append(engine.search_features(
                    query, top=None, turned=partial(engine.turned, path, box=box)))
        entries = benchmark.truth.entries
        truth = replace(benchmark.truth, queries=None, entries=tuple(entries[number] for number in chosen))
        labels = [benchmark.queries[number].name.removeprefix("query-").split("--")[0] for number in chosen]
        print(f"{len(chosen)} queries\n\n| | M / H | above chance | of these not | matches | seconds |\n"
              "|---|---|---|---|---|---|")
        first = next(iter(answers.values())) if not arguments.turns else answers[CHOSEN]
        for name, found in answers.items():
            ranks = [[number for one in answer.results for number in database.numbers.get(one.image, ())]
                     for answer in found]
            above, lost = compared(first, found)
            matches = sum(answer.match for answer in found)
            stage = "turn" if arguments.turns else "verify"
            seconds = statistics.median(answer.seconds.get(stage, 0) for answer in found)
            print(f"| {name} | {means(score_ranks(ranks, truth).ap, labels)} | {above} | {lost} | {matches} | "
                  f"{seconds:.2f} |")


def compared(expected: Sequence[SearchResult], found: Sequence[SearchResult]) -> tuple[int, int]:
    """How many images have more inliers than chance gives, and how many of the expected ones have not."""
    confirmed = [[{one.image for one in answer.results if one.inliers > CHANCE} for answer in answers]
                 for answers in (expected, found)]
    return sum(map(len, confirmed[1])), sum(len(a - b) for a, b in zip(*confirmed, strict=True))


if __name__ == "__main__":
    main()
