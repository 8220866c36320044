"""The closest of what is offered to many queries, whatever the order in which it is offered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray

ROW_BITS, DISTANCE_BITS = 32, 22
STEPS = 2**19  # by which squared distances are multiplied and rounded
FARTHEST = 2**DISTANCE_BITS - 1  # of such: 8, where unit vectors are at most 4 apart
WAITING = 1 << 20  # keys that are put aside before they are sorted: 8 MB


class Closest:
    """The `count` closest rows of each query so far; of equally close ones, those of lower numbers.

    Query, distance and row are one whole number, so that to sort these is to sort by all three. There may be up to
    2^10 queries and 2^32 rows; distances are told apart up to 8, which is more than between unit vectors.
    """

    def __init__(self, queries: int, count: int) -> None:
        self._count = count
        self._limits = np.full(queries, np.inf, np.float32)
        self._kept = np.zeros(0, np.uint64)
        self._pending: list[NDArray[np.uint64]] = []
        self._waiting = 0

    def offer(self, queries: IntArray, distances: FloatArray, places: IntArray,
              rows_at: Callable[[IntArray], IntArray]) -> None:
        """Take what is close enough.

        Args:
            queries: (Q,) which ones.
            distances: (N, Q) squared.
            places: (N,) where the N are, of which `rows_at` gives the rows.
        """
        hits = np.flatnonzero(distances <= self._limits[queries])
        if not len(hits):
            return
        at, columns = np.divmod(hits, len(queries))
        steps = np.clip(np.rint(distances.ravel()[hits] * STEPS), 0, FARTHEST).astype(np.uint64)
        keys = queries[columns].astype(np.uint64) << np.uint64(DISTANCE_BITS + ROW_BITS)
        keys |= steps << np.uint64(ROW_BITS)
        self._pending.append(keys | rows_at(places[at]).astype(np.uint64))
        self._waiting += len(hits)
        if self._waiting > WAITING:
            self._settle()

    def found(self) -> tuple[IntArray, NDArray[np.float64]]:
        """(Q, count) rows, the closest first, -1 where there are fewer, and their squared distances."""
        self._settle()
        queries, slots = self._slots()
        rows = np.full((len(self._limits), self._count), -1, np.int64)
        distances = np.full(rows.shape, np.inf)
        rows[queries, slots] = self._kept & np.uint64(2**ROW_BITS - 1)
        distances[queries, slots] = self._distances() / STEPS
        return rows, distances

    def _settle(self) -> None:
        """Sort what was put aside into what is kept."""
        self._kept = np.sort(np.concatenate([self._kept, *self._pending]))
        self._pending, self._waiting = [], 0
        self._kept = self._kept[self._slots()[1] < self._count]
        queries, slots = self._slots()
        last = slots == self._count - 1
        self._limits[queries[last]] = (self._distances()[last] + 1) / STEPS

    def _slots(self) -> tuple[IntArray, IntArray]:
        """The query of each key that is kept, and its place among those of this query."""
        queries = (self._kept >> np.uint64(DISTANCE_BITS + ROW_BITS)).astype(np.int64)
        counts = np.bincount(queries, minlength=len(self._limits))
        return queries, np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)

    def _distances(self) -> IntArray:
        return ((self._kept >> np.uint64(ROW_BITS)) & np.uint64(FARTHEST)).astype(np.int64)
