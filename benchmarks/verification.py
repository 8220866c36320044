"""Time and quality of the verifiers: on scenes with a known transform, and on pairs of photos.

    python benchmarks/verification.py [--pairs DATA/pairs/holdout.npz --photos DATA/train]

The first table has 1000 tentative matches, of which a share obeys an affine transform or a homography with noise of 2
pixels and the others are uniform; scikit-image's ransac (three points, 1000 trials, as the TensorFlow reference
uses it) runs beside. The second counts inliers of RootSIFT matches for pairs of photos that show the same thing and
pairs of different classes (a file name starts with its class); "found" is the share of pairs with more inliers than
99 % of the pairs of different classes have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import ransac
from skimage.transform import AffineTransform

from delf.types import Features, Matches
from delf.verification import VERIFIERS, VerificationOptions, match_features, verify
from delf.verification.plane import transformed

Array = NDArray[np.float64]
SIZE = (1024, 768)
AFFINE = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [0.0, 0.0, 1.0]])
HOMOGRAPHY = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [3e-4, -2e-4, 1.0]])
Method = Callable[[Features, Features, Matches], NDArray[np.int64]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=30, help="scenes for each row of the first table")
    parser.add_argument("--pairs", type=Path, help="verified pairs of photos (.npz: files, pairs)")
    parser.add_argument("--photos", type=Path, help="the folder that the pairs name")
    parser.add_argument("--count", type=int, default=300, help="pairs of each sort in the second table")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    known_scenes(arguments.scenes)
    if arguments.pairs and arguments.photos:
        photo_pairs(arguments.pairs, arguments.photos, arguments.count)


def methods() -> Iterator[tuple[str, Method]]:
    """Each verifier, and scikit-image, as a function that returns (I, 2) inliers."""
    for name in VERIFIERS:
        options = VerificationOptions(name, iterations=1000) if name == "reference" else VerificationOptions(name)
        yield name, partial(by_verifier, options)
    yield "scikit-image", by_scikit_image


def by_verifier(options: VerificationOptions, query: Features, database: Features,
                matches: Matches) -> NDArray[np.int64]:
    """The inliers of `verify`."""
    return verify(query, database, matches, options).inliers


def by_scikit_image(query: Features, database: Features, matches: Matches) -> NDArray[np.int64]:
    """The inliers of `skimage.measure.ransac` at the same threshold."""
    points = query.keypoints[matches.query].astype(float), database.keypoints[matches.database].astype(float)
    if len(matches) < 4:
        return np.empty((0, 2), np.int64)
    _, mask = ransac(points, AffineTransform, min_samples=3, residual_threshold=VerificationOptions().threshold,
                     max_trials=1000, rng=0)
    inliers = np.zeros(len(matches), bool) if mask is None else mask
    return np.column_stack([matches.query, matches.database])[inliers]


def known_scenes(count: int) -> None:
    """Print median time, recall and precision for each verifier and share of inliers."""
    print(f"{'transform':12}{'inliers':>8}  {'verifier':14}{'ms':>8}{'recall':>8}{'worst':>8}{'precision':>11}")
    for kind, transform in (("affine", AFFINE), ("homography", HOMOGRAPHY)):
        for share in (0.1, 0.3, 0.5):
            for name, method in methods():
                rows = [measured(method, *scene(transform, share, seed)) for seed in range(count)]
                seconds, recall, precision = np.array(rows).T
                print(f"{kind:12}{share:8.0%}  {name:14}{1e3 * np.median(seconds):8.2f}{recall.mean():8.3f}"
                      f"{recall.min():8.3f}{precision.mean():11.3f}", flush=True)


def measured(method: Method, query: Features, database: Features, true: NDArray[np.bool_]) -> tuple[float, ...]:
    """Seconds, recall and precision on one scene."""
    rows = np.arange(len(true))
    matches = Matches(rows, rows, np.random.default_rng(0).random(len(true)).astype(np.float32))
    start = time.perf_counter()
    inliers = method(query, database, matches)
    seconds = time.perf_counter() - start
    correct = true[inliers[:, 0]].sum()
    return seconds, correct / true.sum(), correct / max(len(inliers), 1)


def scene(transform: Array, share: float, seed: int) -> tuple[Features, Features, NDArray[np.bool_]]:
    """1000 points, their partners, and which pairs obey the transform."""
    generator = np.random.default_rng(seed)
    points = generator.uniform((0, 0), SIZE, (1000, 2))
    true = generator.permutation(1000) < 1000 * share
    partners = transformed(transform, points) + generator.normal(0, 2, points.shape)
    partners[~true] = generator.uniform((0, 0), SIZE, points.shape)[~true]
    return features(points), features(partners), true


def features(points: Array, descriptors: Array | None = None, size: tuple[int, int] = SIZE) -> Features:
    """Features at points, without descriptors where none are given."""
    ones = np.ones(len(points), np.float32)
    described = np.zeros((len(points), 1)) if descriptors is None else descriptors
    return Features(points.astype(np.float32), ones, ones, described.astype(np.float32), size)


def root_sift(path: Path) -> Features:
    """At most 1000 SIFT features, square-rooted (Arandjelović and Zisserman, CVPR 2012)."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit(f"{path} is not an image.")
    keypoints, descriptors = cv2.SIFT.create(1000).detectAndCompute(image, None)
    points = np.array([keypoint.pt for keypoint in keypoints], float).reshape(-1, 2)
    values = np.zeros((0, 128)) if descriptors is None else np.asarray(descriptors, float)
    size = (image.shape[1], image.shape[0])
    return features(points, np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9)), size)


def photo_pairs(path: Path, photos: Path, count: int) -> None:
    """Print inlier counts for pairs of the same and of different things, and how well the counts part them."""
    with np.load(path, allow_pickle=False) as data:
        files, pairs, planar = data["files"], data["pairs"], data["homography"]
    generator = np.random.default_rng(0)
    same = generator.permutation(len(pairs))[:count]
    pictures: dict[str, Features] = {}

    def picture(name: str) -> Features:
        if name not in pictures:
            pictures[name] = root_sift(photos / name)
        return pictures[name]

    different: list[tuple[str, str]] = []
    while len(different) < count:
        first, second = files[generator.integers(len(files), size=2)]
        if first.split("/")[0] != second.split("/")[0]:
            different.append((first, second))
    groups = {"different": different,
              "same, planar": [tuple(files[pairs[row]]) for row in same if planar[row]],
              "same, not planar": [tuple(files[pairs[row]]) for row in same if not planar[row]]}
    matched = {group: [(picture(a), picture(b), match_features(picture(a), picture(b))) for a, b in names]
               for group, names in groups.items()}
    print(f"\n{'pairs':18}{'verifier':14}{'number':>7}{'ms':>8}{'inliers':>9}{'10 %':>6}{'90 %':>6}{'99 %':>6}"
          f"{'found':>8}")
    for name, method in methods():
        counts = {}
        for group, triples in matched.items():
            start = time.perf_counter()
            counts[group] = np.array([len(method(*triple)) for triple in triples])
            milliseconds = 1e3 * (time.perf_counter() - start) / max(len(triples), 1)
            low, middle, high, highest = np.percentile(counts[group], (10, 50, 90, 99))
            limit = np.percentile(counts["different"], 99) if "different" in counts else None
            found = "" if limit is None else f"{(counts[group] > limit).mean():8.1%}"
            print(f"{group:18}{name:14}{len(triples):7}{milliseconds:8.2f}{middle:9.0f}{low:6.0f}{high:6.0f}"
                  f"{highest:6.0f}{found}", flush=True)


if __name__ == "__main__":
    main()
