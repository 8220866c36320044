"""CRC-32C in lanes, beside the plain one."""

from __future__ import annotations

import numpy as np
import pytest

from delf.weights.checksum import crc32c, unmasked


def plain(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize(("data", "expected"), [
    (b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E), (bytes(range(31, -1, -1)), 0x113FDB5C)])
def test_published_sums(data: bytes, expected: int) -> None:
    """Of RFC 3720, appendix B.4."""
    assert crc32c(data) == expected


def test_every_length_as_the_plain_sum() -> None:
    data = np.random.default_rng(0).bytes(5000)
    for length in (*range(20), 1000, *range(1020, 1050), 2047, 2048, 4095, 4096, 4999, 5000):
        assert crc32c(memoryview(data)[:length]) == plain(data[:length])


def test_the_mask() -> None:
    """Of the tests of LevelDB: masked, a sum is another one."""
    value = crc32c(b"foo")
    masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked != value and unmasked(masked) == value
