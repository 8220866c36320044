"""Quantiles by two order statistics: of numbers that lie in one array, or in several of which each has a part.

Between the two the value is linear, as in definition 7 of Hyndman and Fan (The American Statistician 1996), which is
NumPy's default. Written out here, it does not depend on where the numbers lie, nor on the version of NumPy.
"""

from __future__ import annotations

import numpy as np

from delf.types import FloatArray


def places(count: int, share: float) -> tuple[int, int]:
    """The places, of so many numbers in their order, between which a quantile lies."""
    lower = int((count - 1) * share)
    return lower, min(lower + 1, count - 1)


def between(lower: float, upper: float, count: int, share: float) -> float:
    """The quantile, given the numbers at these places, which are of single precision, as what is returned is."""
    position = (count - 1) * share
    part = position - int(position)
    first, last = np.float32(lower), np.float32(upper)
    if part >= 0.5:  # from the nearer side, as NumPy does: the rounding is then the smaller one
        return float(last - (last - first) * np.float32(1.0 - part))
    return float(first + (last - first) * np.float32(part))


def quantile(values: FloatArray, share: float) -> float:
    """The quantile of numbers (n,) float32; 0 where there are none."""
    if not len(values):
        return 0.0
    lower, upper = places(len(values), share)
    ordered = np.partition(values, (lower, upper))
    return between(float(ordered[lower]), float(ordered[upper]), len(values), share)
