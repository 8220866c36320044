"""Spatial verification: which tentative matches agree with one transform of the image plane.

A verifier estimates the transform of correspondences given in the order of their similarity. All the rest is
common to all: `verify` puts the matches in their canonical order, refuses transforms that no pair of photos has, and
takes as inliers the matches within the threshold, each feature at most once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import Features, IntArray, Matches, Verification
from delf.verification.matching import ordered

Points = NDArray[np.float64]  # (M, 2)
Transform = NDArray[np.float64]  # (3, 3)

LARGEST_SCALE = 10.0  # of one photo against the other, either way: more than any pyramid spans
LARGEST_STRETCH = 6.0  # the longer over the shorter axis of the ellipse that a circle becomes
REFINEMENTS = 10  # rounds of fitting a homography to its inliers; they have grown all they will in fewer
TOLERANCE = 3.0  # thresholds within which a similarity from one match counts others: it fits none but itself well
SHORTLIST = 30  # similarities that are refined; with one match in twenty true, 10 miss the right one now and then
ROUNDS = (3.0, 3.0, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0)  # thresholds within which each round of refinement takes matches


@dataclass(frozen=True)
class VerificationOptions:
    """How a transform is estimated and what agrees with it.

    verifier: a key of `VERIFIERS`. threshold: pixels of a database image whose longest side is 1024; for a
    larger original it grows in proportion, for a smaller one it stays. minimum_inliers: fewer count as no
    match. iterations: the most hypotheses that are tried. confidence: of having tried a sample without
    outliers, at which the search stops early ("reference" always tries them all). seed: of the random
    samples. "similarity" draws none: each match is one hypothesis, the most similar ones up to `iterations`.
    """

    verifier: str = "homography"
    threshold: float = 10.0
    minimum_inliers: int = 5
    iterations: int = 5000
    confidence: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        if self.verifier not in VERIFIERS:
            raise OptionError(f"The verifier must be one of {', '.join(VERIFIERS)}, "
                              f"not {self.verifier!r}.")
        if not 0.0 < self.threshold < float("inf"):
            raise OptionError("The option threshold must be a positive number of pixels, "
                              f"not {self.threshold}.")
        if self.minimum_inliers < 3:
            raise OptionError(f"The option minimum_inliers must be 3 or more, not {self.minimum_inliers}: "
                              "three matches always fit an affine transform.")
        if not 1 <= self.iterations <= 1_000_000:
            raise OptionError(f"The option iterations must be 1 to 1000000, not {self.iterations}.")
        if not 0.0 < self.confidence < 1.0:
            raise OptionError(f"The option confidence must lie between 0 and 1, not {self.confidence}.")
        if not 0 <= self.seed < 2**31:
            raise OptionError(f"The option seed must be 0 to 2147483647, not {self.seed}.")


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Tentative matches as a verifier gets them: most similar first, finite, and not all on a line.

    source, target: (M, 2) float64, in pixels of the query and of the database image. zooms: (M,) float64, scale
    of the database feature over that of the query feature, which is how much larger the database image shows
    it; not finite or not positive where a feature has no sensible scale. rows: (M, 2) int64, their features.
    """

    source: Points
    target: Points
    zooms: NDArray[np.float64]
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)


def verify(query: Features, database: Features, matches: Matches,
           options: VerificationOptions | None = None) -> Verification:
    """The matches that agree with one transform from the query to the database image.

    The order of the matches makes no difference. Where there is no transform (too few points, all on a line,
    not finite, or only a mirrored, collapsed or folded picture would fit) there are no inliers.
    """
    options = options or VerificationOptions()
    pairs = _correspondences(query, database, ordered(matches))
    threshold = options.threshold * max(1.0, max(database.image_size) / 1024)
    transform = None
    if len(pairs) >= options.minimum_inliers and spread(pairs.source) and spread(pairs.target):
        transform = VERIFIERS[options.verifier](pairs, threshold, options)
    if transform is None:
        return _nothing(len(matches))
    agree = agreeing(transform, pairs.source, pairs.target, threshold)
    inliers = one_to_one(pairs.rows[agree])
    if not plausible(transform, pairs.source[agree]) or len(inliers) < options.minimum_inliers:
        return _nothing(len(matches))
    return Verification(inliers, transform, len(matches))


def affine(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Transform | None:
    """An affine transform by MAGSAC++ (Barath et al., CVPR 2020), as OpenCV has it."""
    settings = cv2.UsacParams()
    settings.threshold = threshold
    settings.maxIterations = options.iterations
    settings.confidence = options.confidence
    settings.randomGeneratorState = options.seed  # cv2.setRNGSeed does not reach this estimator
    settings.score = cv2.SCORE_METHOD_MAGSAC
    settings.loMethod = cv2.LOCAL_OPTIM_SIGMA
    settings.loIterations, settings.loSampleSize = 10, 50
    try:
        estimate, _ = cv2.estimateAffine2D(pairs.source, pairs.target, settings)
    except cv2.error:  # too few points, or a sample that its solver rejects
        return None
    return None if estimate is None else _square(estimate)


def homography(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Transform | None:
    """A homography grown from the inliers of an affine transform; that transform itself where it explains as
    much.

    An affine transform, found from three points where a homography needs four, holds on a part of the
    picture. Least squares on its inliers reaches a little farther, finds more, and so on.
    """
    start = affine(pairs, threshold, options)
    if start is None:
        return None
    source, target = pairs.source, pairs.target
    best, most = start, agreeing(start, source, target, threshold)
    current = most
    for _ in range(REFINEMENTS):
        grown = _least_squares_homography(source[current], target[current])
        if grown is None:
            break
        current = agreeing(grown, source, target, threshold)
        if current.sum() <= most.sum() or not plausible(grown, source[current]):
            break
        best, most = grown, current
    return best


def reference(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Transform | None:
    """An affine transform by plain RANSAC, in the setting of the TensorFlow reference.

    That is `skimage.measure.ransac` with three points a sample: the hypothesis with most inliers wins, of
    equals the one with the smallest squared residuals, and is fitted again to its inliers. Its options are
    `REFERENCE`; here all hypotheses are made at once.
    """
    source, target = pairs.source, pairs.target
    samples = _samples(len(source), options.iterations, np.random.default_rng(options.seed))
    hypotheses = _exact_affines(source[samples], target[samples])
    if not len(hypotheses):
        return None
    counts, residuals = _support(hypotheses, source, target, threshold)
    winner = hypotheses[np.lexsort((residuals, -counts))[0]]
    inliers = np.square(source @ winner[:, :2].T + winner[:, 2] - target).sum(axis=1) < threshold**2
    design = np.column_stack([source[inliers], np.ones(inliers.sum())])
    solution, _, rank, _ = np.linalg.lstsq(design, target[inliers], rcond=None)
    return _square(solution.T) if rank == 3 else None


def similarity(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Transform | None:
    """An affine transform grown from one match (Philbin et al., CVPR 2007, section 4).

    Photos are mostly taken upright, so that the places and scales of the two features of one match say how an
    image is moved and scaled. The scales are coarse (steps of the pyramid), and nothing is turned or sheared:
    other matches count within three thresholds. The hypotheses with most support are refined together, by least
    squares on the matches within a threshold that shrinks round by round; of all that came up, the one with
    most support wins, of equals the first, that is plausible when it is fitted to that support once more. As a
    feature can be in many matches of the same visual word, support is the number of different features: the lower of
    those of the two images.
    """
    support = _Support(pairs)
    hypotheses = _similarities(pairs, options.iterations)
    if not len(hypotheses):
        return None
    counts = support.counts(hypotheses, TOLERANCE * threshold)
    shortlist = hypotheses[np.argsort(-counts, kind="stable")[:SHORTLIST]]
    transforms = [shortlist]
    for tolerance in ROUNDS:
        shortlist = support.refined(shortlist, tolerance * threshold)
        transforms.append(shortlist)
    refined = np.concatenate(transforms)
    best_first = refined[np.argsort(-support.counts(refined, threshold), kind="stable")]
    for winner in best_first:
        transform = _square(support.refined(winner[None], threshold)[0])
        if plausible(transform, pairs.source[agreeing(transform, pairs.source, pairs.target, threshold)]):
            return transform
    return None


Verifier = Callable[[Correspondences, float, VerificationOptions], Transform | None]
VERIFIERS: dict[str, Verifier] = {"homography": homography, "affine": affine, "reference": reference,
                                  "similarity": similarity}
"""Each verifier by its name: correspondences, and the threshold in pixels of the database image -> a transform,
or None."""

REFERENCE = VerificationOptions(verifier="reference", threshold=20.0, iterations=1000)
"""The match_images script of the TensorFlow reference (its 20 pixels do not grow with the image)."""


def transformed(transform: Transform, points: Points) -> Points:
    """(M, 2) points -> (M, 2); not finite where a point goes to infinity."""
    mapped = points @ transform[:, :2].T + transform[:, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return mapped[:, :2] / mapped[:, 2:]


def agreeing(transform: Transform, source: Points, target: Points, threshold: float) -> NDArray[np.bool_]:
    """(M,) bool: which pairs the transform brings within the threshold, in pixels of the database image."""
    with np.errstate(invalid="ignore", over="ignore"):
        near: NDArray[np.bool_] = np.square(transformed(transform, source) - target).sum(axis=1) <= threshold**2
    return near


def plausible(transform: Transform, points: Points) -> bool:
    """Whether a photo could have been so transformed at these points (M, 2) of the query: not mirrored, not
    folded over the horizon, neither collapsed nor blown up, nor squeezed to a strip.

    At the corners of the points' bounding box, the Jacobian of a transform says how it scales and stretches
    there.
    """
    if not len(points) or not np.isfinite(transform).all():
        return False
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), points.mean(axis=0)])
    depth = corners @ transform[2, :2] + transform[2, 2]
    if (depth <= 0).any():
        return False
    moved = transformed(transform, corners)
    jacobians = (transform[:2, :2] - moved[:, :, None] * transform[2, :2]) / depth[:, None, None]
    areas = jacobians[:, 0, 0] * jacobians[:, 1, 1] - jacobians[:, 0, 1] * jacobians[:, 1, 0]
    squares = np.square(jacobians).sum(axis=(1, 2))
    if not (np.isfinite(squares).all() and (areas > 0).all()):
        return False
    # Singular values of 2x2 matrices: their product is the area, and the sum of their squares that of the entries.
    total, difference = np.sqrt(squares + 2 * areas), np.sqrt(np.maximum(squares - 2 * areas, 0.0))
    longest, shortest = (total + difference) / 2, (total - difference) / 2
    return bool((longest < LARGEST_SCALE).all() and (shortest > 1 / LARGEST_SCALE).all()
                and (longest < LARGEST_STRETCH * shortest).all())


def spread(points: Points) -> bool:
    """Whether the points span the plane by a pixel or more: three that are not on a line, nor in one
    place.
    """
    if len(points) < 3:
        return False
    x, y = (points - points.mean(axis=0)).T
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    return (xx + yy - math.hypot(xx - yy, 2 * xy)) / 2 >= 1.0  # the smaller eigenvalue


def one_to_one(pairs: IntArray) -> IntArray:
    """The pairs (M, 2), best first, without those of which a better pair has a feature already."""
    if all(len(np.unique(pairs[:, side])) == len(pairs) for side in (0, 1)):
        return pairs
    seen: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for row, (query, database) in enumerate(pairs.tolist()):
        if query not in seen[0] and database not in seen[1]:
            seen[0].add(query)
            seen[1].add(database)
            kept.append(row)
    return pairs[kept]


def _correspondences(query: Features, database: Features, matches: Matches) -> Correspondences:
    """What a verifier gets of matches in their order: those whose points are finite."""
    source = query.keypoints[matches.query].astype(np.float64)
    target = database.keypoints[matches.database].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        zooms = database.scales[matches.database].astype(np.float64) / query.scales[matches.query]
    rows = np.column_stack([matches.query, matches.database])
    finite = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    return Correspondences(source[finite], target[finite], zooms[finite], rows[finite])


def _nothing(tentative: int) -> Verification:
    return Verification(np.empty((0, 2), np.int64), None, tentative)


def _square(affinity: NDArray[Any]) -> Transform:
    return np.vstack([affinity, (0.0, 0.0, 1.0)]).astype(np.float64)


def _least_squares_homography(source: Points, target: Points) -> Transform | None:
    if len(source) < 4:
        return None
    estimate, _ = cv2.findHomography(source, target, 0)
    return None if estimate is None else np.asarray(estimate, np.float64)


def _samples(points: int, trials: int, generator: np.random.Generator) -> IntArray:
    """(T, 3) different rows of `points` in each sample."""
    first = generator.integers(points, size=trials)
    second = (first + generator.integers(1, points, size=trials)) % points
    low, high = np.minimum(first, second), np.maximum(first, second)
    third = generator.integers(points - 2, size=trials)
    third += third >= low
    third += third >= high
    return np.column_stack([first, second, third])


def _exact_affines(source: Points, target: Points) -> NDArray[np.float64]:
    """(T, 3, 2) triples of points -> (T', 2, 3) transforms, leaving out triples on a line."""
    edges, images = source[:, 1:] - source[:, :1], target[:, 1:] - target[:, :1]
    solvable = np.abs(np.linalg.det(edges)) > 1e-6
    linear = np.swapaxes(np.linalg.solve(edges[solvable], images[solvable]), 1, 2)
    shift = target[solvable, 0] - np.einsum("tij,tj->ti", linear, source[solvable, 0])
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def _support(hypotheses: NDArray[np.float64], source: Points, target: Points,
             threshold: float) -> tuple[IntArray, NDArray[np.float64]]:
    """How many points each hypothesis (T, 2, 3) brings within the threshold, and the sum of all squared
    residuals.
    """
    homogeneous = np.column_stack([source, np.ones(len(source))]).T
    counts, sums = [], []
    for start in range(0, len(hypotheses), 100):  # with 1000 points 1.6 MB, which stay in the cache
        residuals = np.square(hypotheses[start : start + 100] @ homogeneous - target.T).sum(axis=1)
        counts.append((residuals < threshold**2).sum(axis=1))
        sums.append(residuals.sum(axis=1))
    return np.concatenate(counts), np.concatenate(sums)


def _similarities(pairs: Correspondences, most: int) -> NDArray[np.float64]:
    """(H, 2, 3) transforms that scale by the zoom of one match each and bring its points together."""
    with np.errstate(invalid="ignore"):
        usable = np.flatnonzero((pairs.zooms > 1 / LARGEST_SCALE) & (pairs.zooms < LARGEST_SCALE))[:most]
    zooms = pairs.zooms[usable, None]
    shifts = pairs.target[usable] - zooms * pairs.source[usable]
    return np.concatenate([zooms[:, :, None] * np.eye(2), shifts[:, :, None]], axis=2)


class _Support:
    """How many correspondences many affine transforms (H, 2, 3) have, and the fit to those, all at once."""

    def __init__(self, pairs: Correspondences) -> None:
        order = np.argsort(pairs.rows[:, 0], kind="stable")  # so that matches of one query feature are neighbours
        rows = pairs.rows[order]
        source, target = pairs.source[order], pairs.target[order]
        self._points, self._partners = (side.T.astype(np.float32, order="C") for side in (source, target))
        self._query_starts = _run_starts(rows[:, 0])
        self._by_database = np.argsort(rows[:, 1], kind="stable")
        self._database_starts = _run_starts(rows[self._by_database, 1])
        self._centre = source.mean(axis=0)
        self._unit = np.abs(source - self._centre).max()  # pixels; the points are not all in one place
        design = np.column_stack([(source - self._centre) / self._unit, np.ones(len(rows))])
        self._squares = (design[:, :, None] * design[:, None, :]).reshape(-1, 9)
        self._products = (design[:, :, None] * target[:, None, :]).reshape(-1, 6)

    def counts(self, transforms: NDArray[np.float64], tolerance: float) -> IntArray:
        """(H,) different features that each transform brings within the tolerance of their partners: those of the
        query or those of the database image, whichever are fewer.
        """
        found = [self._different(self._agreeing(transforms[start : start + 100], tolerance))
                 for start in range(0, len(transforms), 100)]  # with 1000 matches 0.8 MB, which stay in the cache
        return np.concatenate(found)

    def refined(self, transforms: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
        """Each transform fitted by least squares to the matches that it brings within the tolerance; as it was where
        those do not span a pixel.
        """
        taken = self._agreeing(transforms, tolerance).astype(np.float64)
        normal, right = (taken @ self._squares).reshape(-1, 3, 3), (taken @ self._products).reshape(-1, 3, 2)
        volumes = np.linalg.det(normal) / np.maximum(taken.sum(axis=1), 1.0) ** 3  # variance by variance
        fit = np.flatnonzero(volumes > max(1e-12, self._unit**-4.0))
        solution = np.swapaxes(np.linalg.solve(normal[fit], right[fit]), 1, 2)
        solution[:, :, :2] /= self._unit
        solution[:, :, 2] -= solution[:, :, :2] @ self._centre
        refined = transforms.copy()
        refined[fit] = solution
        return refined

    def _agreeing(self, transforms: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
        """(H, M) bool, in single precision, which is a hundredth of a pixel in the largest photos."""
        squared = np.zeros((len(transforms), len(self._points[0])), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # points as far away as no picture is large
            coefficients = transforms.astype(np.float32)
            for row, target in enumerate(self._partners):
                residual = coefficients[:, row, 2:] - target
                for column, points in enumerate(self._points):
                    if coefficients[:, row, column].any():  # half of a similarity's are zero
                        residual += coefficients[:, row, column, None] * points
                residual *= residual
                squared += residual
        agree: NDArray[np.bool_] = squared <= tolerance**2
        return agree

    def _different(self, agree: NDArray[np.bool_]) -> IntArray:
        """(H, M) bool, in the order of the query's features -> (H,) different features."""
        counts = np.full(len(agree), agree.shape[1])
        for starts, columns in ((self._query_starts, None), (self._database_starts, self._by_database)):
            part = agree
            if len(starts) < agree.shape[1]:
                part = np.logical_or.reduceat(agree if columns is None else agree[:, columns], starts, axis=1)
            counts = np.minimum(counts, part.sum(axis=1))
        return counts


def _run_starts(values: IntArray) -> IntArray:
    """Where each run of equal neighbours starts."""
    return np.flatnonzero(np.diff(values, prepend=-1))
