"""How votes and verified inliers become one score for each candidate image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray


def by_votes(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """The order of the votes, whatever geometry says."""
    return weights.astype(np.float64)


def by_inliers(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Inliers first, then votes: the paper's order."""
    return inliers + weights / (weights.max(initial=0.0) + 1.0)


def joint(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Todo."""
    return weights / weights.max(initial=1.0) + np.log1p(inliers)


RANKINGS: dict[str, Callable[[FloatArray, IntArray], NDArray[np.float64]]] = {
    "joint": joint, "inliers": by_inliers, "votes": by_votes}
