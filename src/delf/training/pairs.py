"""Correspondences from labelled photos: match photos of one class with a model's own features, and keep what verifies.

No point is labelled by hand: photos of one landmark are known to show it, and geometry says which points are the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from delf.collection import Collection
from delf.errors import DelfError, ImageError
from delf.features import Delf
from delf.images import read_image
from delf.settings import Options
from delf.training.correspondences import Correspondences
from delf.training.photos import LabelledPhoto
from delf.types import Features, FloatArray, IntArray
from delf.verification import VerificationOptions, match_features, verify


@dataclass(frozen=True)
class PairOptions(Options):
    """Which pairs are tried and kept.

    tries: pairs of photos of one class, drawn at random where there are more. minimum_inliers: of a pair that is kept.
    per_photo: pairs that one photo is in, those with fewest inliers first: they are the hard ones.
    points: of a pair, at most, drawn at random.
    """

    tries: int = 2000
    minimum_inliers: int = 24
    per_photo: int = 16
    points: int = 64
    seed: int = 0
    verification: VerificationOptions = field(default_factory=lambda: VerificationOptions(threshold=8.0))


@dataclass(frozen=True)
class _Pair:
    rows: tuple[int, int]
    points: FloatArray


def make_correspondences(photos: Sequence[LabelledPhoto], extractor: Delf, options: PairOptions | None = None, *,
                         collection: Collection | None = None, report: Callable[[str], None] = lambda _: None,
                         progress: Callable[[int, int], None] = lambda done, total: None) -> Correspondences:
    """Verified point matches between photos of the same class.

    Args:
        collection: one of the same model; photos that it has are not extracted again.
        report: is given a sentence for each photo that cannot be read. progress: photos done, and all; the features of
            one class are in memory at a time.

    Raises:
        DelfError: no pair of photos verifies, or the collection is of another model.
    """
    options = options or PairOptions()
    if collection is not None:
        collection.require(extractor)
    classes: dict[str, list[int]] = defaultdict(list)
    for row, photo in enumerate(photos):
        classes[photo.label].append(row)
    found: list[_Pair] = []
    done = 0
    for number, (_, rows) in enumerate(sorted(classes.items())):
        features = _features(photos, rows, extractor, collection, report)
        found += _verified(features, options, np.random.default_rng((options.seed, number)))
        done += len(rows)
        progress(done, len(photos))
    kept = _hardest(found, options.per_photo)
    if not kept:
        raise DelfError(f"no two of the {len(photos)} photos could be verified to show the same thing; are the photos "
                        "of each class of one place?")
    return Correspondences([photo.path for photo in photos], np.array([pair.rows for pair in kept], np.int64),
                           np.cumsum([0, *(len(pair.points) for pair in kept)]),
                           np.concatenate([pair.points for pair in kept]), [photo.label for photo in photos])


def _features(photos: Sequence[LabelledPhoto], rows: Sequence[int], extractor: Delf, collection: Collection | None,
              report: Callable[[str], None]) -> dict[int, Features]:
    found = {}
    for row in rows:
        image = None if collection is None else collection.snapshot.ordinal_of(photos[row].path)
        try:
            found[row] = (extractor.extract(read_image(photos[row].path)) if collection is None or image is None
                          else collection.features(image))
        except ImageError as error:
            report(str(error))
    return found


def _verified(features: dict[int, Features], options: PairOptions, rng: np.random.Generator) -> list[_Pair]:
    tried = _drawn(sorted(features), options.tries, rng)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda rows: _points(features[rows[0]], features[rows[1]], options), tried))
    pairs = []
    for rows, points in zip(tried, results, strict=True):
        if len(points) >= options.minimum_inliers:
            chosen = rng.permutation(len(points))[: options.points]
            pairs.append(_Pair(rows, points[np.sort(chosen)]))
    return pairs


def _drawn(rows: Sequence[int], tries: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    every = list(combinations(rows, 2))
    return [every[i] for i in sorted(rng.permutation(len(every))[:tries])]


def _points(one: Features, other: Features, options: PairOptions) -> FloatArray:
    """(N, 4) verified matches."""
    inliers: IntArray = verify(one, other, match_features(one, other), options.verification).inliers
    return np.hstack([one.keypoints[inliers[:, 0]], other.keypoints[inliers[:, 1]]]).astype(np.float32)


def _hardest(pairs: list[_Pair], per_photo: int) -> list[_Pair]:
    """Those with fewest points first, until each photo is in so many."""
    uses: dict[int, int] = defaultdict(int)
    kept = []
    for pair in sorted(pairs, key=lambda pair: (len(pair.points), pair.rows)):
        if all(uses[row] < per_photo for row in pair.rows):
            kept.append(pair)
            for row in pair.rows:
                uses[row] += 1
    return sorted(kept, key=lambda pair: pair.rows)
