"""Query expansion of global descriptors: a query becomes the mean of itself and the images that are nearest to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray


def expand(query: FloatArray, similarities: NDArray[np.floating], vectors: FloatArray, *,
           alpha: float = 0.0) -> FloatArray:
    """A unit vector: the query plus its nearest vectors, each weighed by its similarity to the power of alpha.

    Average query expansion (Chum et al., ICCV 2007) with alpha = 0, that of Radenovic et al. (TPAMI 2019) above.

    Args:
        query: (G,) unit vector. similarities: (k,) cosines to it of vectors (k, G), unit vectors.
    """
    weights = np.maximum(similarities, 0.0) ** alpha
    total = query + weights @ vectors
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
