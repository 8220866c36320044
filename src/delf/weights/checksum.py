"""CRC-32C (Castagnoli) of megabytes, in numpy: what TensorFlow and LevelDB guard their files with.

The sum is linear over bits: that of two parts is that of the first, moved past as many zeros as the second has bytes,
exclusive-or that of the second. So the data is cut into many lanes of one length, which are summed side by side, and
then joined two by two. (The polynomial: RFC 3720, appendix B.4; the mask: `crc32c.h` of LevelDB.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
_ALL = 0xFFFFFFFF
_MASK = 0xA282EAD8
_FEW = 1024  # bytes that are summed sooner one by one


def crc32c(data: bytes | memoryview) -> int:
    """The sum of some bytes."""
    if len(data) < _FEW:
        value = _ALL
        for byte in data:
            value = _NUMBERS[(value ^ byte) & 0xFF] ^ value >> 8
        return value ^ _ALL
    # Zeros in front change nothing in a sum that begins with zero; where it begins with ones is made up for at the end.
    values = np.frombuffer(data, np.uint8)
    lanes = 1 << (len(values).bit_length() + 2) // 2
    length = -(-len(values) // lanes)
    padded = np.zeros(lanes * length, np.uint8)
    padded[lanes * length - len(values) :] = values
    sums = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, length).T):
        sums = _TABLE[(sums ^ column) & 0xFF] ^ (sums >> np.uint32(8))
    shift = _past_zeros(length)
    while len(sums) > 1:
        sums = _apply(shift, sums[0::2]) ^ sums[1::2]
        shift = _apply(shift, shift)
    first = _apply(_past_zeros(len(values)), np.array([_ALL], np.uint32))
    return int(sums[0] ^ first[0]) ^ _ALL


def unmasked(stored: int) -> int:
    """The sum behind a stored one: they are turned and moved, since sums of what holds sums are weak."""
    turned = (stored - _MASK) & _ALL
    return (turned >> 17 | turned << 15) & _ALL


def _make_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


def _apply(matrix: Words, sums: Words) -> Words:
    """A matrix of bits, as 32 columns, times each of some sums."""
    bits = sums[:, None] >> _BITS & np.uint32(1)
    return np.asarray(np.bitwise_xor.reduce(bits * matrix, axis=1), np.uint32)


def _past_zeros(count: int) -> Words:
    """What `count` bytes of zeros do to a sum, as 32 columns."""
    power, result = _ZERO_BYTE, np.uint32(1) << _BITS
    while count:
        if count & 1:
            result = _apply(power, result)
        power, count = _apply(power, power), count >> 1
    return result


_BITS = np.arange(32, dtype=np.uint32)
_TABLE = _make_table()
_NUMBERS = _TABLE.tolist()
_ZERO_BYTE = _TABLE[np.uint32(1) << _BITS & np.uint32(0xFF)] ^ (np.uint32(1) << _BITS >> np.uint32(8))
