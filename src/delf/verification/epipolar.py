"""The geometry of two views of anything, flat or not: a fundamental matrix, for programs that build in 3D.

A homography, by which searches verify, says more of what is flat or far away, and is judged by fewer matches; a
fundamental matrix holds for every scene that does not move, but lets a match slide along a line.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import Features, IntArray, Matches


@dataclass(frozen=True)
class EpipolarOptions:
    """How a fundamental matrix is estimated.

    threshold: how far a point may lie from its line, in pixels of a photo whose longest side is 1024; it grows in
    proportion for larger ones, and stays for smaller ones. minimum_inliers: fewer count as no geometry; COLMAP asks for
    15. iterations, confidence, seed: of the random samples.
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
    settings = cv2.UsacParams()
    settings.threshold = options.threshold * max(1.0, max(*query.image_size, *database.image_size) / 1024)
    settings.maxIterations = options.iterations
    settings.confidence = options.confidence
    settings.randomGeneratorState = options.seed
    settings.score = cv2.SCORE_METHOD_MAGSAC
    settings.loMethod = cv2.LOCAL_OPTIM_SIGMA
    settings.loIterations, settings.loSampleSize = 10, 50
    try:
        matrix, mask = cv2.findFundamentalMat(source[usable], target[usable], settings)
    except cv2.error:  # points that determine nothing
        return None
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all() or mask is None:
        return None
    agree = usable[mask.ravel() != 0]
    if len(agree) < options.minimum_inliers:
        return None
    return np.asarray(matrix, np.float64), np.column_stack([matches.query[agree], matches.database[agree]])
