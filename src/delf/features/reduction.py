"""L2, PCA, L2: from what the network says of a point to its descriptor."""

from __future__ import annotations

import numpy as np

from delf.errors import OptionError
from delf.models import PCA
from delf.types import FloatArray


def normalise(vectors: FloatArray) -> FloatArray:
    """(N, D) vectors scaled to unit length; a zero vector stays zero."""
    lengths = np.sqrt(np.maximum(np.einsum("nd,nd->n", vectors, vectors), 1e-12))
    return (vectors / lengths[:, None]).astype(np.float32)


def reduce(raw: FloatArray, pca: PCA, dimensions: int, *, whitening: bool = False) -> FloatArray:
    """(N, C) raw features -> (N, dimensions) descriptors: L2, projection on the first components, L2.

    With `whitening` each component is divided by its standard deviation before the last step. It computes in double
    precision, so that how a matrix product sums, which depends on the number of rows and the processor, does not show.

    Raises:
        OptionError: the model has fewer components than `dimensions`.
    """
    if not 0 < dimensions <= len(pca.components):
        raise OptionError(f"this model reduces to 1 to {len(pca.components)} dimensions, not to {dimensions}")
    features = raw.astype(np.float64)
    features /= np.sqrt(np.maximum(np.einsum("nd,nd->n", features, features), 1e-12))[:, None]
    projected = (features - pca.mean) @ pca.components[:dimensions].T.astype(np.float64)
    if whitening:
        projected /= np.sqrt(np.maximum(pca.variances[:dimensions].astype(np.float64), 1e-12))
    projected /= np.sqrt(np.maximum(np.einsum("nd,nd->n", projected, projected), 1e-12))[:, None]
    return projected.astype(np.float32)
