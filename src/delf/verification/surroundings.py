"""Whether two pictures look alike around what agrees in both.

What is really there has surroundings. Where another view of it lies, features at the same place of both pictures
resemble each other, although few of them are nearest neighbours and make matches, and those farther away from what
agrees do so less, little by little. Around what was laid over two pictures, and around what agrees by chance, likeness
ends sharply: features at the same place are as different as those of any two places. This needs no rule of where an
overlay may lie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import Features, FloatArray, IntArray, Verification
from delf.verification.plane import Points, transformed, zoom

BESIDE = 0.8  # units of distance from the nearest inlier, up to which a feature sees what the inlier sees
FADING = 4.0  # units over which what is farther away counts less, by a factor of e
SMALL = 448  # pixels of a side from which the unit of distances, a threshold there, grows with the picture
WITHIN = 1.5  # thresholds within which two features lie at the same place: a scene is no plane
OCTAVES = 0.8  # by which their scales may differ
ENOUGH = 3.0  # weight of features, each at most 1, that says something
DENSE = 0.25  # of the similarity of inliers: features beside them that are less alike say nothing, as corners do
MOST = 1000  # best features of each picture that are looked at
LARGE = 1024  # pixels of a side from which the threshold grows with the picture
FAR = 1e9  # pixels: where what lies nowhere is taken to lie


def likeness(query: Features, database: Features, found: Verification, threshold: float) -> float | None:
    """How alike two pictures are around their inliers: 1 if as much as right beside them, 0 if not more than at
    different places; None where too little lies there to say so.

    It is the mean cosine of features at the same place that are no inliers, between that of features that do not belong
    together and that of those beside inliers. So it does not depend on how similar the descriptors of an extractor are.

    Args:
        found: with a transform and inliers. threshold: within which matches agree, in pixels of the database image.
    """
    assert found.transform is not None
    source = query.keypoints[found.inliers[:, 0]].astype(np.float64)
    places = _finite(transformed(found.transform, _finite(query.keypoints[:MOST])))
    inside = ((places >= 0) & (places < database.image_size)).all(axis=1)
    rows = np.setdiff1d(np.flatnonzero(inside), found.inliers[:, 0])
    asked, cosines = _at_the_same_place(query, database, rows, places[rows], zoom(found.transform, source),
                                        WITHIN * threshold)
    unit = threshold * max(SMALL, *query.image_size) / SMALL / max(1.0, max(database.image_size) / LARGE)
    distances = _to_nearest(_finite(query.keypoints[rows[asked]]), source) / unit
    beside = distances <= BESIDE
    weights = np.where(beside, 0.0, np.exp(-distances / FADING))
    if min(np.count_nonzero(beside), weights.sum()) < ENOUGH:
        return None
    number = min(len(query), len(database), MOST)
    different, same = (float(np.mean(_cosines(query, database, *pairs.T))) for pairs in
                       (np.column_stack([np.arange(number), np.roll(np.arange(number), 1)]), found.inliers))
    most = float(cosines[beside].mean()) - different
    if most <= DENSE * (same - different):
        return None
    return (float(weights @ cosines / weights.sum()) - different) / most


def _cosines(query: Features, database: Features, rows: IntArray, others: IntArray) -> FloatArray:
    """(M,) of pairs of features."""
    return np.einsum("nd,nd->n", query.descriptors[rows], database.descriptors[others])


def _at_the_same_place(query: Features, database: Features, rows: IntArray, places: Points, larger: float,
                       reach: float) -> tuple[IntArray, FloatArray]:
    """(P,) which of some features of the query have some of the database image, shown so many times larger, at the same
    place, and the cosine of the most similar one there. places: (M, 2) of those of the query in the database image.
    """
    targets = _finite(database.keypoints[:MOST]).astype(np.float32)
    squares = np.square(places[:, :1].astype(np.float32) - targets[:, 0])
    squares += np.square(places[:, 1:].astype(np.float32) - targets[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        octaves = np.log2(database.scales[:MOST]) - np.log2(query.scales[rows] * np.float32(larger))[:, None]
        asked, others = np.nonzero((squares <= reach**2) & (np.abs(octaves) <= OCTAVES))
    if not len(asked):
        return asked, np.zeros(0, np.float32)
    first = np.flatnonzero(np.diff(asked, prepend=-1))
    return asked[first], np.maximum.reduceat(_cosines(query, database, rows[asked], others), first)


def _to_nearest(points: Points, others: Points) -> NDArray[np.float64]:
    """(M,) pixels from each point to the nearest of some others."""
    squares = np.square(points[:, None] - others).sum(axis=2)
    return np.asarray(np.sqrt(squares.min(axis=1, initial=np.inf)))


def _finite(points: NDArray[Any]) -> Points:
    """The same points, far away where they lie nowhere."""
    return np.nan_to_num(points.astype(np.float64), nan=-FAR, posinf=FAR, neginf=-FAR)
