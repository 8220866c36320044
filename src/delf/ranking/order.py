"""How votes and verified inliers become one score for each candidate image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, IntArray

GAIN = 2.0
SATURATION = 100  # inliers

def by_votes(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """The order of the votes, whatever geometry says."""
    return weights.astype(np.float64)


def by_inliers(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Inliers first, then votes: the paper's order."""
    return inliers + weights / (weights.max(initial=0.0) + 1.0)


def joint(weights: FloatArray, inliers: IntArray) -> NDArray[np.float64]:
    """Votes, raised by verified inliers: `votes * (1 + 2 * min(inliers / 100, 1))`.

    Inliers alone rank well what one transform explains, but lose other sides, partial views and turned objects, which
    votes find. The form and the factor were chosen on classes of landmarks that no training saw: with the packaged
    model, mAP 72.0 against 70.7 for votes alone and less for inliers alone. The inliers are counted against a fixed
    100, not against the best image, so that a score does not depend on what else was found.
    """
    return weights * (1.0 + GAIN * np.minimum(inliers / SATURATION, 1.0))


RANKINGS: dict[str, Callable[[FloatArray, IntArray], NDArray[np.float64]]] = {
    "joint": joint, "inliers": by_inliers, "votes": by_votes}
