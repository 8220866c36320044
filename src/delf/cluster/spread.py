"""How scores are spread over several machines: counts that add up exactly, and so an exact quantile of all of them.

Positive numbers of single precision are in the order of their bits. Each machine counts its scores by the upper half of
these; from the sums it is known in which one or two of such bins a quantile lies, and only what is in these is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from delf.ranking.quantiles import between, places
from delf.types import FloatArray, IntArray

_SHIFT = 16


def bins_of(scores: FloatArray) -> IntArray:
    """(n,) the bin of each score, which is above 0."""
    return (np.ascontiguousarray(scores, np.float32).view(np.uint32) >> _SHIFT).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Spread:
    """How many scores are in each bin. bins: (B,) rising. counts: (B,)."""

    bins: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, scores: FloatArray) -> Spread:
        """Of scores above 0."""
        counts = np.bincount(bins_of(scores))
        bins = np.flatnonzero(counts)
        return cls(bins, counts[bins])

    @classmethod
    def sum_of(cls, parts: Iterable[Spread]) -> Spread:
        """Of all parts together."""
        listed = list(parts)
        if not listed:
            return cls()
        bins, inverse = np.unique(np.concatenate([one.bins for one in listed]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([one.counts for one in listed]), minlength=len(bins))
        return cls(bins, counts.astype(np.int64))

    def __len__(self) -> int:
        """How many scores there are."""
        return int(self.counts.sum())

    def quantile_without(self, gone: FloatArray, share: float,
                         within: Callable[[int, int], FloatArray]) -> tuple[int, float]:
        """As `Candidates.quantile_without`, of all scores but some.

        Args:
            gone: scores that do not count. within: fetches all scores in the bins from one to another.
        """
        lost = Spread.of(gone)
        counts = self.counts.copy()
        counts[np.searchsorted(self.bins, lost.bins)] -= lost.counts
        total = int(counts.sum())
        if not total:
            return 0, 0.0
        lower, upper = places(total, share)
        ends = np.cumsum(counts)
        first, last = (int(np.searchsorted(ends, place, side="right")) for place in (lower, upper))
        low, high = int(self.bins[first]), int(self.bins[last])
        left = _without(within(low, high), gone[(bins_of(gone) >= low) & (bins_of(gone) <= high)])
        before = int(ends[first] - counts[first])
        return total, between(float(left[lower - before]), float(left[upper - before]), total, share)


def _without(scores: FloatArray, gone: FloatArray) -> FloatArray:
    """Scores in their order, without some of them, each once."""
    values, counts = np.unique(scores, return_counts=True)
    lost, times = np.unique(gone, return_counts=True)
    counts[np.searchsorted(values, lost)] -= times
    return np.repeat(values, counts)
