"""An exact quantile of scores that lie on several machines.

Positive numbers of single precision have the order of their bits. Each machine counts its scores in bins by the upper
half of these bits. The sum of all counts shows in which one or two bins the quantile lies, and only the scores of these
bins are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from delf.ranking.quantiles import between, places
from delf.types import FloatArray, IntArray

_SHIFT = 16


def bins_of(scores: FloatArray) -> IntArray:
    """The bin of each score: (n,), int64. Scores are above 0."""
    return (np.ascontiguousarray(scores, np.float32).view(np.uint32) >> _SHIFT).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Spread:
    """Counts of scores by bins. bins: (B,), sorted. counts: (B,), the number of scores in each bin."""

    bins: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, scores: FloatArray) -> Spread:
        """The counts of some scores, which are above 0."""
        counts = np.bincount(bins_of(scores))
        bins = np.flatnonzero(counts)
        return cls(bins, counts[bins])

    @classmethod
    def sum_of(cls, parts: Iterable[Spread]) -> Spread:
        """The counts of all parts together."""
        listed = list(parts)
        if not listed:
            return cls()
        bins, inverse = np.unique(np.concatenate([part.bins for part in listed]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([part.counts for part in listed]), minlength=len(bins))
        return cls(bins, counts.astype(np.int64))

    def __len__(self) -> int:
        """How many scores there are."""
        return int(self.counts.sum())

    def quantile_without(self, gone: FloatArray, share: float,
                         within: Callable[[int, int], FloatArray]) -> tuple[int, float]:
        """As `Candidates.quantile_without`: the number of scores that count, and their quantile.

        Args:
            gone: scores that do not count. share: which quantile, from 0 to 1. within: fetches all scores in the bins
                from the first argument to the second.
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
    """Scores, sorted, without the scores in `gone`, each of which is left out once."""
    values, counts = np.unique(scores, return_counts=True)
    lost, times = np.unique(gone, return_counts=True)
    counts[np.searchsorted(values, lost)] -= times
    return np.repeat(values, counts)
