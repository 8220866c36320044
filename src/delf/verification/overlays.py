"""Which agreement of two pictures is an overlay's, and not what they show.

Captions, watermarks, signs, the screen of a telephone, a frame agree with themselves, and nothing around them does. So
what agrees is content only where the pictures look alike around it as well (`verification.surroundings`). More is asked
of what lies as overlays mostly do: at the same place of both pictures, unturned, each axis keeping an edge or its
middle at any scale; or, of those that repeat themselves, somewhere along the same edge; or the same pixels somewhere
else. Copies, crops and series of one camera, which lie there as well, agree all over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, IntArray, Matches, Verification
from delf.verification.placement import Axis, Place, Size, anchored, pasted
from delf.verification.plane import Points, angle, transformed
from delf.verification.surroundings import likeness

Mask = NDArray[np.bool_]
WIDE = 4  # thresholds that points must span along an axis for its scale to be known
GRID = 8  # parts of each axis on which agreement is looked at
FAR = 1e9  # pixels: where what lies nowhere is taken to lie
MOST = 3  # features that a part must have for anything to be said of it, where the picture has many


@dataclass(frozen=True)
class OverlayOptions(Options):
    """When agreement counts as an overlay. The figures were chosen in `benchmarks/CHOICES.md`, "Overlays".

    minimum: inliers; fewer are not looked at, and fewer than `few` only where overlays mostly lie. alike: how alike the
    pictures must be around what agrees (`likeness`); None for features that lie too sparse to say so, as details do.
    same: the same, for what lies where overlays mostly do. Where nothing says how alike they are, what agrees is
    content unless it lies there.

    What lies there: agreement: share of the inliers that must lie at the same place of both pictures. stretch: of one
    axis against the other at most. near: share of a side within which half of the inliers must lie of an edge that
    keeps its place, where the opposite one does not. edges: share of the inliers that must lie at the same edge of both
    pictures, within a share `band` of the side, and be as far from it, within `slack` thresholds. pasted: share of the
    threshold by which half of the inliers miss at most where pixels were pasted.

    It is content all the same where it is as dense as that of copies: `dense` is the share of the features of a part of
    the picture that must agree for the part to, and `copies` the least product of the shares of all parts, and of the
    inner ones, that agree; or where nearly all agrees, but for a share of `rest`, of a picture that shows something in
    so many `parts`.

    reach: thresholds within which other matches at that place, or on the overlay, go with it. rounds: overlays that are
    looked for.
    """

    minimum: int = 5
    few: int = 12
    alike: float | None = 0.5
    same: float = 0.6
    agreement: float = 0.75
    stretch: float = 3.0
    near: float = 0.4
    edges: float = 0.3
    band: float = 0.2
    slack: float = 4.0
    pasted: float = 0.2
    dense: float = 0.2
    copies: float = 0.05
    rest: float = 0.4
    parts: int = 24
    reach: float = 2.0
    rounds: int = 6

    def __post_init__(self) -> None:
        for name in ("same", "agreement", "near", "edges", "band", "pasted", "dense", "copies", "rest"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a share from 0 to 1, not {getattr(self, name)!r}")
        if self.alike is not None and not 0 <= self.alike <= 1:
            raise OptionError(f"alike is a share from 0 to 1, or nothing, not {self.alike!r}")
        for name in ("minimum", "few", "stretch", "slack", "reach", "rounds", "parts"):
            if not getattr(self, name) >= 1:
                raise OptionError(f"{name} must be 1 or more, not {getattr(self, name)!r}")


def without_overlay(query: Features, database: Features, found: Verification, threshold: float,
                    options: OverlayOptions) -> tuple[Matches, IntArray] | None:
    """The matches without those of an overlay, and the (M, 2) inliers of the overlay; None where what was found is
    content, or nothing.

    Args:
        threshold: within which matches agree, in pixels of the database image.
    """
    if found.transform is None or len(found) < options.minimum:
        return None
    pair, matches = _Pair.of(query, database, found), found.matches
    source, target = pair.points(found.inliers)
    points = pair.points(np.column_stack([matches.query, matches.database]))
    agreement = _Agreement.of(pair, source, target, points, threshold, options)
    if not agreement.usual and len(found) < options.few:
        return None
    alike = None if options.alike is None else likeness(query, database, found, threshold)
    if _is_content(pair, found.inliers, agreement, alike, options):
        return None
    there, reach = agreement.there, options.reach * threshold
    on_it = (_near(agreement.moved(points[0]), agreement.moved(source[there]), reach)
             & _near(points[1], target[there], reach))
    left = ~(agreement.gone | on_it)
    return Matches(matches.query[left], matches.database[left], matches.similarities[left]), found.inliers[there]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two pictures, the query turned by quarters so that it lies as the other does.

    keypoints: (N, 2) of each. sizes: of each. transform: (3, 3) from the one to the other.
    """

    keypoints: tuple[Points, Points]
    sizes: tuple[Size, Size]
    transform: NDArray[np.float64]

    @classmethod
    def of(cls, query: Features, database: Features, found: Verification) -> _Pair:
        assert found.transform is not None
        keypoints, others = (np.nan_to_num(side.keypoints.astype(np.float64), nan=-FAR, posinf=FAR, neginf=-FAR)
                             for side in (query, database))
        turns = round(angle(found.transform, keypoints[found.inliers[:, 0]]) / 90) % 4
        turn, size = np.eye(3), query.image_size
        for _ in range(turns):  # each to the right: what was at the left comes to the top
            turn, size = np.array([[0, -1, size[1] - 1], [1, 0, 0], [0, 0, 1]]) @ turn, (size[1], size[0])
        return cls((transformed(turn, keypoints), others), (size, database.image_size),
                   found.transform @ np.linalg.inv(turn))

    def points(self, rows: IntArray) -> tuple[Points, Points]:
        """(M, 2) features that belong together -> where they are in each picture."""
        return self.keypoints[0][rows[:, 0]], self.keypoints[1][rows[:, 1]]

    def mapped(self, points: Points) -> Points:
        """(M, 2) points of the query -> of the database image, by the transform that was found."""
        return np.nan_to_num(transformed(self.transform, points), nan=-FAR, posinf=FAR, neginf=-FAR)

    def same_place(self, source: Points, target: Points, threshold: float, options: OverlayOptions) -> Place | None:
        """Where inliers lie at the same place of both pictures, or are the same pixels at another: how it is moved."""
        axes = [anchored(source[:, i], target[:, i], self.sizes[0][i], self.sizes[1][i], threshold) for i in (0, 1)]
        place = Place(np.array([axis.scale for axis in axes]), np.array([axis.shift for axis in axes]))
        wide = (np.ptp(source, axis=0) > WIDE * threshold).all()
        upright = (place.scale > 0).all() and (not wide or place.scale.max() <= options.stretch * place.scale.min())
        if (upright and np.mean(place.missed(source, target) <= threshold) >= options.agreement
                and self._near_anchors(axes, source, target, threshold, options.near)):
            return place
        place = pasted(source, target)
        return place if np.median(place.missed(source, target)) <= options.pasted * threshold else None

    def _near_anchors(self, axes: Sequence[Axis], source: Points, target: Points, threshold: float,
                      near: float) -> bool:
        """Whether an overlay could lie there: what keeps its distance from one edge alone lies near that edge."""
        edges = []
        for i, axis in enumerate(axes):
            ends = axis.scale * np.array([0, self.sizes[0][i] - 1]) + axis.shift - np.array([0, self.sizes[1][i] - 1])
            if (np.abs(ends) <= threshold).all():
                return True
            if axis.anchor != 0.5:
                shares = [np.abs(points[:, i] / size[i] - axis.anchor)
                          for points, size in zip((source, target), self.sizes, strict=True)]
                edges.append(np.maximum(*shares) <= near)
        return not edges or bool(np.mean(np.any(edges, axis=0)) >= 0.5)

    def at_edges(self, source: Points, target: Points, slack: float, band: float) -> Mask:
        """(M, 4) which matches lie near the left, top, right and bottom edge in both pictures, and as far from it."""
        distances = [np.hstack([points, np.array(size) - 1 - points])
                     for points, size in zip((source, target), self.sizes, strict=True)]
        near = [one <= band * np.tile(size, 2) for one, size in zip(distances, self.sizes, strict=True)]
        zoom = math.sqrt(max(float(np.linalg.det(self.transform[:2, :2])), 1e-9))
        return np.asarray(near[0] & near[1] & (np.abs(zoom * distances[0] - distances[1]) <= slack))


@dataclass(frozen=True, eq=False)
class _Agreement:
    """Where inliers lie in two pictures.

    usual: whether overlays mostly lie so. there: (I,) which of the inliers lie so. together: (I,) which of them one
    place explains. gone: (M,) which of all matches lie so. moved: brings points of the query to those of the database
    image.
    """

    usual: bool
    there: Mask
    together: Mask
    gone: Mask
    moved: Callable[[Points], Points]

    @classmethod
    def of(cls, pair: _Pair, source: Points, target: Points, points: tuple[Points, Points], threshold: float,
           options: OverlayOptions) -> _Agreement:
        """Of inliers, whose points are given first, among matches."""
        place, every = pair.same_place(source, target, threshold, options), np.ones(len(source), np.bool_)
        if place is not None:
            there = np.asarray(place.missed(source, target) <= threshold)
            return cls(True, there, there, np.asarray(place.missed(*points) <= options.reach * threshold), place)
        edges = pair.at_edges(source, target, options.slack * threshold, options.band)
        there = np.asarray(edges.any(axis=1))
        if np.mean(there) >= options.edges:
            beside = pair.at_edges(*points, np.inf, options.band)[:, edges.any(axis=0)]
            return cls(True, there, every, np.asarray(beside.any(axis=1)), pair.mapped)
        return cls(False, every, every, np.zeros(len(points[0]), np.bool_), pair.mapped)


def _near(points: Points, others: Points, distance: float) -> Mask:
    """(M,) which of some points lie near one of others."""
    squares = np.square(points[:, None] - others).sum(axis=2)
    return np.asarray(squares.min(axis=1, initial=np.inf) <= distance**2)


def _is_content(pair: _Pair, inliers: IntArray, agreement: _Agreement, alike: float | None,
                options: OverlayOptions) -> bool:
    """Whether inliers are of what two pictures show. alike: how alike these are around them, if that is known."""
    if alike is None or options.alike is None:
        content = not agreement.usual
    else:
        content = alike >= (options.same if agreement.usual else options.alike)
    return content or (agreement.usual and _is_copy(pair, inliers[agreement.together], agreement.moved, options))


def _is_copy(pair: _Pair, rows: IntArray, moved: Callable[[Points], Points], options: OverlayOptions) -> bool:
    """Whether features all over the part that both pictures have agree, those in its middle among them.

    Args:
        rows: (M, 2) of the features that agree. moved: brings points of the query to those of the database image.
    """
    width, height = pair.sizes[0]
    corners = moved(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
    box = np.maximum(corners.min(axis=0), 0), np.minimum(corners.max(axis=0), pair.sizes[1])
    places = moved(pair.keypoints[0]), pair.keypoints[1]
    parts = [_Parts.of(points, rows[:, side], *box) for side, points in enumerate(places)]
    return all(one.area(options.dense) >= options.copies or
               (len(one.features) >= options.parts and np.mean(one.agree(options.dense)) >= 1 - options.rest)
               for one in parts)


@dataclass(frozen=True, eq=False)
class _Parts:
    """The parts of a picture that show something.

    features, agreeing: (P,) how many features each has, and how many of them agree. inner: (P,) whether it is in the
    middle.
    """

    features: IntArray
    agreeing: IntArray
    inner: Mask

    @classmethod
    def of(cls, points: Points, rows: IntArray, low: Points, high: Points) -> _Parts:
        """Of the (M, 2) points of a picture between two corners, some rows of which agree."""
        inside = ((points >= low) & (points <= high)).all(axis=1)
        cells = np.clip((points - low) / np.maximum(high - low, 1) * GRID, 0, GRID - 1).astype(np.int64)
        numbers = cells[:, 1] * GRID + cells[:, 0]
        features, agreeing = (np.bincount(some, minlength=GRID * GRID) for some in (numbers[inside], numbers[rows]))
        inner = np.zeros((GRID, GRID), np.bool_)
        inner[GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4] = True
        told = features >= min(max(int(features.sum()) // GRID**2, 1), MOST)
        return cls(features[told], agreeing[told], inner.ravel()[told])

    def agree(self, rate: float) -> Mask:
        """(P,) of whose features so many agree."""
        return np.asarray(self.agreeing >= np.maximum(rate * self.features, 1))

    def area(self, rate: float) -> float:
        """The share of the parts that agree, times that of the parts in the middle: a frame has none there, and a sign
        few around, however many features it has.
        """
        agree = self.agree(rate)
        return float(np.mean(agree)) * float(np.mean(agree[self.inner])) if self.inner.any() else 0.0
