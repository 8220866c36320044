"""Transforms of the image plane: what they do with points, and which of them a photo can have undergone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import IntArray

Points = NDArray[np.float64]  # (M, 2)
Transform = NDArray[np.float64]  # (3, 3)

LARGEST_SCALE = 10.0  # of one photo against the other, either way: more than any pyramid spans
LARGEST_STRETCH = 6.0  # the longer over the shorter axis of the ellipse that a circle becomes


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

    def distinct(self, agree: NDArray[np.bool_]) -> int:
        """How many different features some of them (M,) have: of the query or of the database image, whichever are
        fewer.
        """
        return min(len(np.unique(self.rows[agree, side])) for side in (0, 1))


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a verifier makes of correspondences.

    transform: (3, 3) float64 from the plane of the query to that of the database image. agree: (M,) bool, which of them
    agree with what was estimated: with the transform itself, unless the verifier estimates something else as well.
    """

    transform: Transform
    agree: NDArray[np.bool_]


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
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), points.mean(axis=0).tolist())
    rows = transform.tolist()  # so few numbers take a fifth of the time outside of arrays
    return all(_undistorted(rows, x, y) for x, y in corners)


def _undistorted(rows: list[list[float]], x: float, y: float) -> bool:
    """Whether a transform does no more at a point than the angle of a camera can."""
    if not rows[2][0] * x + rows[2][1] * y + rows[2][2] > 0:
        return False
    (xx, xy), (yx, yy) = _jacobian(rows, x, y)
    area, total = xx * yy - xy * yx, xx * xx + xy * xy + yx * yx + yy * yy
    if not (area > 0 and math.isfinite(total)):
        return False
    # Singular values of a 2x2 matrix: their product is the area, and the sum of their squares that of the entries.
    both, difference = math.sqrt(total + 2 * area), math.sqrt(max(total - 2 * area, 0.0))
    longest, shortest = (both + difference) / 2, (both - difference) / 2
    return longest < LARGEST_SCALE and shortest > 1 / LARGEST_SCALE and longest < LARGEST_STRETCH * shortest


def angle(transform: Transform, points: Points) -> float:
    """By how many degrees a transform turns the plane at the middle of points (M, 2), clockwise as pictures are seen,
    in which y grows downwards: from -180 to 180.
    """
    (xx, xy), (yx, yy) = _jacobian(transform.tolist(), *points.mean(axis=0).tolist())
    # The turn that is nearest to a matrix: that of its polar decomposition.
    return math.degrees(math.atan2(yx - xy, xx + yy))


def zoom(transform: Transform, points: Points) -> float:
    """How many times larger a transform shows what lies at the middle of points (M, 2)."""
    (xx, xy), (yx, yy) = _jacobian(transform.tolist(), *points.mean(axis=0).tolist())
    return math.sqrt(abs(xx * yy - xy * yx))


def _jacobian(rows: list[list[float]], x: float, y: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(2, 2): how the plane is scaled, turned and stretched at a point, the depth of which is not 0."""
    horizontal, vertical, depth = (row[0] * x + row[1] * y + row[2] for row in rows)
    x, y = horizontal / depth, vertical / depth
    return (((rows[0][0] - x * rows[2][0]) / depth, (rows[0][1] - x * rows[2][1]) / depth),
            ((rows[1][0] - y * rows[2][0]) / depth, (rows[1][1] - y * rows[2][1]) / depth))


def spread(points: Points) -> bool:
    """Whether the points span the plane by a pixel or more: three that are not on a line, nor in one
    place.
    """
    if len(points) < 3:
        return False
    x, y = (points - points.mean(axis=0)).T
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    return (xx + yy - math.hypot(xx - yy, 2 * xy)) / 2 >= 1.0  # the smaller eigenvalue


def square(affinity: NDArray[Any]) -> Transform:
    """(2, 3) affine transform -> (3, 3)."""
    return np.vstack([affinity, (0.0, 0.0, 1.0)]).astype(np.float64)
