"""How the scores of retrieval and verified inliers become one score for each candidate image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from delf.ranking.distinct import Counts
from delf.ranking.fusion import fused
from delf.types import FloatArray

CHANCE = 20  # inliers that two photos of different things may have
DISTINCT_CHANCE = 10  # distinct ones


def by_retrieval(weights: FloatArray, inliers: Counts) -> NDArray[np.float64]:
    """The order in which the candidates were found, whatever geometry says."""
    return weights.astype(np.float64)


def by_inliers(weights: FloatArray, inliers: Counts) -> NDArray[np.float64]:
    """Inliers first, then the order of retrieval, as in the paper."""
    return inliers + weights / (weights.max(initial=0.0) + 1.0)


def joint(weights: FloatArray, inliers: Counts) -> NDArray[np.float64]:
    """Votes, raised by verified inliers: `votes * (1 + 2 * min(inliers / 100, 1))`.

    Inliers alone rank well what one transform explains, but lose other sides, partial views and turned objects, which
    votes find. The form and the factor were chosen on classes of landmarks that no training saw. The inliers are
    counted against a fixed 100, not against the best image, so that a score does not depend on what else was found.
    """
    return weights * (1.0 + 2.0 * np.minimum(inliers / 100, 1.0))


def confirmed(weights: FloatArray, inliers: Counts) -> NDArray[np.float64]:
    """Scores of ASMK*, raised by distinct inliers: `score * (1 + 4 * clip((inliers - 10) / 40, 0, 1))`.

    ASMK* ranks better than votes, and a few inliers, which different things have as well, make its order worse: below
    ten they say nothing here. Chosen on classes of landmarks that no training saw (`benchmarks/CHOICES.md`).
    """
    return weights * (1.0 + 4.0 * np.clip((inliers - DISTINCT_CHANCE) / 40, 0.0, 1.0))


COUNTS = ("all", "distinct")  # ways to count the inliers of a candidate
RANKINGS: dict[str, Callable[[FloatArray, Counts], NDArray[np.float64]]] = {
    "joint": joint, "confirmed": confirmed, "inliers": by_inliers, "retrieval": by_retrieval, "fused": fused}
