"""Where what two pictures share lies in each: how an overlay may be placed, and the scale and shift that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.verification.plane import Points

Size = tuple[int, int]
ANCHORS = (0.0, 0.5, 1.0)  # of an axis: what stays where it is when a picture with an overlay is made in another size
STEEP = 1.5  # rise of a line that no text has
ROUNDS = 3  # of a fit to the half that it fits best
AROUND = 2.5  # median distances from the middle of points, beyond which the others are stray
INNER = (0.1, 0.9)  # quantiles of each axis between which a patch is measured: its border is where strays lie


@dataclass(frozen=True, eq=False)
class Place:
    """A scale and a shift of each axis: what keeps a picture upright. centred: it has one scale and keeps the middle of
    both axes, but not all edges, as a watermark in the middle of pictures of several shapes does. patch: it is that of
    a `Patch`.
    """

    scale: Points
    shift: Points
    centred: bool = False
    patch: bool = False

    def __call__(self, points: Points) -> Points:
        """(M, 2) points of the query -> of the database image."""
        return points * self.scale + self.shift

    def missed(self, source: Points, target: Points) -> NDArray[Any]:
        """(M,) pixels by which points of the query miss their partners."""
        return np.asarray(np.linalg.norm(self(source) - target, axis=1))


@dataclass(frozen=True)
class Axis:
    """How one axis is scaled and shifted, and the share of it that keeps its place."""

    scale: float
    shift: float
    anchor: float


@dataclass(frozen=True)
class Patch:
    """The small part of two pictures in which most of some points lie.

    core: (M,) which points. place: how it is moved. sides: (2,) its width and height, and area, as shares of the
    pictures, the larger of both. flat: its height over its width in pixels, the larger of both. apart: (2,) by which
    share of each side it misses being at the same share of it in both pictures: an overlay of another size begins,
    ends or has its middle where the first one does.
    """

    core: NDArray[np.bool_]
    place: Place
    sides: NDArray[Any]
    area: float
    flat: float
    apart: NDArray[Any]

    @classmethod
    def of(cls, source: Points, target: Points, sizes: tuple[Size, Size]) -> Patch:
        """Of three points or more."""
        distances = np.max([np.linalg.norm(points - np.median(points, axis=0), axis=1) / np.sqrt(np.prod(size))
                            for points, size in zip((source, target), sizes, strict=True)], axis=0)
        core = distances <= AROUND * np.median(distances)
        inside = source[core], target[core]
        place, boxes = mostly_pasted(*inside), [np.quantile(points, INNER, axis=0) for points in inside]
        extents = np.array([np.ptp(box, axis=0) for box in boxes])
        shares = extents / sizes
        moved = place(boxes[0]) / sizes[1] - boxes[0] / sizes[0]  # of the left top and the right bottom corner
        return cls(core, place, shares.max(axis=0), float(shares.prod(axis=1).max()),
                   float((extents[:, 1] / np.maximum(extents[:, 0], 1)).max()),
                   np.where(np.prod(moved, axis=0) <= 0, 0.0, np.abs(moved).min(axis=0)))


def anchored(source: NDArray[np.float64], target: NDArray[np.float64], side: int, other: int,
              threshold: float) -> Axis:
    """What keeps one of the anchors of an axis, and brings most points near their partners."""
    best, most = Axis(1.0, 0.0, 0.0), -1
    for anchor in ANCHORS:
        start, end = anchor * (side - 1), anchor * (other - 1)
        place, partner = source - start, target - end
        kept, scale, errors = np.ones(len(place), np.bool_), 1.0, np.abs(place - partner)
        for _ in range(ROUNDS):  # some of the points are of something else: the half that fits decides
            scale = float(place[kept] @ partner[kept]) / max(float(place[kept] @ place[kept]), 1e-9)
            errors = np.abs(scale * place - partner)
            kept = errors <= max(threshold, float(np.median(errors)))
        count = int(np.count_nonzero(errors <= threshold))
        if count > most:
            best, most = Axis(scale, end - scale * start, anchor), count
    return best


def pasted(source: Points, target: Points) -> Place:
    """The one scale, and the shift, that bring points to their partners."""
    centres = source.mean(axis=0), target.mean(axis=0)
    moved, partners = source - centres[0], target - centres[1]
    scale = np.full(2, float((moved * partners).sum()) / max(float(np.square(moved).sum()), 1e-9))
    return Place(scale, centres[1] - scale * centres[0])


def mostly_pasted(source: Points, target: Points) -> Place:
    """The same, fitted to the half of the points that it fits best: some of them are of something else."""
    place = pasted(source, target)
    for _ in range(ROUNDS):
        missed = place.missed(source, target)
        place = pasted(*(points[missed <= np.median(missed)] for points in (source, target)))
    return place


def width(source: Points, target: Points) -> float:
    """How wide three matches or more lie in the picture, as a share of their length; 1 for an upright line, which is a
    tower and no text.
    """
    variances, axes = np.linalg.eigh(np.stack([np.cov(side.T) for side in (source, target)]))  # across and along
    upright = np.abs(axes[:, 1, 1]) > STEEP * np.abs(axes[:, 0, 1])
    widths = np.sqrt(np.maximum(variances[:, 0], 0) / np.maximum(variances[:, 1], 1e-9))
    return float(np.where(upright, 1.0, widths).min())
