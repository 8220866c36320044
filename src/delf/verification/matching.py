"""Tentative matches: which feature of the query looks like which of the database image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import Features, FloatArray, IntArray, Matches

METHODS = ("mutual", "nearest")


@dataclass(frozen=True)
class MatchingOptions:
    """What counts as a tentative match.

    method: "mutual" takes pairs that are each other's nearest neighbour, so every feature appears once;
    "nearest" takes the nearest database feature of every query feature, as the TensorFlow reference does.
    minimum_similarity: cosine; a radius r on the distance of unit vectors, as in the reference (0.8), is the
    cosine 1 - r^2 / 2 (0.68). ratio: Lowe's test, the distance to the nearest over that to the second, at
    most this; None for no test.
    """

    method: str = "mutual"
    minimum_similarity: float = 0.0
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(f"The matching method must be one of {', '.join(METHODS)}, "
                              f"not {self.method!r}.")
        if not -1.0 <= self.minimum_similarity <= 1.0:
            raise OptionError("The option minimum_similarity is a cosine, -1 to 1, "
                              f"not {self.minimum_similarity}.")
        if self.ratio is not None and not 0.0 < self.ratio <= 1.0:
            raise OptionError(f"The option ratio must be above 0 and at most 1, not {self.ratio}.")


REFERENCE = MatchingOptions(method="nearest", minimum_similarity=0.68)
"""The match_images script of the TensorFlow reference: nearest neighbours within a distance of 0.8."""


def match_features(query: Features, database: Features, options: MatchingOptions | None = None) -> Matches:
    """Match two images by their descriptors, by one matrix product.

    Most similar first; of equally similar matches, the lower query row, then the lower database row.
    `OptionError` where the two have descriptors of different lengths. Descriptors that are not finite match
    nothing.
    """
    options = options or MatchingOptions()
    if not len(query) or not len(database):
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    if query.descriptors.shape[1] != database.descriptors.shape[1]:
        raise OptionError(f"Descriptors of {query.descriptors.shape[1]} and {database.descriptors.shape[1]} "
                          "dimensions cannot be matched; extract both images with the same model.")
    similarities = _cosines(query.descriptors, database.descriptors)
    rows = np.arange(len(query))
    nearest = similarities.argmax(axis=1)
    best = similarities[rows, nearest]
    good = (best >= options.minimum_similarity) & np.isfinite(best)
    if options.method == "mutual":
        good &= similarities.argmax(axis=0)[nearest] == rows
    if options.ratio is not None:
        good &= _passes_ratio(similarities, best, options.ratio)
    return ordered(Matches(rows[good], nearest[good], best[good]))


def ordered(matches: Matches) -> Matches:
    """The matches, most similar first; of equals, the lower query row, then the lower database row."""
    order: IntArray = np.lexsort((matches.database, matches.query, -matches.similarities))
    return Matches(matches.query[order], matches.database[order], matches.similarities[order])


def _cosines(query: FloatArray, database: FloatArray) -> FloatArray:
    """(Nq, D), (Nd, D) -> (Nq, Nd); -inf, which nothing is less similar than, for descriptors that are not
    finite.
    """
    if np.isfinite(query).all() and np.isfinite(database).all():
        return query @ database.T
    usable = [np.isfinite(descriptors).all(axis=1, keepdims=True) for descriptors in (query, database)]
    cosines = np.where(usable[0], query, 0) @ np.where(usable[1], database, 0).T
    return np.where(usable[0] & usable[1].T, cosines, np.float32(-np.inf))


def _passes_ratio(similarities: FloatArray, best: FloatArray, ratio: float) -> NDArray[np.bool_]:
    """The distance of unit vectors is sqrt(2 - 2 cosine); with no second neighbour there is nothing to
    fail.
    """
    if similarities.shape[1] < 2:
        return np.ones(len(similarities), np.bool_)
    second = np.partition(similarities, -2, axis=1)[:, -2]
    return np.maximum(1 - best, 0) <= ratio**2 * np.maximum(1 - second, 0)
