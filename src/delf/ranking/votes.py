"""Votes: each neighbour of a query feature speaks for the image it belongs to (Noh et al., ICCV 2017, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray, Neighbours


@dataclass(frozen=True, eq=False)
class Candidates:
    """Images that may show what a query shows, best first.

    images: (V,) int64 ordinals. scores: (V,) float32, in the unit of the method that found them.
    """

    images: IntArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.images)


def count_votes(neighbours: Neighbours, images: IntArray, *, power: float = 0.0) -> Candidates:
    """Aggregate neighbours by image; a query feature counts at most its best neighbour in each image.

    Args:
        neighbours: of Q query features, K each.
        images: (Q, K) ordinals of the images that the neighbours belong to; ignored where the id is -1.
        power: a vote weighs `max(similarity, 0) ** power`: 0 counts, more trusts close neighbours more.

    Returns:
        the images in order of the weight of their votes, then of ordinal.
    """
    queries, columns = np.nonzero(neighbours.ids >= 0)
    voted, similarities = images[queries, columns], neighbours.similarities[queries, columns]
    # Neighbours come best first, so that the first of each (query, image) pair is the best one.
    width = int(voted.max(initial=-1)) + 1
    _, first = np.unique(queries * width + voted, return_index=True)
    ordinals, inverse = np.unique(voted[first], return_inverse=True)
    weights = np.bincount(inverse, np.maximum(similarities[first], 0.0) ** power, minlength=len(ordinals))
    return in_order(ordinals, weights)


def in_order(images: IntArray, scores: NDArray[Any]) -> Candidates:
    """Candidates from images in any order: best first and, of equals, the lower ordinal."""
    order = np.lexsort((images, -scores))
    return Candidates(images[order], scores[order].astype(np.float32))
