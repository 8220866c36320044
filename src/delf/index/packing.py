"""Small whole numbers packed to the bit: number i of b bits is bits i b to i b + b - 1 of the bytes, the lowest first.

Entries of several numbers lie one after another without gaps, so that eight of them fill whole bytes. An array of bytes
ends with the last eight, of which some may not be used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import IntArray

LONGEST = 32  # bits of a number


def packed_bytes(entries: int, width: int) -> int:
    """How many bytes entries of so many bits each take: up to seven entries more than there are."""
    return -(-entries // 8) * width


def put(content: NDArray[np.uint8], places: IntArray, values: NDArray[Any], bits: int) -> None:
    """Put entries at their places, each once, into bytes that are zero there.

    Args:
        places: (N,) which entry each is.
        values: (N, F) unsigned integers below 2^bits, of which each entry has F.
    """
    width = values.shape[1] * bits
    for phase in range(8):  # entries of one phase have no byte in common
        rows = np.flatnonzero(places % 8 == phase)
        if not len(rows):
            continue
        spread = (values[rows][:, :, None] >> np.arange(bits).astype(values.dtype)) & values.dtype.type(1)
        before = np.zeros((len(rows), phase * width % 8), np.uint8)
        filled = np.packbits(np.hstack([before, spread.reshape(len(rows), width).astype(np.uint8)]), axis=1,
                             bitorder="little")
        content[(places[rows] * width // 8)[:, None] + np.arange(filled.shape[1])] |= filled


def run(content: NDArray[np.uint8], start: int, stop: int, fields: int, bits: int) -> NDArray[np.uint8]:
    """The entries from `start` on and before `stop`: (stop - start, fields) numbers of 1 to 8 bits."""
    width, first = fields * bits, start // 8
    groups = np.asarray(content[first * width : -(-stop // 8) * width]).reshape(-1, width)
    begins = np.arange(8 * fields) * bits
    places, shifts = begins // 8, (begins % 8).astype(np.uint16)
    found = groups[:, np.minimum(places + 1, width - 1)].astype(np.uint16)  # unused where a number ends its group
    found <<= np.uint16(8)
    found |= groups[:, places]
    found >>= shifts
    numbers = (found & np.uint16(2**bits - 1)).astype(np.uint8).reshape(-1, fields)
    return numbers[start - 8 * first : stop - 8 * first]


def numbers_at(content: NDArray[np.uint8], places: IntArray, bits: int) -> IntArray:
    """The numbers of up to 32 bits at some places, (N,) int64, of entries that are one number each."""
    begins = places * bits
    first, last = begins >> 3, len(content) - 1
    found = np.zeros(len(places), np.int64)
    for byte in range(-(-(bits + 7) // 8)):
        found |= content[np.minimum(first + byte, last)].astype(np.int64) << (8 * byte)
    return (found >> (begins & 7)) & (2**bits - 1)
