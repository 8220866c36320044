"""How well photos are found and told from others as a collection grows: mAP, rejection, and the probability.

    delf index PHOTOS_OF_OTHER_CLASSES -o others.delf --storage compact
    python benchmarks/distractors.py runs/holdout=runs/holdout.delf runs/street=runs/street.delf --others others.delf \\
        --collection big.delf --counts 0 10000 100000 -o answers.jsonl [--every 2] [--methods delf-asmk global]
    python benchmarks/distractors.py --report answers.jsonl [--without query-PREFIX]

Each folder is one of `holdout.py`, with a collection that has the features of its images. One collection of compact
storage gets the images of all folders, then the real photos of other classes, and then as many made ones as a count
says (`making.py`, from the photos of other classes); it is asked after each of these steps. What belongs to another
folder is hidden from a query, and so are made images beyond the count, where there are more already. Each query is
asked as it is, and again without any photo of its class, as `delf reject` does; none is looked at turned. A run that
begins again passes over what was answered.

An answer is a line of JSON: `ap` by setting, and of the best images whether they are right, with all evidence. Where
the photos of other classes show rooms of a building that queries show as well, a report does better without these.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from making import Pool, append, grow

from delf.collection import Collection
from delf.datasets.folders import Benchmark, read_benchmark
from delf.evaluation.metrics import average_precision, mean_of_defined, positive_ranks
from delf.evaluation.protocols import MEDIUM, Setting
from delf.evaluation.rejection import Answer, Predictions, score_rejection
from delf.features import Delf
from delf.looks import TurningOptions
from delf.methods import METHODS
from delf.query import Query
from delf.ranking import LARGEST, SMALLEST, WORDS, probability
from delf.search import SearchEngine
from delf.types import Results, SearchResult

WORDS_ALONE = "asmk"  # the candidates of delf-asmk, which are asked for anyway
RANKED, KEPT = 5000, 30  # places that count for mAP, and of which the evidence is kept
HARD = Setting(positive=("hard",), junk=("easy", "junk"))
THRESHOLD = 0.5
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.01)  # of the probability


def main() -> None:
    """Ask, or report what was answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER=COLLECTION")
    parser.add_argument("--others", type=Path, help="a compact collection of photos of other classes")
    parser.add_argument("--collection", type=Path, help="the large one, which is made where it is missing")
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 10_000, 100_000], help="of made images")
    parser.add_argument("--every", type=int, default=2, help="of the queries, each so manieth")
    parser.add_argument("--methods", nargs="+", default=["delf-asmk"], choices=METHODS)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--without", default="/", help="leave out what has this in the name of the query")
    arguments = parser.parse_args()
    if arguments.report:
        report([row for row in rows_of(arguments.report) if arguments.without not in row["name"]])
        return
    extractor = Delf.load(threads=1)
    sets = [Asked.read(text, extractor, arguments.every, arguments.without) for text in arguments.folders]
    with Collection.open_or_create(arguments.collection, extractor, storage="compact") as collection:
        for one in sets:
            with Collection.open(one.features) as own:
                append(collection, own.snapshot)
        if not later(collection, sets):  # of a collection that was made before, only the counts are asked for
            ask(collection, sets, arguments, [])
        with Collection.open(arguments.others) as others:
            pool = Pool.of(others.snapshot)
            append(collection, others.snapshot)
            real = [ordinal for image in others if (ordinal := collection.ordinal_of(image.file)) is not None]
        for count in arguments.counts:
            grow(collection, pool, count, arguments.collection.parent / "made",
                 lambda done, total: print(f"{done:,} of {total:,} made", file=sys.stderr, flush=True))
            ask(collection, sets, arguments, later(collection, sets, real, count))


def later(collection: Collection, sets: Sequence[Asked], real: Sequence[int] = (), count: int = 0) -> list[int]:
    """What there is beside the images of all folders, some real photos, and so many made images."""
    known = {ordinal for one in sets for ordinal in one.ordinals(collection)}.union(real)
    return np.setdiff1d(np.arange(len(collection.alive)), list(known))[count:].tolist()


# --- asking


@dataclass(frozen=True, eq=False)
class Asked:
    """A benchmark folder. features: the collection of its images. queries: numbers, and what is asked."""

    benchmark: Benchmark
    features: Path
    queries: Mapping[int, Query]

    @classmethod
    def read(cls, text: str, extractor: Delf, every: int, without: str) -> Asked:
        """FOLDER=COLLECTION; the features of the queries are extracted, but of those with a name with `without`."""
        folder, features = text.split("=")
        benchmark = read_benchmark(folder)
        return cls(benchmark, Path(features), {
            number: Query.of_features(Query.of_photo(
                extractor, benchmark.queries[number], box=benchmark.truth.entries[number].box).features, f"{number}")
            for number in range(0, len(benchmark.queries), every) if without not in benchmark.queries[number].stem})

    def ordinals(self, collection: Collection) -> list[int]:
        """Of its images, in their order."""
        found = [collection.ordinal_of(path) for path in self.benchmark.images]
        assert None not in found, "an image of the folder is not in its collection"
        return [int(one or 0) for one in found]


def ask(collection: Collection, sets: Sequence[Asked], arguments: argparse.Namespace, hide: Sequence[int]) -> None:
    """Ask all queries of all folders by all methods, but what was asked before. hide: images that are not searched."""
    done = {(row["folder"], row["images"], row["query"], row["kind"]) for row in rows_of(arguments.output)}
    plain = {name: replace(METHODS[name], turning=TurningOptions()) for name in arguments.methods}
    start = time.process_time()
    engines = [SearchEngine(collection, options=options, method=name) for name, options in plain.items()]
    print(f"{len(collection):,} images, opened in {time.process_time() - start:.1f} s of a processor", file=sys.stderr)
    own = [set(one.ordinals(collection)) for one in sets]
    with arguments.output.open("a", encoding="ascii") as file:
        for number, one in enumerate(sets):
            hidden = [*hide, *set().union(*own[:number], *own[number + 1 :]) - own[number]]
            images = len(collection) - len(hidden)
            for query in one.queries:
                for kind in ("answerable", "hard"):
                    if (one.benchmark.name, images, query, kind) in done:
                        continue
                    for row in answers(engines, one, query, kind, one.ordinals(collection), hidden):
                        file.write(json.dumps({"folder": one.benchmark.name, "images": images, **row}) + "\n")
                file.flush()
            print(f"{one.benchmark.name} among {images:,}: {time.process_time() - start:.0f} s of a processor",
                  file=sys.stderr, flush=True)


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """What was answered by now."""
    if file.exists():
        yield from map(json.loads, file.read_text(encoding="ascii").splitlines())


def answers(engines: Sequence[SearchEngine], asked: Asked, number: int, kind: str, ordinals: Sequence[int],
            hidden: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The answer of each method to a query, and of the words alone."""
    entry, query = asked.benchmark.truth.entries[number], asked.queries[number]
    right, junk = (set(entry.indices(labels).tolist()) for labels in (MEDIUM.positive, MEDIUM.junk))
    taken = [ordinals[one] for one in right | junk] if kind == "hard" else []
    places = {ordinal: place for place, ordinal in enumerate(ordinals)}
    for engine in engines:
        start, key_of = time.process_time(), engine.snapshot.key_of
        candidates = engine.retrieve(query.features, exclude=[*hidden, *taken])
        found = engine.answer(query, candidates=candidates, exclude=[*hidden, *taken], top=None)
        keys = {key_of(ordinal): place for ordinal, place in places.items()}
        ranks = [keys.get(key, -1 - rank) for rank, key in enumerate(islice(keys_of(found), RANKED))]
        name = asked.benchmark.queries[number].stem
        about = {"query": number, "name": name, "kind": kind, "answerable": bool(right)}
        yield {**about, "method": engine.method, "ap": aps(ranks, entry), "seconds": time.process_time() - start,
               "best": [described(one, ranks[rank], right) for rank, one in examined(found) if ranks[rank] not in junk]}
        if engine.method == "delf-asmk":
            best = candidates.best(RANKED)
            ranks = [places.get(ordinal, -1 - rank) for rank, ordinal in enumerate(best.images.tolist())]
            yield {**about, "method": WORDS_ALONE, "ap": aps(ranks, entry), "best": [
                {"right": rank in right, "score": score} for rank, score in
                zip(ranks[:KEPT], best.scores.tolist(), strict=False) if rank not in junk]}


def keys_of(found: SearchResult) -> Iterable[str]:
    """The keys of all results."""
    return found.results.keys() if isinstance(found.results, Results) else (one.key for one in found.results)


def examined(found: SearchResult) -> Iterator[tuple[int, Any]]:
    """The best results, with their places."""
    return ((one.rank - 1, one) for one in found.results[:KEPT])


def described(one: Any, rank: int, right: set[int]) -> dict[str, Any]:
    """What is kept of a result."""
    return {"right": rank in right, "real": rank >= 0, "score": one.score, "inliers": one.inliers,
            "probability": one.probability or 0.0, "evidence": dict(one.evidence or {})}


def aps(ranks: Sequence[int], entry: Any) -> dict[str, float | None]:
    """Average precision by setting."""
    found = {}
    for name, setting in (("medium", MEDIUM), ("hard", HARD)):
        positives = entry.indices(setting.positive)
        found[name] = average_precision(positive_ranks(np.array(ranks), positives, entry.indices(setting.junk)),
                                        len(positives))
    return found


# --- reporting


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table for each folder, and what the probability is worth at each size."""
    weights = Delf.load(threads=1).weights(by_words=True)
    for folder in dict.fromkeys(row["folder"] for row in rows):
        print(f"\n{folder}\n\n| method | images | Medium / Hard | best is right | right at 1 % / 5 % | "
              "above 0.5: right, without a match | s |\n|---|---|---|---|---|---|---|")
        for method in dict.fromkeys(row["method"] for row in rows):
            for images in sorted({row["images"] for row in rows if row["folder"] == folder}):
                some = [row for row in rows
                        if (row["folder"], row["method"], row["images"]) == (folder, method, images)]
                if some:
                    print(line(method, images, some, weights), flush=True)
    asked = [row for row in rows if row["method"] == "delf-asmk" and row["best"]]
    print("\n| images | answers | log loss | mean probability, share right: of the best image |\n|---|---|---|---|")
    for images in sorted({row["images"] for row in asked}):
        print(reliability(images, [row for row in asked if row["images"] == images], weights))


def line(method: str, images: int, rows: Sequence[dict[str, Any]], weights: Mapping[str, float]) -> str:
    """A row of the table."""
    answerable = [row for row in rows if row["kind"] == "answerable" and row["answerable"]]
    medium, hard = (100 * (mean_of_defined(row["ap"][name] for row in answerable) or 0.0)
                    for name in ("medium", "hard"))
    verified = method != WORDS_ALONE and METHODS[method].verifies
    by = "probability" if verified else "score"
    given = Predictions(tuple(answer(row, images, weights) for row in rows), {"threshold": THRESHOLD})
    one, five = (score_rejection(given, by, share) for share in (0.01, 0.05))
    at = one.at_threshold or {}
    own = f"{at.get('recall') or 0.0:.1f}, {at.get('hard') or 0.0:.1f}" if at else "-"
    seconds = np.mean([row.get("seconds", 0.0) for row in rows])
    return (f"| {method} | {images:,} | {medium:.1f} / {hard:.1f} | {one.top1:.1f} | {one.recall['hard'] or 0.0:.1f} / "
            f"{five.recall['hard'] or 0.0:.1f} | {own} | {seconds:.2f} |")


def answer(row: dict[str, Any], images: int, weights: Mapping[str, float]) -> Answer:
    """As `delf reject` has it, best first."""
    best = row["best"]
    return Answer(f"{row['query']}", row["kind"], tuple(f"{place}" for place in range(len(best))),
                  np.array([one["right"] for one in best], bool),
                  {"probability": np.array([told(one, images, weights) for one in best]),
                   "inliers": np.array([one.get("inliers", 0.0) for one in best], np.float64),
                   "score": np.array([one["score"] for one in best], np.float64)})


def told(one: dict[str, Any], images: int, weights: Mapping[str, float]) -> float:
    """The probability among so many images: what was hidden was not searched."""
    found = one.get("evidence")
    if not found:
        return 0.0
    if WORDS not in found or not one["inliers"]:
        return float(one["probability"])
    return probability({**found, "images": float(np.log10(min(max(images, SMALLEST), LARGEST)))}, weights)


def reliability(images: int, rows: Sequence[dict[str, Any]], weights: Mapping[str, float]) -> str:
    """What the probability of the best image says, and how often that is so."""
    said = np.array([told(row["best"][0], images, weights) for row in rows])
    right = np.array([row["best"][0]["right"] for row in rows])
    loss = -np.mean(np.log(np.clip(np.where(right, said, 1 - said), 1e-6, 1)))
    parts = [f"{said[inside].mean():.2f}: {right[inside].sum()} of {inside.sum()}"
             for low, high in pairwise(BINS) if (inside := (said >= low) & (said < high)).any()]
    return f"| {images:,} | {len(rows)} | {loss:.3f} | {'; '.join(parts)} |"


if __name__ == "__main__":
    main()
