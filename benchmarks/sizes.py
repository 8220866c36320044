"""Whether a probability is right in collections of any size, each as it really is.

    python benchmarks/sizes.py runs/all.delf --manifest MANIFEST.csv --unseen OTHER.csv

Photos whose classes no training saw (as in `verifier.py`) search so many others of the collection, once with up to a
fifth of them of their class, and once with none. All images that words find are verified, or the best hundred. The best
result, where it has inliers, is a sample. A line is a size: samples, their mean probability, the share that is right,
and, of those between two probabilities, how many are right, with the interval that holds nine times of ten (Wilson).
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from verifier import RIGHT, Cached, Sample, Tables, packed

from delf.collection import Collection
from delf.methods import method_options
from delf.search import SearchEngine

SIZES = (10, 30, 100, 300, 1000)
BINS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
NINE_OF_TEN = 1.645  # standard deviations


def main() -> None:
    """Search, and print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--manifest", type=Path, required=True, help="file,class,split: queries are held out")
    parser.add_argument("--unseen", type=Path, help="the same of photos of which none was trained on")
    parser.add_argument("--cache", type=Path, default=Path("runs/sizes"), help="a folder for what was found")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--queries", type=int, default=60, help="of each size")
    arguments = parser.parse_args()
    unseen = {row["class"] for path in (arguments.manifest, arguments.unseen) if path
              for row in csv.DictReader(path.open()) if path == arguments.unseen or row["split"] == "holdout"}
    options = method_options("delf-asmk", {"candidates": 100})
    small = Small(SearchEngine(Collection.open(arguments.collection), options=options), arguments.cache)
    queries = small.chosen(unseen, arguments.queries)[: arguments.queries]
    bins = " | ".join(f"{low:.2f} to {high:.2f}" for low, high in pairwise(BINS))
    print(f"| images | samples | mean | right | {bins} |\n|{'---|' * (len(BINS) + 3)}")
    for size in arguments.sizes:
        print(line(size, [one for query in queries for one in small.samples_of(query, size)]), flush=True)


class Small(Tables):
    """Searches of so many images, drawn at random."""

    def samples_of(self, query: int, size: int) -> Iterator[Sample]:
        """The best result with photos of the class of a query, and without."""
        features = self._engine.snapshot.features(query)
        everything = self._engine.retriever.candidates(features, self._engine.snapshot.alive)
        similarities = np.zeros(len(self._labels), np.float32)
        similarities[everything.images] = everything.scores
        for answerable in (True, False):
            rng = np.random.default_rng([query, size, answerable])
            others = rng.permutation(np.flatnonzero(self._families != self._families[query]))
            same = np.flatnonzero(self._labels == self._labels[query])
            same = rng.permutation(same[same != query])[: min(int(rng.choice(RIGHT)), max(size // 5, 1))]
            right = same if answerable else same[:0]
            alive = np.zeros(len(self._labels), np.bool_)
            alive[np.concatenate([right, others[: size - len(right)]])] = True
            look = self._look(features, alive)
            if not look.verified or (answerable and not len(right)):
                continue
            found = Cached({"kept": right, "sim": similarities, **packed(look, "")}, "", features, self._engine)
            found.judge(alive, size)
            best = found.best(alive)
            if best is not None and found.probability[best] > 0:
                own = self._labels[found.ordinals[best]] == self._labels[query]
                yield Sample(query, str(self._labels[query]), size, answerable, bool(own and answerable),
                             float(found.probability[best]), {})


def line(size: int, samples: Sequence[Sample]) -> str:
    """A line of the table."""
    chances, right = (np.array([getattr(one, name) for one in samples], float) for name in ("probability", "right"))
    cells = []
    for low, high in pairwise(BINS):
        there = right[(chances >= low) & ((chances < high) | (high == 1))]
        cells.append(interval(int(there.sum()), len(there)))
    return f"| {size} | {len(samples)} | {chances.mean():.3f} | {right.mean():.3f} | " + " | ".join(cells) + " |"


def interval(right: int, number: int) -> str:
    """How many of how many are right, and between which shares it is nine times of ten (Wilson's interval)."""
    if not number:
        return ""
    share, spread = right / number, NINE_OF_TEN**2 / number
    middle = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = ((middle + way * half) / (1 + spread) for way in (-1, 1))
    return f"{right} of {number} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
