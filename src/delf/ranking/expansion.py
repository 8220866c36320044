"""What the best images of a first search say of a query, by global descriptors alone: no geometry, no training.

All vectors are of unit length, in and out. Nothing here depends on how vectors are divided into blocks, and of images
that are equally similar the lower number comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import FloatArray, IntArray

BLOCK = 1024  # vectors that are augmented at a time
OTHERS = 8192  # vectors that they are compared with at a time: 32 MB of similarities


class Rows(Protocol):
    """(n, G) vectors: an array, or what lies on a disk and can be indexed like one."""

    def __len__(self) -> int:
        """How many."""
        ...

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """The vectors of a slice, or of an array of numbers."""
        ...


@dataclass(frozen=True)
class RerankOptions(Options):
    """Re-ranking by refined descriptors, with the values of Shao et al. (ICCV 2023).

    depth: M, how many of the best images are re-ranked. neighbours: K, how many descriptors refine each one, itself
    included. beta: each other descriptor has the weight of its similarity times this.
    """

    depth: int = 400
    neighbours: int = 9
    beta: float = 0.15

    def __post_init__(self) -> None:
        if self.depth < 1 or self.neighbours < 1:
            raise OptionError("depth and neighbours of a re-ranking must be 1 or more")
        if not self.beta >= 0:
            raise OptionError("beta must be 0 or more")


def expand(query: FloatArray, neighbours: FloatArray, alpha: float) -> FloatArray:
    """The query, moved towards its k best images: q + sum of similarity ** alpha times descriptor, to unit length.

    Average query expansion where alpha is 0 (Chum et al., ICCV 2007); with alpha above 0, images that are less similar
    count less (Radenovic et al., TPAMI 2019). An image on the other side, of similarity below 0, counts as one of 0.

    Args:
        query: (G,). neighbours: (k, G).
    """
    weights = np.maximum(np.einsum("kg,g->k", neighbours, query), 0.0) ** alpha
    return _unit(query + np.einsum("kg,k->g", neighbours, weights))


def augment(rows: Rows, neighbours: int, alpha: float, keep: NDArray[np.bool_] | None = None) -> Iterator[FloatArray]:
    """Database-side augmentation: each vector, moved towards its nearest others as `expand` moves a query.

    (Turcot and Lowe, 2009; Arandjelovic and Zisserman, CVPR 2012.) It takes n * n comparisons; memory is bounded.

    Args:
        rows: n vectors. neighbours: k, of each. keep: (n,) which of them may be neighbours of others; all by default.

    Yields:
        (B, G) float32 blocks, in the order of the rows.
    """
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK], np.float32)
        nearest, similarities = _nearest_others(block, start, rows, neighbours, keep)
        weights = np.where(np.isfinite(similarities), np.maximum(similarities, 0.0) ** alpha, 0.0)
        moved = block.copy()
        for column in range(nearest.shape[1]):  # one at a time: k times the block would be too much
            moved += weights[:, column, None] * np.asarray(rows[nearest[:, column]], np.float32)
        yield _unit(moved)


def _nearest_others(block: FloatArray, start: int, rows: Rows, count: int,
                    keep: NDArray[np.bool_] | None) -> tuple[IntArray, FloatArray]:
    """(B, k) numbers and similarities of the rows that are nearest to those of a block, itself left out, best first.

    The similarity is -inf where there are not so many.
    """
    found = np.zeros((len(block), 0), np.int64)
    best = np.zeros((len(block), 0), np.float32)
    own = np.arange(start, start + len(block))
    for first in range(0, len(rows), OTHERS):
        others = np.asarray(rows[first : first + OTHERS], np.float32)
        similarities = block @ others.T
        if keep is not None:
            similarities[:, ~keep[first : first + len(others)]] = -np.inf
        inside = (own >= first) & (own < first + len(others))
        similarities[inside, own[inside] - first] = -np.inf
        columns = largest(similarities, count)
        found = np.hstack([found, columns + first])
        best = np.hstack([best, np.take_along_axis(similarities, columns, axis=1)])
        columns = largest(best, count)  # those found before have lower numbers and stand first
        found, best = np.take_along_axis(found, columns, axis=1), np.take_along_axis(best, columns, axis=1)
    return found, best


def largest(values: FloatArray, count: int) -> IntArray:
    """(N, M) -> (N, min(count, M)) columns of the largest values of each row, best first; of equals, the first."""
    count = min(count, values.shape[1])
    if count == 0:
        return np.zeros((len(values), 0), np.int64)
    last = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
    rows, columns = np.nonzero(values >= last)  # a few more than `count`, where the last one has equals
    order = np.lexsort((columns, -values[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return columns[places < count].reshape(len(values), count)


def rerank(query: FloatArray, database: FloatArray, options: RerankOptions | None = None) -> FloatArray:
    """Scores of the best images of a query by refined descriptors, as in SuperGlobal (Shao et al., ICCV 2023).

    Each of the images is refined by its nearest among them, and the query by the largest components of the refined
    images that are nearest to it. An image scores the mean of the similarities of its refined descriptor with both
    queries. Other than in the published code, refined descriptors are scaled to unit length.

    Args:
        query: (G,). database: (M, G), best first.

    Returns:
        (M,) float32.
    """
    options = options or RerankOptions()
    if not len(database):
        return np.zeros(0, np.float32)
    similarities = database @ database.T
    np.fill_diagonal(similarities, np.inf)  # each is nearest to itself, whatever its duplicates
    nearest = largest(similarities, options.neighbours)
    weights = options.beta * np.maximum(np.take_along_axis(similarities, nearest, axis=1), 0.0)
    weights[:, 0] = 1.0
    refined = _unit(np.einsum("mkg,mk->mg", database[nearest], weights))
    first = np.einsum("mg,g->m", refined, query)
    [best] = largest(first[None], options.neighbours)
    second = np.einsum("mg,g->m", refined, _unit(refined[best].max(axis=0)))
    return np.asarray((first + second) / 2, np.float32)


def _unit(vectors: NDArray[Any]) -> FloatArray:
    lengths = np.sqrt(np.maximum(np.square(vectors).sum(axis=-1, keepdims=True), 1e-12))
    return np.asarray(vectors / lengths, np.float32)
