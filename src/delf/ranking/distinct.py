"""Distinct inliers: how many matches of an image agree on a transform, each counted by how few other images answer its
feature as well.

Two façades may have dozens of points that one transform joins. The features of their windows are answered by many
other images too, more alike and in no order: each such image takes a little of what the inlier counts. Images whose own
transform agrees with the feature take nothing, so that a place of which there are many photos loses nothing by that.
That common features say less is the idea of the inverse document frequency; here it is seen from the candidates of a
query, not from the collection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray, Verification

Counts = NDArray[np.float64]
DETAIL_CHANCE = 6  # details of two photos of different things that agree now and then
DETAIL_WEIGHT = 1.0  # of a detail that agrees, beside a distinct inlier
RIVALS = 0.12  # share of the candidates that answer a feature better, with which its inlier counts half


def distinct_inliers(candidates: Sequence[Verification], rivals: float = RIVALS) -> Counts:
    """(V,) the sum over the inliers of each candidate of `1 / (1 + better / rivals)`, times what one of them is worth.

    `better` is the share of the candidates that have a match of the same query feature that is more similar and no
    inlier.

    Args:
        candidates: what geometry says of V images, all of one query.
    """
    sizes = [one.tentative for one in candidates]
    if not sum(sizes):
        return np.zeros(len(candidates))
    image = np.repeat(np.arange(len(candidates)), sizes)
    feature = np.concatenate([one.matches.query for one in candidates])
    similarity = np.concatenate([one.matches.similarities for one in candidates])
    agrees = np.concatenate([one.agreeing for one in candidates])
    better = _better_rivals(feature, similarity, agrees)
    weights = np.where(agrees, 1.0 / (1.0 + better / (rivals * len(candidates))), 0.0)
    return np.bincount(image, weights, minlength=len(candidates)) * [one.worth for one in candidates]


def detail_count(agreeing: int) -> float:
    """What so many details that agree are worth in distinct inliers: Lowe's test has let distinct ones pass alone."""
    return DETAIL_WEIGHT * max(0, agreeing - DETAIL_CHANCE)


def _better_rivals(feature: IntArray, similarity: FloatArray, agrees: NDArray[np.bool_]) -> IntArray:
    """(M,) of each match, how many matches of its feature are more similar and do not agree."""
    order = np.lexsort((~agrees, -similarity, feature))  # of equals those that agree come first: they have no rival
    rival = ~agrees[order]
    before: IntArray = np.cumsum(rival) - rival
    starts = np.r_[True, np.diff(feature[order]) > 0]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    better = np.empty(len(order), np.int64)
    better[order] = before - before[first]
    return better
