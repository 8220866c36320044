"""The geometry of two views of anything, flat or not: a fundamental matrix, for programs that build in 3D, and beside a
homography for searches.

A homography, by which searches verify, says more of what is flat or far away, and is judged by fewer matches; a
fundamental matrix holds for every scene that does not move, but lets a match slide along a line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, IntArray, Matches
from delf.verification.plane import Correspondences, Estimate, Points, plausible, spread, square

SAMPLE = 7  # matches, which fit up to three fundamental matrices
CLEARLY = 1.6  # times as many matches as a homography explains; fewer are a plane, and matches that slide on lines
LOOKED_AT = 500  # points of each image, which tell well enough how often chance agrees
Matrix = NDArray[np.float64]  # (3, 3)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EpipolarOptions(Options):
    """How a fundamental matrix is estimated.

    threshold: how far a point may lie from its line, in pixels of a photo whose longest side is 1024; it grows in
        proportion for larger photos, and stays for smaller ones.
    minimum_inliers: fewer count as no geometry; COLMAP requires 15.
    iterations, confidence, seed: of the random samples.
    """

    threshold: float = 6.0
    minimum_inliers: int = 15
    iterations: int = 10_000
    confidence: float = 0.9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < float("inf"):
            raise OptionError(f"The option threshold must be a positive number of pixels, not {self.threshold}.")
        if self.minimum_inliers < 8:
            raise OptionError(f"The option minimum_inliers must be 8 or more, not {self.minimum_inliers}: seven "
                              "matches always fit a fundamental matrix.")
        if not (1 <= self.iterations <= 1_000_000 and 0.0 < self.confidence < 1.0 and 0 <= self.seed < 2**31):
            raise OptionError("The option iterations must be 1 to 1000000, confidence between 0 and 1, and seed 0 or "
                              "more.")


def epipolar(query: Features, database: Features, matches: Matches,
             options: EpipolarOptions | None = None) -> tuple[NDArray[np.float64], IntArray] | None:
    """The fundamental matrix F (3, 3), with x1' F x0 = 0 for points x0 of the query and x1 of the database image, and
    the (I, 2) rows of the matches that agree with it, in their order; None where there is none.

    By MAGSAC++ (Barath et al., CVPR 2020), as OpenCV has it.
    """
    options = options or EpipolarOptions()
    source = query.keypoints[matches.query].astype(np.float64)
    target = database.keypoints[matches.database].astype(np.float64)
    usable = np.flatnonzero(np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1))
    if len(usable) < options.minimum_inliers:
        return None
    threshold = options.threshold * max(1.0, max(*query.image_size, *database.image_size) / 1024)
    found = _estimated(source[usable], target[usable], threshold, options.iterations, options.confidence, options.seed)
    if found is None:
        return None
    matrix, mask = found
    agree = usable[mask]
    if len(agree) < options.minimum_inliers:
        return None
    return matrix, np.column_stack([matches.query[agree], matches.database[agree]])


def with_depth(pairs: Correspondences, threshold: float, flat: Estimate | None, iterations: int, confidence: float,
               seed: int) -> Estimate | None:
    """What a fundamental matrix explains of correspondences, where that is clearly more than a homography explains;
    what the homography explains otherwise.

    It is taken where it explains `CLEARLY` times as many as the homography and eight at least, and where chance would
    not explain so many. So whatever is flat or far away, turned without being moved, on a line, or has too few matches
    is left to the homography. The transform is the affine one that fits all that agree best: it says where in the
    database image the query lies and how it is turned, not where each point is.

    Args:
        threshold: how far a point may lie from its line, in pixels of the database image. flat: what the homography
            explains, or None. iterations, confidence, seed: of the random samples.
    """
    least = max(SAMPLE + 1, CLEARLY * (0 if flat is None else pairs.distinct(flat.agree)))
    if pairs.distinct(np.ones(len(pairs), np.bool_)) < least:
        return flat
    found = _estimated(pairs.source, pairs.target, threshold, iterations, confidence, seed)
    if found is None:
        return flat
    views = _Views.of(found[0], pairs.source, pairs.target, threshold)
    agree = views.agreeing(pairs.source, pairs.target)
    if pairs.distinct(agree) < least or not _beyond_chance(views, pairs, agree):
        return flat
    transform = _affine(pairs.source[agree], pairs.target[agree])
    return flat if transform is None or not plausible(transform, pairs.source[agree]) else Estimate(transform, agree)


@dataclass(frozen=True, eq=False)
class _Views:
    """Two views: the fundamental matrix, the epipole (3,) of the database image, the side of it on which partners lie
    (1 or -1), and the threshold.

    A point of the query and its partner lie before both cameras, so that all partners lie on one side of the epipole
    along their lines (Chum, Werner and Matas, ICPR 2004), which leaves half as much to chance.
    """

    matrix: Matrix
    epipole: NDArray[np.float64]
    side: float
    threshold: float

    @classmethod
    def of(cls, matrix: Matrix, source: Points, target: Points, threshold: float) -> _Views:
        """The side is that on which most of those lie that are near their lines."""
        views = cls(matrix, np.linalg.svd(matrix)[0][:, 2], 1.0, threshold)
        near, sides = views._near_and_sides(source, target)
        return cls(views.matrix, views.epipole, 1.0 if (sides[near] > 0).sum() * 2 >= near.sum() else -1.0, threshold)

    def agreeing(self, source: Points, target: Points) -> Mask:
        """(..., M) bool: which points of the database image (..., M, 2) lie where partners of those of the query do."""
        near, sides = self._near_and_sides(source, target)
        return np.asarray(near & (sides * self.side >= 0))

    def _near_and_sides(self, source: Points, target: Points) -> tuple[Mask, NDArray[np.float64]]:
        lines = _homogeneous(source) @ self.matrix.T
        points = _homogeneous(target)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs((lines * points).sum(axis=-1)) <= self.threshold * np.hypot(lines[..., 0], lines[..., 1])
            return near, (np.cross(self.epipole, points) * lines).sum(axis=-1)


def _beyond_chance(views: _Views, pairs: Correspondences, agree: Mask) -> bool:
    """Whether chance would bring so many matches on their lines less than once, in all samples of seven matches that
    there are (Moisan and Stival, IJCV 2004).

    How often chance brings one there is seen from points that are no partners.
    """
    every, agreed = pairs.distinct(np.ones(len(pairs), np.bool_)), pairs.distinct(agree)
    step = -(-len(pairs) // LOOKED_AT)
    others = views.agreeing(pairs.source[::step, None], pairs.target[None, ::step])
    np.fill_diagonal(others, False)
    share = max(1, int(others.sum())) / (len(others) * (len(others) - 1))
    expected = (math.log(3 * (every - SAMPLE)) + _log_choices(every, agreed) + _log_choices(agreed, SAMPLE)
                + (agreed - SAMPLE) * math.log(min(1.0, share)))
    return expected < 0


def _log_choices(every: int, some: int) -> float:
    """The logarithm of the number of ways to choose so many of all."""
    return math.lgamma(every + 1) - math.lgamma(some + 1) - math.lgamma(every - some + 1)


def _affine(source: Points, target: Points) -> Matrix | None:
    """The affine transform of least squares; None where the points do not span a pixel."""
    if not spread(source) or not spread(target):
        return None
    return square(np.linalg.lstsq(_homogeneous(source), target, rcond=None)[0].T)


def _homogeneous(points: Points) -> NDArray[np.float64]:
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


def _estimated(source: Points, target: Points, threshold: float, iterations: int, confidence: float,
               seed: int) -> tuple[Matrix, Mask] | None:
    """The fundamental matrix, and which of the points agree, by MAGSAC++ as OpenCV has it."""
    settings = cv2.UsacParams()
    settings.threshold = threshold
    settings.maxIterations = iterations
    settings.confidence = confidence
    settings.randomGeneratorState = seed
    settings.score = cv2.SCORE_METHOD_MAGSAC
    settings.loMethod = cv2.LOCAL_OPTIM_SIGMA
    settings.loIterations, settings.loSampleSize = 10, 50
    try:
        matrix, mask = cv2.findFundamentalMat(source, target, settings)
    except cv2.error:  # points that determine nothing
        return None
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all() or mask is None:
        return None
    return np.asarray(matrix, np.float64), np.asarray(mask.ravel() != 0)
