"""From the feature maps of the levels of an image to its one global descriptor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delf.features.reduction import normalise
from delf.models import Whitening
from delf.models.regions import regions
from delf.types import FloatArray

RMAC_LEVELS = 3
_SAME_SCALE = 1e-3  # of what is written with four digits


def pool_rmac(feature_map: FloatArray, levels: int = RMAC_LEVELS) -> FloatArray:
    """Regional maximum activations (Tolias et al., ICLR 2016) of a feature map: (C, h, w) -> (C,) float32.

    What `delf.network.heads.RMAC` computes: the sum of the L2-normalised maxima of square regions of several sizes, and
    of the whole map.
    """
    _, height, width = feature_map.shape
    maxima = [feature_map.max(axis=(1, 2))]
    for top, left, side in regions(height, width, levels):
        maxima.append(feature_map[:, top : top + side, left : left + side].max(axis=(1, 2)))
    return np.asarray(normalise(np.stack(maxima)).sum(axis=0), np.float32)


def join_levels(pooled: FloatArray, scales: Sequence[float], whitening: Whitening | None = None,
                wanted: Sequence[float] = ()) -> FloatArray:
    """One unit vector (G,) or, whitened, (W,) from what was pooled from L levels of the pyramid.

    Every level counts alike: the mean of unit vectors, scaled to unit length (as Gordo et al., IJCV 2017, have it for
    several resolutions). The whitening comes last, and what it gives is scaled to unit length again; levels that are
    smaller than those that it was learnt on are left out, unless there are no others.

    Args:
        pooled: (L, G). scales: of the L levels. wanted: the scales of those that count, all where it is empty, or where
            the pyramid has none of them.
    """
    kept = np.ones(len(pooled), bool)
    if wanted:
        kept &= np.isclose(np.asarray(scales)[:, None], np.asarray(wanted), rtol=_SAME_SCALE).any(axis=1)
    if whitening is not None:
        kept &= np.asarray(scales) >= whitening.smallest_scale[0]
    pooled = pooled[kept] if kept.any() else pooled
    joined = normalise(normalise(pooled).mean(axis=0, keepdims=True))
    if whitening is not None:
        joined = whiten(joined, whitening)
    return joined[0]


def whiten(descriptors: FloatArray, whitening: Whitening) -> FloatArray:
    """(N, G) unit vectors -> (N, W) unit vectors."""
    return normalise(np.matmul(descriptors - whitening.mean, whitening.projection.T, dtype=np.float32))
