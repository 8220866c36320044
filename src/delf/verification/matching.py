"""Tentative matches: which feature of the query looks like which of the database image."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, FloatArray, IntArray, Matches

METHODS = ("mutual", "nearest")
BLOCK = 1 << 18  # cosines that are computed at a time: a megabyte
_held = threading.local()


@dataclass(frozen=True)
class MatchingOptions(Options):
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
    """Match two images by their descriptors, by matrix products.

    Most similar first; of equally similar matches, the lower query row, then the lower database row.
    `OptionError` where the two have descriptors of different lengths. Descriptors that are not finite match
    nothing. Memory is bounded, however many features there are.
    """
    options = options or MatchingOptions()
    if not len(query) or not len(database):
        return Matches.none()
    if query.descriptors.shape[1] != database.descriptors.shape[1]:
        raise OptionError(f"Descriptors of {query.descriptors.shape[1]} and {database.descriptors.shape[1]} "
                          "dimensions cannot be matched; extract both images with the same model.")
    found = _nearest(query.descriptors, database.descriptors, options)
    rows = np.arange(len(query))
    good = (found.similarities >= options.minimum_similarity) & np.isfinite(found.similarities)
    if options.method == "mutual":
        good &= found.query[found.database] == rows
    if options.ratio is not None:
        good &= _passes_ratio(found.similarities, found.seconds, options.ratio)
    return ordered(Matches(rows[good], found.database[good], found.similarities[good]))


def ordered(matches: Matches) -> Matches:
    """The matches, most similar first; of equals, the lower query row, then the lower database row."""
    order: IntArray = np.lexsort((matches.database, matches.query, -matches.similarities))
    return Matches(matches.query[order], matches.database[order], matches.similarities[order])


@dataclass(frozen=True, eq=False)
class _Nearest:
    """The nearest neighbours of two sets of descriptors in each other.

    database: (Nq,) int64, the nearest of the database for each of the query; similarities, seconds: (Nq,) float32, its
    cosine and that of the second nearest (asked for by a ratio test; else empty). query: (Nd,) int64, the other way
    round (asked for by mutual matching).
    """

    database: IntArray
    similarities: FloatArray
    seconds: FloatArray
    query: IntArray


def _nearest(query: FloatArray, database: FloatArray, options: MatchingOptions) -> _Nearest:
    """Block by block of the query's rows, in memory of this thread that stays in the cache: fresh pages cost more
    time than what is computed in them.
    """
    rows = max(1, BLOCK // len(database))
    usable, stored = _finite(query), _finite(database)
    if not (usable.all() and stored.all()):
        query, database = np.where(usable[:, None], query, 0), np.where(stored[:, None], database, 0)
    found = _Nearest(np.empty(len(query), np.int64), np.empty(len(query), np.float32),
                     np.empty(len(query) if options.ratio is not None else 0, np.float32),
                     np.zeros(len(database), np.int64))
    best = np.full(len(database), -np.inf, np.float32)
    for start in range(0, len(query), rows):
        part = slice(start, min(start + rows, len(query)))
        cosines = np.matmul(query[part], database.T, out=_workspace(part.stop - start, len(database)))
        cosines[~usable[part]] = -np.inf  # which nothing is less similar than
        cosines[:, ~stored] = -np.inf
        nearest = found.database[part] = cosines.argmax(axis=1)
        found.similarities[part] = cosines[np.arange(len(nearest)), nearest]
        if options.method == "mutual":
            highest = cosines.max(axis=0)
            better = np.flatnonzero(highest > best)  # of equals the lower row stays
            found.query[better] = _first_rows(cosines, highest, nearest, start)[better]
            best = np.maximum(best, highest)
        if options.ratio is not None and len(database) > 1:
            found.seconds[part] = np.partition(cosines, -2, axis=1)[:, -2]
    if len(database) == 1:
        found.seconds[:] = -np.inf  # no second neighbour: nothing to fail
    return found


def _finite(descriptors: FloatArray) -> NDArray[np.bool_]:
    """(N,) which rows are numbers throughout."""
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(descriptors.sum()):  # half of the work, and nearly always enough
            return np.ones(len(descriptors), np.bool_)
    return np.asarray(np.isfinite(descriptors).all(axis=1), np.bool_)


def _first_rows(cosines: FloatArray, highest: FloatArray, nearest: IntArray, start: int) -> IntArray:
    """(M,) for each column the number, from `start`, of the first row that has its highest value; -1 where that row is
    nearer to another column, so that they make no match. A search down the columns would take ten times as long.
    """
    if np.count_nonzero(cosines == highest) > len(highest):  # some columns have it twice
        return start + cosines.argmax(axis=0)
    own = np.flatnonzero(cosines[np.arange(len(nearest)), nearest] == highest[nearest])
    first = np.full(len(highest), -1, np.int64)
    first[nearest[own]] = start + own
    return first


def _workspace(rows: int, columns: int) -> FloatArray:
    """(rows, columns) float32 to write into, the same memory whenever this thread asks."""
    held: FloatArray | None = getattr(_held, "memory", None)
    if held is None or held.size < rows * columns:
        held = _held.memory = np.empty(max(BLOCK, rows * columns), np.float32)
    return held[: rows * columns].reshape(rows, columns)


def _passes_ratio(best: FloatArray, second: FloatArray, ratio: float) -> NDArray[np.bool_]:
    """The distance of unit vectors is sqrt(2 - 2 cosine)."""
    passes: NDArray[np.bool_] = np.maximum(1 - best, 0) <= ratio**2 * np.maximum(1 - second, 0)
    return passes
