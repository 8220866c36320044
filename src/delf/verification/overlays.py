"""Which agreement of two pictures is an overlay's, and not what they show.

Captions, watermarks, the screen of a telephone, a frame lie at the same place of every picture that has them:
unturned, each axis keeping an edge or its middle at any scale; or in a small patch at the same share of both sides; or,
of those that repeat themselves, somewhere along the same edge; or they are the same pixels somewhere else. What two
pictures share in one of these ways says nothing of what they show, unless the pictures around and between agree as
well. Copies, crops and series of one camera agree all over, another view of a place in a few points all over, an
overlay in a strip, along the border, or along its letters.

Signs may lie anywhere. So what agrees is no content either where the pictures do not look alike around it at all
(`verification.surroundings`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, IntArray, Matches, Verification
from delf.verification.placement import ANCHORS, Axis, Patch, Place, Size, anchored, mostly_pasted, pasted, width
from delf.verification.plane import Points, angle, transformed
from delf.verification.surroundings import likeness

Mask = NDArray[np.bool_]
WIDE = 4  # thresholds that points must span along an axis for its scale to be known
ALIKE = 1.06  # of one axis against the other: one scale
GRID = 8  # parts of each axis on which agreement is looked at
FAR = 1e9  # pixels: where what lies nowhere is taken to lie
FEWEST = 3  # points that have a width
MOST = 3  # features that a part must have for anything to be said of it, where the picture has many
UPRIGHT = 2.5  # height over width of what no sign is


@dataclass(frozen=True)
class OverlayOptions(Options):
    """When agreement counts as an overlay. The figures were chosen in `benchmarks/CHOICES.md`, "Overlays".

    minimum: inliers; fewer are not looked at. alike: how alike the pictures must be around what agrees
    (`likeness`), wherever it lies, of `few` inliers or more; None for features that lie too sparse to say so, as
    details do. agreement: share of the inliers that must lie at the same place of both pictures. stretch: of one
    axis against the other at most. near: share of a side within which half of the inliers must lie of an edge that
    keeps its place, where the opposite one does not. edges: share of the inliers that must lie at the same edge of
    both pictures, within a share `band` of the side, and be as far from it, within `slack` thresholds. pasted:
    share of the threshold by which half of the inliers miss at most where pixels were pasted; `exact` for a line of
    text. low, small: shares of the picture's height and area that a patch covers at most that lies at the same
    share of both sides, within a share `apart` of them; a line, at most half as high and `flat` times as high as it
    is wide, need only lie at the same height, since letters match other letters. patched: as `pasted`, of such a
    patch, whose features see far beyond it. reach: thresholds within which other matches at that place, or on the
    overlay, go with it. rounds: overlays that are looked for.

    Such agreement is content all the same where
    - it is as dense as that of copies: `dense` is the share of the features of a part of the picture that must agree
      for the part to, and `copies` the least product of the shares of all parts, and of the inner ones, that agree;
    - or nearly all agrees, but for a share of `rest`, of a picture that shows something in so many `parts`;
    - or it is another view of a place that happens to lie there: sparse (`sparse` and `views` are as above, but count
      features and not parts), never as exact as an overlay (half of the inliers miss by more than a share `exact`
      of the threshold), and no line of text. A caption and a watermark at once agree in several parts, and so look like
      a view, but for this. What agrees beside the edges is text where it is less than `line` as wide as it is long, at
      most `long` of the picture's width, and half of it misses by a share `letters` of the threshold at most when it is
      only moved and scaled: a row of windows is longer, or seen from another side.
    """

    minimum: int = 5
    few: int = 12
    alike: float | None = 0.5
    agreement: float = 0.75
    stretch: float = 3.0
    near: float = 0.4
    edges: float = 0.3
    band: float = 0.2
    slack: float = 4.0
    pasted: float = 0.2
    reach: float = 2.0
    rounds: int = 6
    dense: float = 0.2
    copies: float = 0.05
    rest: float = 0.4
    parts: int = 24
    sparse: float = 0.05
    views: float = 0.025
    exact: float = 0.3
    line: float = 0.25
    letters: float = 0.45
    long: float = 0.5
    low: float = 0.2
    small: float = 0.06
    flat: float = 0.5
    apart: float = 0.015
    patched: float = 0.6

    def __post_init__(self) -> None:
        for name in ("agreement", "near", "edges", "band", "pasted", "dense", "copies", "rest", "sparse", "views",
                     "exact", "line", "letters", "long", "low", "small", "flat", "apart", "patched"):
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
    place = pair.same_place(source, target, threshold, options)
    edges = pair.at_edges(source, target, options.slack * threshold, options.band)
    beside: Mask = np.asarray(~edges.any(axis=1))
    moved: Callable[[Points], Points] = pair.mapped if place is None else place
    if place is not None:
        there = place.missed(source, target) <= threshold
        content = _is_content(pair, found.inliers[there], beside[there], moved, threshold, _stricter(options, place))
        gone = place.missed(*points) <= options.reach * threshold
    else:
        content = bool(np.mean(~beside) < options.edges) or _is_content(pair, found.inliers, beside, moved, threshold,
                                                                        replace(options, exact=0.0))
        text = pair.is_text(source[beside], target[beside], threshold, options)
        there = np.ones_like(beside) if text else ~beside
        gone = np.asarray(pair.at_edges(*points, np.inf, options.band)[:, edges.any(axis=0)].any(axis=1))
    if content:
        if place is not None or not _stands_alone(query, database, found, threshold, options):
            return None
        there, gone = np.ones(len(found), np.bool_), np.zeros(len(matches), np.bool_)
    on_it = (_near(moved(points[0]), moved(source[there]), options.reach * threshold)
             & _near(points[1], target[there], options.reach * threshold))
    left = ~(gone | on_it)
    return Matches(matches.query[left], matches.database[left], matches.similarities[left]), found.inliers[there]


def _stands_alone(query: Features, database: Features, found: Verification, threshold: float,
                  options: OverlayOptions) -> bool:
    """Whether the pictures do not look alike around what was found."""
    if options.alike is None or len(found) < options.few:
        return False
    alike = likeness(query, database, found, threshold)
    return alike is not None and alike < options.alike


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
        patch = self._patch(source, target, threshold, options)
        if patch is not None:
            return patch
        axes = [anchored(source[:, i], target[:, i], self.sizes[0][i], self.sizes[1][i], threshold) for i in (0, 1)]
        place = Place(np.array([axis.scale for axis in axes]), np.array([axis.shift for axis in axes]))
        wide = (np.ptp(source, axis=0) > WIDE * threshold).all()
        upright = (place.scale > 0).all() and (not wide or place.scale.max() <= options.stretch * place.scale.min())
        if (upright and np.mean(place.missed(source, target) <= threshold) >= options.agreement
                and self._near_anchors(axes, source, target, threshold, options.near)):
            return replace(place, centred=self._centred(place, threshold))
        place = pasted(source, target)
        if np.median(place.missed(source, target)) <= options.pasted * threshold:
            return place
        return self._text(source, target, options.exact * threshold, options)

    def _patch(self, source: Points, target: Points, threshold: float, options: OverlayOptions) -> Place | None:
        """How matches are moved of which most lie in a small patch at the same place of both pictures."""
        patch = Patch.of(source, target, self.sizes)
        height, same = patch.sides[1], patch.apart <= options.apart
        line = height <= options.low / 2 and patch.flat <= options.flat and same[1]
        # What stands upright in the middle of two pictures is a tower, and no sign.
        small = height <= options.low and patch.area <= options.small and same.all() and patch.flat <= UPRIGHT
        missed = np.median(patch.place.missed(source[patch.core], target[patch.core]))
        return replace(patch.place, patch=True) if (line or small) and missed <= options.patched * threshold else None

    def is_text(self, source: Points, target: Points, threshold: float, options: OverlayOptions) -> bool:
        """Whether matches that lie at no edge are of one line of text, or too few to be anything else."""
        return len(source) < FEWEST or self._text(source, target, options.letters * threshold, options) is not None

    def _text(self, source: Points, target: Points, allowed: float, options: OverlayOptions) -> Place | None:
        """How matches are moved that lie in a short line and are the same pixels, but for a few stray ones."""
        sides = zip((source, target), self.sizes, strict=True)
        if (len(source) < FEWEST or width(source, target) >= options.line
                or min(np.ptp(points[:, 0]) / size[0] for points, size in sides) > options.long):
            return None
        place = mostly_pasted(source, target)
        return place if np.median(place.missed(source, target)) <= allowed else None

    def _centred(self, place: Place, threshold: float) -> bool:
        """See `Place`."""
        last, other = (np.array(size) - 1.0 for size in self.sizes)
        start, middle, end = (np.abs(place(share * last) - share * other) <= threshold for share in ANCHORS)
        alike = place.scale.max() <= ALIKE * place.scale.min()
        return bool(alike and middle.all() and not (start & end).all())

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


def _stricter(options: OverlayOptions, place: Place) -> OverlayOptions:
    """What is centred or a patch is no other view, however sparse, and a patch is a copy only where all agrees."""
    if place.patch:
        return replace(options, exact=1.0, copies=(1 - options.rest) ** 2)
    return replace(options, exact=1.0) if place.centred else options


def _near(points: Points, others: Points, distance: float) -> Mask:
    """(M,) which of some points lie near one of others."""
    squares = np.square(points[:, None] - others).sum(axis=2)
    return np.asarray(squares.min(axis=1, initial=np.inf) <= distance**2)


def _is_content(pair: _Pair, rows: IntArray, beside: Mask, moved: Callable[[Points], Points], threshold: float,
                options: OverlayOptions) -> bool:
    """Whether features all over the part that both pictures have agree, those in its middle among them.

    Args:
        rows: (M, 2) of the features that agree. beside: (M,) which of them lie at no edge. moved: brings points of the
            query to those of the database image.
    """
    width, height = pair.sizes[0]
    corners = moved(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
    box = np.maximum(corners.min(axis=0), 0), np.minimum(corners.max(axis=0), pair.sizes[1])
    places = moved(pair.keypoints[0]), pair.keypoints[1]
    parts = [_Parts.of(points, rows[:, side], *box) for side, points in enumerate(places)]
    if all(one.area(options.dense) >= options.copies or
           (len(one.features) >= options.parts and one.share(options.dense) >= 1 - options.rest) for one in parts):
        return True
    missed = np.median(np.linalg.norm(places[0][rows[:, 0]] - places[1][rows[:, 1]], axis=1))
    return bool(missed > options.exact * threshold
                and not pair.is_text(*pair.points(rows[beside]), threshold, options)
                and all(one.features_there(options.sparse) >= options.views for one in parts))


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

    def share(self, rate: float) -> float:
        """The share of the parts that agree; 0 where some in the middle show something and none of these agrees, as
        where two pictures lie in one window.
        """
        agree = self.agree(rate)
        return float(np.mean(agree)) if agree[self.inner].any() or not self.inner.any() else 0.0

    def features_there(self, rate: float) -> float:
        """The share of the features that lie in parts that agree, times the same for those in the middle."""
        agree, product = self.agree(rate), 1.0
        for counted in (np.ones(len(agree), np.bool_), self.inner):
            product *= float(self.features[agree & counted].sum()) / max(int(self.features[counted].sum()), 1)
        return product
