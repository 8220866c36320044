"""Non-maximum suppression of features whose patches overlap."""

from __future__ import annotations

import numpy as np

from delf.types import FloatArray, IntArray


def suppress(centres: FloatArray, sides: FloatArray, scores: FloatArray, threshold: float, limit: int) -> IntArray:
    """Greedy suppression: rows of the features to keep, best score first, at most `limit` of them.

    A feature goes when the intersection over union of its square patch with that of a kept one exceeds `threshold`;
    equal scores keep the order of the input. With `threshold` 1.0 nothing goes: a sort and a cut.

    Args:
        centres: (N, 2). sides: (N,) side of each patch. scores: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    if threshold >= 1.0:
        return order[:limit]
    low, high = centres - sides[:, None] / 2, centres + sides[:, None] / 2
    areas = sides.astype(np.float64) ** 2
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        extent = np.minimum(high[order], high[best]) - np.maximum(low[order], low[best])
        intersection = np.prod(np.maximum(extent, 0.0), axis=1, dtype=np.float64)
        order = order[intersection <= threshold * (areas[order] + areas[best] - intersection)]
    return np.asarray(kept, dtype=np.int64)
