"""How verifiers part right pairs from wrong ones, of scenes that are flat and of scenes with depth.

    python benchmarks/holdout.py --manifest MANIFEST.csv --pairs verified.csv -o runs/holdout
    python benchmarks/depth.py runs/holdout.delf --pairs holdout.npz [--count 200] [--thresholds 6 10]

Right are verified pairs of photos (.npz: files, pairs, homography) of which the collection has both; those whose
`homography` is false fit a fundamental matrix alone. Wrong are the best candidates of other classes that the first
photos of these pairs find by words. Every verifier gets the same matches. "found" is the share of right pairs with more
inliers than 99 % of the wrong ones have.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.search import SearchEngine
from delf.verification import VERIFIERS, VerificationOptions, match_features, verify

Pairs = list[tuple[int, int]]  # ordinals of images


def main() -> None:
    """Verify, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="right pairs, and wrong ones")
    parser.add_argument("--verifiers", nargs="+", choices=list(VERIFIERS), default=["homography", "fundamental"])
    parser.add_argument("--thresholds", nargs="+", type=float, default=[VerificationOptions().threshold])
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    engine = SearchEngine(Collection.open(arguments.collection))
    groups = chosen(engine, arguments.pairs, arguments.count)
    options = [VerificationOptions(name, threshold) for threshold in arguments.thresholds
               for name in arguments.verifiers]
    found = {name: counted(engine, pairs, options) for name, pairs in groups.items()}
    print("| verifier, pixels | pairs | ms | inliers: 10 %, median, 90 %, 99 % | found |\n|---|---|---|---|---|")
    for row, one in enumerate(options):
        limit = np.percentile(found["wrong"][0][row], 99)
        for name, (counts, seconds) in found.items():
            shares = ", ".join(f"{share:.0f}" for share in np.percentile(counts[row], (10, 50, 90, 99)))
            print(f"| {one.verifier}, {one.threshold:g} | {len(counts[row])} {name} | "
                  f"{1e3 * np.median(seconds[row]):.1f} | {shares} | {np.mean(counts[row] > limit):.1%} |")


def chosen(engine: SearchEngine, path: Path, count: int) -> dict[str, Pairs]:
    """Pairs of images by their kind."""
    with np.load(path, allow_pickle=False) as data:
        files, pairs, planar = data["files"], data["pairs"], data["homography"]
    snapshot, random = engine.snapshot, np.random.default_rng(0)
    names = [Path(snapshot.image(ordinal).path).stem for ordinal in range(len(snapshot))]
    where = {name: ordinal for ordinal, name in enumerate(names)}
    ordinals = [where.get(str(Path(file).with_suffix("")).replace("/", "--"), -1) for file in files.tolist()]
    right = [(ordinals[first], ordinals[second], bool(flat)) for (first, second), flat in
             zip(pairs.tolist(), planar.tolist(), strict=True) if min(ordinals[first], ordinals[second]) >= 0]
    groups = {f"right, {'flat' if flat else 'with depth'}": [
        right[row][:2] for row in random.permutation(len(right)) if right[row][2] == flat][:count // 2]
        for flat in (True, False)}
    wrong: Pairs = []
    for query in random.permutation(sorted({first for first, _, _ in right})).tolist():
        candidates = engine.retrieve(snapshot.features(query)).images.tolist()
        others = [one for one in candidates if names[one].split("--")[0] != names[query].split("--")[0]]
        wrong += [(query, other) for other in others[:10]]
        if len(wrong) >= count:
            break
    return {**groups, "wrong": wrong[:count]}


def counted(engine: SearchEngine, pairs: Pairs, options: list[VerificationOptions],
            ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(V, P) inliers of each pair by each verifier, and the seconds that it took."""
    counts, seconds = np.zeros((len(options), len(pairs)), np.int64), np.zeros((len(options), len(pairs)))
    for column, pair in enumerate(pairs):
        query, database = (engine.snapshot.features(ordinal) for ordinal in pair)
        matches = match_features(query, database)
        for row, one in enumerate(options):
            start = time.perf_counter()
            counts[row, column] = len(verify(query, database, matches, one))
            seconds[row, column] = time.perf_counter() - start
    return counts, seconds


if __name__ == "__main__":
    main()
