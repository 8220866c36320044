"""How sure one may be that two images show the same thing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from delf.ranking.distinct import DETAIL_CHANCE
from delf.types import Features, IntArray, Verification
from delf.verdicts import MATCH_PROBABILITY

__all__ = ["BACKGROUND", "DETAILS", "DISTINCT", "LARGEST", "MATCH_PROBABILITY", "SMALLEST", "WORDS",
           "detail_evidence", "evidence", "probability", "spanned_area", "words_background", "words_evidence"]

EVIDENCE = ("inliers", "share", "area", "similarity", "images")
WORDS = "words"  # evidence that only search by visual words has
DISTINCT = "distinct"  # log(1 + distinct inliers): of a search that counts them
BACKGROUND = 0.9  # share of the images that are less similar by words than those that a similarity is judged beside
_FLOOR = 0.0003  # of similarities by words, below which differences are chance
_USUAL = (20, 0.0008)  # so many images of such a similarity, as wrong images of held-out classes have; not tuned
SMALLEST = 10  # images of the smallest collection that a probability by words is fitted for
LARGEST = 500  # that count as so many: what more cost is in the similarities that one is judged beside
DETAILS = "details"  # log(1 + details that agree beyond those that chance gives): of images that have details
INTERCEPT = "intercept"
# Of a model that carries none of its own: a logistic fit of the inlier count alone, on pairs with 15 inliers or more.
DEFAULT_WEIGHTS: Mapping[str, float] = {"inliers": 4.15, INTERCEPT: -12.66}


def evidence(query: Features, database: Features, verification: Verification, images: int = 1) -> dict[str, float]:
    """What a probability is judged by.

    inliers: log(1 + their number, times what one is worth). share: of the tentative matches, that are inliers. area: of
    the query image, that the inliers span (convex hull). similarity: mean cosine of the inliers. images: log10 of how
    many were searched: the best of 100,000 wrong images has more inliers than the best of 100.
    """
    rows = verification.inliers
    values = dict.fromkeys(EVIDENCE, 0.0)
    values["images"] = math.log10(max(images, 1))
    if len(rows):
        cosines = np.einsum("nd,nd->n", query.descriptors[rows[:, 0]], database.descriptors[rows[:, 1]])
        values |= {"inliers": math.log1p(len(rows) * verification.worth),
                   "share": len(rows) / max(verification.tentative, 1),
                   "area": spanned_area(query, rows[:, 0]),
                   "similarity": float(cosines.mean())}
    return values


def detail_evidence(details: Verification) -> float:
    """The evidence "details" of what geometry says of the details of two images."""
    return math.log1p(max(0, len(details) - DETAIL_CHANCE))


def spanned_area(features: Features, rows: IntArray) -> float:
    """The share of an image that some of its features span: the area of their convex hull."""
    if not len(rows):
        return 0.0
    hull = cv2.convexHull(features.keypoints[rows].astype(np.float32))
    return min(1.0, cv2.contourArea(hull) / max(features.image_size[0] * features.image_size[1], 1))


def words_evidence(similarity: float, background: float) -> float:
    """The evidence "words": how far a similarity by visual words from 0 to 1 (ASMK*) is above that of other images, as
    the logarithm of a ratio. background: what `words_background` gives.
    """
    return math.log((max(similarity, 0.0) + _FLOOR) / (background + _FLOOR))


def words_background(images: int, similar: float) -> float:
    """How similar by words those images are to a query that are most like it, without showing the same.

    All streets of a town are more like each other than two landmarks are. So a similarity is judged beside those of the
    images that geometry has not confirmed: the tenth of them that is most similar begins at what is returned. Few
    images say little, and count as if there were `_USUAL[0]` more of a similarity that two photos of different things
    often have.

    Args:
        images: how many they are. similar: the similarity that a share `BACKGROUND` of them has at most.
    """
    number, usual = _USUAL
    similar = similar if images else usual
    total = images * math.log(max(similar, 0.0) + _FLOOR) + number * math.log(usual + _FLOOR)
    return math.exp(total / (images + number)) - _FLOOR


def probability(found: Mapping[str, float], weights: Mapping[str, float] | None = None) -> float:
    """That two images show the same thing: a logistic function of the evidence.

    Args:
        weights: of each kind of evidence, and the intercept: those that the model carries (`ModelConfig.probability`),
            fitted on classes that no training saw. They hold for that model and its usual number of features.
    """
    weights = weights or DEFAULT_WEIGHTS
    total = weights.get(INTERCEPT, 0.0) + sum(weights.get(name, 0.0) * value for name, value in found.items())
    return 1.0 / (1.0 + math.exp(-min(max(total, -700.0), 700.0)))
