"""What each part of the recommended method is worth on a benchmark folder: the method without it.

    python benchmarks/parts.py FOLDER --collection places.delf [--runtime onnx]

All on the same features. mAP under the Easy, Medium and Hard protocols, the share of queries whose first result is
right, and the median time of a search behind extraction.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from delf.datasets.folders import read_benchmark
from delf.evaluate import indexed
from delf.evaluation import score_ranks
from delf.features import Delf
from delf.looks import TurningOptions
from delf.methods import DEFAULT_METHOD, METHODS, SearchOptions
from delf.models import DEFAULT_MODEL
from delf.search import SearchEngine

WHOLE = METHODS[DEFAULT_METHOD]
ALONE = replace(WHOLE.retrieval, support=None)
PARTS: dict[str, SearchOptions] = {
    "all of it": WHOLE,
    "without images that speak for others": replace(WHOLE, retrieval=ALONE),
    "without a first look at the best features": replace(WHOLE, screening=None),
    "without turned looks": replace(WHOLE, turning=TurningOptions()),
    "without all three": replace(WHOLE, retrieval=ALONE, screening=None, turning=TurningOptions()),
    "ASMK* alone": SearchOptions(retrieval=ALONE, ranking="retrieval", candidates=0),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--collection", type=Path, help="keep the features here, and use them again")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--limit", type=int, help="only the first so many queries")
    arguments = parser.parse_args()
    benchmark = read_benchmark(arguments.folder, limit=arguments.limit)
    extractor = Delf.load(arguments.model, runtime=arguments.runtime)
    with indexed(benchmark, extractor, collection=arguments.collection) as database:
        engines = {part: SearchEngine(database.collection, extractor, options=options)
                   for part, options in PARTS.items()}
        ranks: dict[str, list[list[int]]] = {part: [] for part in PARTS}
        seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        for path, entry in zip(benchmark.queries, benchmark.truth.entries, strict=True):
            query = engines["all of it"].query(path, box=entry.box)
            for part, engine in engines.items():
                answer = engine.answer(query, top=None)
                ranks[part].append([number for result in answer.results
                                    for number in database.numbers.get(result.key, ())])
                seconds[part].append(sum(answer.seconds.values()))
    print(f"{benchmark.name}, {len(benchmark.queries)} queries, {extractor.runtime.name}\n")
    print("| delf-asmk | mAP E / M / H | first is right, Medium | s a search |\n|---|---|---|---|")
    for part, found in ranks.items():
        scores = score_ranks(found, benchmark.truth)
        means = " / ".join("-" if scores.map[setting] is None else f"{scores.map[setting]:.1f}"
                           for setting in ("easy", "medium", "hard"))
        print(f"| {part} | {means} | {scores.mp['medium']['1']:.1f} | {statistics.median(seconds[part]):.2f} |")


if __name__ == "__main__":
    main()
