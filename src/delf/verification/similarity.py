"""Verification by hypotheses from one match each, as in the studies that `asmk+sp` and `hqe+sp` are of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from delf.types import IntArray
from delf.verification.plane import LARGEST_SCALE, Correspondences, Transform, agreeing, plausible, square

TOLERANCE = 3.0  # thresholds within which a similarity from one match counts others: it fits none but itself well
SHORTLIST = 30  # similarities that are refined; with one match in twenty true, 10 miss the right one now and then
ROUNDS = (3.0, 3.0, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0)  # thresholds within which each round of refinement takes matches


def similarity(pairs: Correspondences, threshold: float, most: int) -> Transform | None:
    """An affine transform grown from one match, of the `most` best (Philbin et al., CVPR 2007, section 4).

    Photos are mostly taken upright, so that the places and scales of the two features of one match say how an
    image is moved and scaled. The scales are coarse (steps of the pyramid), and nothing is turned or sheared:
    other matches count within three thresholds. The hypotheses with most support are refined together, by least
    squares on the matches within a threshold that shrinks round by round; of all that came up, the one with
    most support wins, of equals the first, that is plausible when it is fitted to that support once more. As a
    feature can be in many matches of the same visual word, support is the number of different features: the lower of
    those of the two images.
    """
    support = _Support(pairs)
    hypotheses = _similarities(pairs, most)
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
        transform = square(support.refined(winner[None], threshold)[0])
        if plausible(transform, pairs.source[agreeing(transform, pairs.source, pairs.target, threshold)]):
            return transform
    return None


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
