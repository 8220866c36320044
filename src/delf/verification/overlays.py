"""Which agreement of two pictures is an overlay's, and not what they show.

Captions, watermarks, the screen of a telephone, a frame: they lie at the same place of every picture that has them. What
two photos share in this way (unturned, each axis keeping an edge or its middle at any scale) says nothing of what they
show, unless the picture around and between agrees as well: copies, crops and series of one camera agree all over, an
overlay in a strip, along the border, or along its letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import Features, IntArray
from delf.verification.plane import Points

Mask = NDArray[np.bool_]
ANCHORS = (0.0, 0.5, 1.0)  # of an axis: what stays where it is when a picture with an overlay is made in another size
GRID = 8  # cells of each axis on which agreement is looked at
FEW = 3  # features of a cell of which nothing can be said


@dataclass(frozen=True)
class OverlayOptions:
    """When agreement counts as an overlay.

    agreement: share of the inliers that lie at the same place of both pictures. stretch: of one axis against the other
    at most. reach: thresholds within which other matches at that place, or on that overlay, go with it. rounds: overlays
    that are looked for. Agreement at the same place is content all the same where
    - it is as dense as that of copies: `dense` is the share of the features of a part of the picture that must agree
      for the part to, and `copies` the least product of the shares of the picture, and of its inner half, that agree;
    - or nearly all agrees, but for a share of `rest`, of a picture that shows something in so many `parts`;
    - or another view of a place happens to lie there, which is sparse ("sparse" and `views` are as above), but never as
      exact as an overlay: half of the inliers miss by more than a share of `exact` of the threshold.
    """

    agreement: float = 0.75
    band: float = 0.2
    at_edges: float = 0.85
    stretch: float = 3.0
    reach: float = 2.0
    rounds: int = 8
    dense: float = 0.2
    copies: float = 0.05
    rest: float = 0.2
    parts: int = 24
    sparse: float = 0.05
    views: float = 0.025
    exact: float = 0.3

    def __post_init__(self) -> None:
        shares = self.agreement, self.dense, self.copies, self.rest, self.sparse, self.views, self.exact
        if not all(0 <= share <= 1 for share in shares):
            raise OptionError("agreement, dense, copies, rest, sparse, views and exact are shares from 0 to 1, not "
                              f"{', '.join(map(str, shares))}.")
        if min(self.stretch, self.reach, self.parts, self.rounds) < 1:
            raise OptionError("stretch, parts, reach and rounds must be 1 or more, not "
                              f"{self.stretch}, {self.parts}, {self.reach} and {self.rounds}.")


@dataclass(frozen=True, eq=False)
class SamePlace:
    """A transform that keeps the place in the frame: quarter turns of the query, then a scale and shift of each axis."""

    turns: int
    size: tuple[int, int]
    scale: Points
    shift: Points

    def distances(self, source: Points, target: Points) -> NDArray[np.float64]:
        """(M,) pixels by which points of the query miss those of the database image."""
        return np.asarray(np.linalg.norm(self(source) - target, axis=1))

    def __call__(self, source: Points) -> Points:
        """(M, 2) points of the query -> of the database image."""
        return turned(source, self.size, self.turns) * self.scale + self.shift


def turned(points: Points, size: tuple[int, int], turns: int) -> Points:
    """Points of a picture that is turned right by quarter turns."""
    for _ in range(turns % 4):
        points, size = np.column_stack([size[1] - 1 - points[:, 1], points[:, 0]]), (size[1], size[0])
    return points


def same_place(source: Points, target: Points, sizes: tuple[tuple[int, int], tuple[int, int]], turns: int,
               tolerance: float, options: OverlayOptions) -> SamePlace | None:
    """The transform that brings inliers of two pictures to the same place of their frames, if there is one."""
    moved = turned(source, sizes[0], turns)
    frame = sizes[0] if turns % 2 == 0 else (sizes[0][1], sizes[0][0])
    axes = [_axis(moved[:, i], target[:, i], frame[i], sizes[1][i], tolerance) for i in (0, 1)]
    found = SamePlace(turns, sizes[0], *(np.array(one) for one in zip(*axes, strict=True)))
    wide = [np.ptp(moved[:, i]) > 4 * tolerance for i in (0, 1)]
    if not (found.scale > 0).all() or (all(wide) and
                                       abs(np.log(found.scale[0] / found.scale[1])) > np.log(options.stretch)):
        return None
    return found if np.mean(found.distances(source, target) <= tolerance) >= options.agreement else None


def _axis(source: NDArray[np.float64], target: NDArray[np.float64], side: int, other: int,
          tolerance: float) -> tuple[float, float]:
    """Scale and shift of one axis that keep its anchor, and bring most points near their partners."""
    best, most = (1.0, 0.0), -1
    for anchor in ANCHORS:
        start, end = anchor * (side - 1), anchor * (other - 1)
        place, partner = source - start, target - end
        kept = np.ones(len(place), np.bool_)
        for _ in range(3):
            scale = float(place[kept] @ partner[kept]) / max(float(place[kept] @ place[kept]), 1e-9)
            errors = np.abs(scale * place - partner)
            kept = errors <= max(tolerance, float(np.median(errors)))
        count = int((errors <= tolerance).sum())
        if count > most:
            best, most = (scale, end - scale * start), count
    return best


def is_content(query: Features, database: Features, rows: IntArray, place: Callable[[Points], Points],
               threshold: float, options: OverlayOptions) -> bool:
    """Whether features all over the part that both pictures have agree, those in its middle among them.

    Args:
        rows: (M, 2) of the features that agree. place: brings points of the query to those of the database image.
    """
    width, height = query.image_size
    corners = place(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
    low = np.maximum(corners.min(axis=0), 0)
    high = np.minimum(corners.max(axis=0), database.image_size)
    moved, stored = place(query.keypoints.astype(np.float64)), database.keypoints.astype(np.float64)
    parts = [_Parts.of(moved, rows[:, 0], low, high), _Parts.of(stored, rows[:, 1], low, high)]
    if all(one.product(options.dense) >= options.copies
           or (one.share(options.dense) >= 1 - options.rest and one.number >= options.parts) for one in parts):
        return True
    missed = np.median(np.linalg.norm(moved[rows[:, 0]] - stored[rows[:, 1]], axis=1))
    return bool(missed > options.exact * threshold
                and all(one.product(options.sparse) >= options.views for one in parts))


def at_edges(source: Points, target: Points, sizes: tuple[tuple[int, int], tuple[int, int]], band: float) -> Mask:
    """(M, 4) which matches lie near the left, top, right and bottom edge in both pictures: within a share of a side."""
    near = []
    for points, size in zip((source, target), sizes, strict=True):
        shares = points / np.array(size)
        near.append(np.hstack([shares <= band, shares >= 1 - band]))
    return near[0] & near[1]


@dataclass(frozen=True, eq=False)
class _Parts:
    """The parts of a picture, of those that show something: how many features they have, and how many of them agree."""

    features: IntArray
    agreeing: IntArray
    inner: Mask

    @classmethod
    def of(cls, points: Points, rows: IntArray, low: Points, high: Points) -> _Parts:
        """Of the (M, 2) points of a picture between two corners, those of some rows agreeing."""
        points = np.nan_to_num(points, nan=-1e9, posinf=1e9, neginf=-1e9)
        inside = ((points >= low) & (points <= high)).all(axis=1)
        cells = np.clip((points - low) / np.maximum(high - low, 1) * GRID, 0, GRID - 1).astype(np.int64)
        numbers = cells[:, 1] * GRID + cells[:, 0]
        features = np.bincount(numbers[inside], minlength=GRID * GRID)
        agreeing = np.bincount(numbers[rows], minlength=GRID * GRID)
        inner = np.zeros((GRID, GRID), np.bool_)
        inner[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True
        told = features >= FEW
        return cls(features[told], agreeing[told], inner.ravel()[told])

    @property
    def number(self) -> int:
        return len(self.features)

    def share(self, rate: float, inner: bool = False) -> float:
        """The share of the features that lie in parts that agree: at least this share of their features do."""
        counted = self.inner if inner else np.ones(len(self.inner), np.bool_)
        agree = counted & (self.agreeing >= np.maximum(rate * self.features, 1))
        return float(self.features[agree].sum() / max(int(self.features[counted].sum()), 1))

    def product(self, rate: float) -> float:
        return self.share(rate) * self.share(rate, inner=True)


def beside(points: Points, overlay: Points, distance: float) -> Mask:
    """(M,) which of (M, 2) points lie near one of an overlay's."""
    squares = np.square(points[:, None] - overlay).sum(axis=2)
    return np.asarray(squares.min(axis=1, initial=np.inf) <= distance**2)
