"""Descriptors as 8-bit codes, the form in which they are stored.

A unit vector is stored as `q = round(127 x / max|x|)`; since its length is known to be one, `q / |q|` gives it back
without any further number. The cosine between a vector and its decoded code is above 0.9995 (`tests/test_codes.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray

Codes = NDArray[np.int8]


def encode(descriptors: FloatArray) -> Codes:
    """(N, D) unit vectors -> (N, D) int8 codes."""
    largest = np.abs(descriptors).max(axis=1, keepdims=True, initial=0.0)
    scaled = descriptors * (127.0 / np.maximum(largest, 1e-30))  # a zero vector stays zero, without an overflow
    return np.rint(scaled).astype(np.int8)


def decode(codes: Codes) -> FloatArray:
    """(N, D) int8 codes -> (N, D) float32 unit vectors (a code of zeros stays a zero vector)."""
    vectors = codes.astype(np.float32)
    squares = np.einsum("ij,ij->i", vectors, vectors)  # sums of whole numbers: exact in any order, and without a copy
    vectors /= np.maximum(np.sqrt(squares), 1.0)[:, None]
    return vectors
