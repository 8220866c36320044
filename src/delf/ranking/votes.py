"""Votes: each neighbour of a query feature speaks for the image it belongs to (Noh et al., ICCV 2017, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.ranking.quantiles import quantile
from delf.types import FloatArray, IntArray, Neighbours


class Candidates:
    """Images that may show what a query shows, best first.

    images: (V,) int64 ordinals. scores: (V,) float32, in the unit of the method that found them.

    Of a million images a search shows a few: those of `in_order` are put in order when their order is asked for, which
    the methods below do not need.
    """

    def __init__(self, images: IntArray, scores: NDArray[Any], *, ordered: bool = True) -> None:
        """images, scores: (V,) each. ordered: whether they stand in their order; else that of `in_order` is theirs."""
        self._images, self._scores, self.ordered = images, scores, ordered

    def __len__(self) -> int:
        return len(self._images)

    @cached_property
    def images(self) -> IntArray:
        """(V,) int64 ordinals, best first."""
        return self._images if self.ordered else self._images[self._order]

    @cached_property
    def scores(self) -> FloatArray:
        """(V,) float32, of the images in this order."""
        scores = self._scores if self.ordered else self._scores[self._order]
        return scores.astype(np.float32, copy=False)

    @cached_property
    def _order(self) -> IntArray:
        return np.lexsort((self._images, -self._scores))

    def best(self, count: int) -> Candidates:
        """The first so many."""
        images, scores = self.leading(count)
        return Candidates(images, scores.astype(np.float32, copy=False))

    def leading(self, count: int) -> tuple[IntArray, NDArray[Any]]:
        """The first so many and their scores, in the precision by which they are in this order."""
        if self.ordered:
            return self._images[:count], self._scores[:count]
        if not 0 < count < len(self):
            return self._first(count)
        last = np.partition(self._scores, len(self) - count)[len(self) - count]
        rows = np.flatnonzero(self._scores >= last)  # a few more than `count`, where the last one has equals
        return Candidates(self._images[rows], self._scores[rows], ordered=False)._first(count)

    def _first(self, count: int) -> tuple[IntArray, NDArray[Any]]:
        return self._images[self._order][:count], self._scores[self._order][:count]

    def scores_of(self, images: Sequence[int]) -> dict[int, float]:
        """The scores of some images, as far as they are candidates."""
        rows = np.flatnonzero(np.isin(self._images, images))
        scores = self._scores[rows].astype(np.float32)
        return dict(zip(self._images[rows].tolist(), scores.tolist(), strict=True))

    def scores_without(self, images: Sequence[int]) -> FloatArray:
        """The scores of all others, in no order."""
        return self._scores[~np.isin(self._images, images)].astype(np.float32, copy=False)

    def quantile_without(self, images: Sequence[int], share: float) -> tuple[int, float]:
        """How many others there are, and the score that a share of these has at most; 0 where there are none."""
        scores = self.scores_without(images)
        return len(scores), quantile(scores, share)

    def add_to(self, scores: NDArray[np.float64]) -> None:
        """Add their scores to those (n,) of all images."""
        scores[self._images] += self._scores.astype(np.float32, copy=False)


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
    return Candidates(images, scores, ordered=False)
