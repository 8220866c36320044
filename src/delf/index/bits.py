"""Binary signatures: counting the bits in which they differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Bits = NDArray[Any]  # unsigned integers


def as_integers(signatures: NDArray[np.uint8]) -> _Bits:
    """(E, B) bytes as the fewest unsigned integers of one size: two of 64 bits for 128 dimensions."""
    size = next(size for size in (8, 4, 2, 1) if signatures.shape[1] % size == 0)
    return signatures.view(f"u{size}")


def ones(bits: _Bits) -> NDArray[np.uint16]:
    """(E, B) unsigned integers -> (E,) how many bits of each row are 1."""
    counts = _ones_of_each(bits)
    total = counts[:, 0].astype(np.uint16)
    for column in range(1, counts.shape[1]):
        total += counts[:, column]
    return total


def ones_by_arithmetic(bits: _Bits) -> NDArray[np.uint8]:
    """The 1 bits of each unsigned integer, added up in parallel (Warren, Hacker's Delight, section 5-1).

    NumPy has an operation for it from 2.0 on, which is ten times as fast; this one is five times as fast as a table.
    """
    kind, size = bits.dtype.type, bits.dtype.itemsize
    pairs, nibbles, octets, units = (kind(int(byte * size, 16)) for byte in ("55", "33", "0f", "01"))
    counts = bits - ((bits >> kind(1)) & pairs)
    counts = (counts & nibbles) + ((counts >> kind(2)) & nibbles)
    counts = (counts + (counts >> kind(4))) & octets
    return ((counts * units) >> kind(8 * size - 8)).astype(np.uint8)


_ones_of_each: Callable[[_Bits], NDArray[np.uint8]] = getattr(np, "bitwise_count", ones_by_arithmetic)
