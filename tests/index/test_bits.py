"""Counting bits."""

from __future__ import annotations

import numpy as np
import pytest

from delf.index import bits as module
from delf.index.bits import as_integers, ones, ones_by_arithmetic


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 12, 16, 40])
def test_ones(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = np.random.default_rng(0).integers(0, 256, size=(200, width), dtype=np.uint8)
    signatures[0], signatures[1] = 255, 0
    truth = np.unpackbits(signatures, axis=1).sum(axis=1)
    bits = as_integers(signatures)
    assert bits.dtype.itemsize * bits.shape[1] == width
    np.testing.assert_array_equal(ones(bits), truth)
    monkeypatch.setattr(module, "_ones_of_each", ones_by_arithmetic)  # NumPy 1
    np.testing.assert_array_equal(ones(bits), truth)
