"""Spatial verification: which tentative matches agree with one transform of the image plane, or with one geometry of
two views.

A verifier estimates the transform of correspondences given in the order of their similarity, and says which agree. All
the rest is common to all: `verify` puts the matches in their canonical order, refuses transforms that no pair of photos
has, and takes as inliers the matches that agree, each feature at most once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, IntArray, Matches, Verification
from delf.verification.epipolar import with_depth
from delf.verification.matching import ordered
from delf.verification.overlays import OverlayOptions, without_overlay
from delf.verification.plane import Correspondences, Estimate, Points, Transform, agreeing, plausible, spread, square
from delf.verification.recurrence import Mask, RecurrenceOptions
from delf.verification.similarity import similarity

REFINEMENTS = 10  # rounds of fitting a homography to its inliers; they have grown all they will in fewer


@dataclass(frozen=True)
class VerificationOptions(Options):
    """How a transform is estimated and what agrees with it.

    verifier: a key of `VERIFIERS`. threshold: pixels of a database image whose longest side is 1024; for a
    larger original it grows in proportion, for a smaller one it stays. minimum_inliers: fewer count as no
    match. iterations: the most hypotheses that are tried. confidence: of having tried a sample without
    outliers, at which the search stops early ("reference" always tries them all). seed: of the random
    samples. "similarity" draws none: each match is one hypothesis, the most similar ones up to `iterations`.
    "fundamental" is the homography, unless a fundamental matrix explains clearly more (`verification.epipolar`); the
    threshold is then how far a point may lie from its line.
    overlays: how captions, frames and the like are told from what photos show; None takes them for content.
    recurrence: how they are told by several images of one search; None looks at each alone.
    """

    verifier: str = "homography"
    threshold: float = 10.0
    minimum_inliers: int = 5
    iterations: int = 5000
    confidence: float = 0.999
    seed: int = 0
    overlays: OverlayOptions | None = field(default_factory=OverlayOptions)
    recurrence: RecurrenceOptions | None = field(default_factory=RecurrenceOptions)

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


def verify(query: Features, database: Features, matches: Matches,
           options: VerificationOptions | None = None) -> Verification:
    """The matches that agree with one transform from the query to the database image.

    The order of the matches makes no difference. Where there is no transform (too few points, all on a line,
    not finite, or only a mirrored, collapsed or folded picture would fit) there are no inliers. Matches of overlays
    (see `verification.overlays`) are neither inliers nor among the matches of what is returned.
    """
    options = options or VerificationOptions()
    matches = ordered(matches)
    found = _verified(query, database, matches, options)
    if options.overlays is None:
        return found
    taken = [found.overlay]
    for _ in range(options.overlays.rounds):
        without = without_overlay(query, database, found, threshold_in(options, database), options.overlays)
        if without is None:
            break
        left, overlay = without
        taken.append(overlay)
        found = _verified(query, database, left, options)
    return replace(found, overlay=np.concatenate(taken))


def _verified(query: Features, database: Features, matches: Matches, options: VerificationOptions) -> Verification:
    """The inliers of one transform, whatever they are of."""
    pairs = _correspondences(query, database, matches)
    threshold = threshold_in(options, database)
    found = None
    if len(pairs) >= options.minimum_inliers and spread(pairs.source) and spread(pairs.target):
        found = VERIFIERS[options.verifier](pairs, threshold, options)
    if found is None:
        return _nothing(matches)
    inliers = one_to_one(pairs.rows[found.agree])
    if not plausible(found.transform, pairs.source[found.agree]) or len(inliers) < options.minimum_inliers:
        return _nothing(matches)
    return Verification(inliers, found.transform, matches)


def verify_again(query: Features, database: Features, found: Verification, gone: Mask, side: int,
                 options: VerificationOptions | None = None) -> Verification:
    """What geometry says of two images without some features of one of them, which are taken for an overlay's.

    Args:
        found: what it says with them. gone: (N,) which features, of the query where `side` is 0, of the database image
            where it is 1.
    """
    matches = found.matches
    left = ~gone[(matches.query, matches.database)[side]]
    again = verify(query, database, Matches(matches.query[left], matches.database[left], matches.similarities[left]),
                   options)
    overlay = found.inliers[gone[found.inliers[:, side]]]
    return replace(again, overlay=np.concatenate([found.overlay, overlay, again.overlay]), worth=found.worth)


def threshold_in(options: VerificationOptions, image: Features) -> float:
    """The threshold, in pixels of an image."""
    return options.threshold * max(1.0, max(image.image_size) / 1024)


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
    return None if estimate is None else square(estimate)


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
    return square(solution.T) if rank == 3 else None


def from_one_match(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Transform | None:
    """See `verification.similarity`."""
    return similarity(pairs, threshold, options.iterations)


def fundamental(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Estimate | None:
    """The homography, or a fundamental matrix where it clearly explains more; see `verification.epipolar`."""
    flat = of_plane(homography)(pairs, threshold, options)
    return with_depth(pairs, threshold, flat, options.iterations, options.confidence, options.seed)


Verifier = Callable[[Correspondences, float, VerificationOptions], Estimate | None]


def of_plane(estimator: Callable[[Correspondences, float, VerificationOptions], Transform | None]) -> Verifier:
    """A verifier of a transform, with which the matches agree that it brings within the threshold."""
    def verifier(pairs: Correspondences, threshold: float, options: VerificationOptions) -> Estimate | None:
        transform = estimator(pairs, threshold, options)
        if transform is None:
            return None
        return Estimate(transform, agreeing(transform, pairs.source, pairs.target, threshold))

    return verifier


VERIFIERS: dict[str, Verifier] = {"homography": of_plane(homography), "affine": of_plane(affine),
                                  "reference": of_plane(reference), "similarity": of_plane(from_one_match),
                                  "fundamental": fundamental}
"""Each verifier by its name: correspondences, and the threshold in pixels of the database image -> a transform and what
agrees, or None."""

REFERENCE = VerificationOptions(verifier="reference", threshold=20.0, iterations=1000, overlays=None)
"""The match_images script of the TensorFlow reference (its 20 pixels do not grow with the image)."""


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


def _nothing(matches: Matches) -> Verification:
    return Verification(np.empty((0, 2), np.int64), None, matches)


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
