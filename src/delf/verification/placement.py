"""Where what two pictures share lies in each: how an overlay may be placed, and the scale and shift that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.verification.plane import Points

Size = tuple[int, int]
ANCHORS = (0.0, 0.5, 1.0)  # of an axis: what stays where it is when a picture with an overlay is made in another size
ROUNDS = 3  # of a fit to the half that it fits best


@dataclass(frozen=True, eq=False)
class Place:
    """A scale and a shift of each axis: what keeps a picture upright."""

    scale: Points
    shift: Points

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
