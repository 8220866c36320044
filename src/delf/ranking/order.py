"""How the scores of retrieval and verified inliers become one score for each candidate image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from delf.ranking.fusion import fused
from delf.types import FloatArray, IntArray

CHANCE = 20  # inliers that two photos of different things may have


def by_retrieval(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """The order in which the candidates were found, whatever geometry says."""
    return weights.astype(np.float64)


def by_inliers(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Inliers first, then the order of retrieval, as in the paper."""
    return inliers + weights / (weights.max(initial=0.0) + 1.0)


def joint(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Votes, raised by verified inliers: `votes * (1 + 2 * min(inliers / 100, 1))`.

    Inliers alone rank well what one transform explains, but lose other sides, partial views and turned objects, which
    votes find. The form and the factor were chosen on classes of landmarks that no training saw. The inliers are
    counted against a fixed 100, not against the best image, so that a score does not depend on what else was found.
    """
    return weights * (1.0 + 2.0 * np.minimum(inliers / 100, 1.0))


def confirmed(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Scores of ASMK*, raised by inliers beyond chance: `score * (1 + 4 * clip((inliers - 20) / 50, 0, 1))`.

    ASMK* ranks better than votes, and a few inliers, which different things have as well, make its order worse: below
    twenty they say nothing here. Chosen on classes of landmarks that no training saw (`benchmarks/CHOICES.md`).
    """
    return weights * (1.0 + 4.0 * np.clip((inliers - CHANCE) / 50, 0.0, 1.0))


RANKINGS: dict[str, Callable[[FloatArray, IntArray], NDArray[np.float64]]] = {
    "joint": joint, "confirmed": confirmed, "inliers": by_inliers, "retrieval": by_retrieval, "fused": fused}
