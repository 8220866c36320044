"""The wire format of protocol buffers, as far as the files of the TensorFlow DELF reference use it.

A message is a sequence of fields: a varint of `number << 3 | wire type`, then the value. A repeated number may be
packed into one field or stand in many, and an embedded message that comes twice is merged; since both mean the same as
the values one after the other, readers here join the bytes of all fields of a number and read those.
(The format: protobuf.dev, "Encoding".)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from delf.types import FloatArray

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_MOST_FIELDS = 2**20  # in one file, which bounds the time that a hostile one can take to two seconds


class Scanner:
    """Walks over the fields of a message and of those embedded in it. All its errors are `ValueError`."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """The number, the wire type and the bytes of the value of each field."""
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it holds more than {_MOST_FIELDS} fields")
            tag, start = varint(message, at)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == LENGTH:
                length, start = varint(message, start)
                at = start + length
            elif wire_type == VARINT:
                at = varint(message, start)[1]
            elif wire_type in (FIXED32, FIXED64):
                at = start + (4 if wire_type == FIXED32 else 8)
            else:
                raise ValueError(f"a field has the unknown wire type {wire_type}")
            if not 0 < number < 2**29:
                raise ValueError(f"a field has the impossible number {number}")
            if at > len(message):
                raise ValueError("a field is longer than what holds it")
            yield number, wire_type, message[start:at]

    def collect(self, message: memoryview, wire_types: Mapping[int, tuple[int, ...]]) -> dict[int, bytearray]:
        """The bytes of the fields of each number, joined; `wire_types` says which numbers, of which wire types."""
        found = {number: bytearray() for number in wire_types}
        for number, wire_type, value in self.fields(message):
            if number in found:
                if wire_type not in wire_types[number]:
                    raise ValueError(f"field {number} has the wrong wire type {wire_type}")
                found[number] += value
        return found


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned 64-bit number at an offset of `data`, and the offset behind it."""
    value = 0
    for shift, byte in enumerate(data[at:at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value & (2**64 - 1), at + shift + 1
    raise ValueError("a number is cut off or longer than 64 bits")


def integers(data: bytes | bytearray) -> list[int]:
    """Signed 64-bit varints, one after the other."""
    view, at, values = memoryview(data), 0, []
    while at < len(view):
        value, at = varint(view, at)
        values.append(value - 2**64 if value >= 2**63 else value)
    return values


def floats(data: bytes | bytearray) -> FloatArray:
    """Little-endian float32 numbers, one after the other."""
    if len(data) % 4:
        raise ValueError("a list of numbers is cut off")
    return np.frombuffer(data, "<f4").astype(np.float32)


def last_float(data: bytes | bytearray) -> float:
    """The value of a singular number: its last, or the default zero."""
    return float(np.frombuffer(data[-4:], "<f4")[0]) if data else 0.0


def encode_varint(value: int) -> bytes:
    """A signed 64-bit number as a varint."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_message(number: int, message: bytes) -> bytes:
    """An embedded message, or a packed list, as a field."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(len(message)) + message


def encode_float(number: int, value: float) -> bytes:
    """A float32 as a field."""
    return encode_varint(number << 3 | FIXED32) + np.array(value, "<f4").tobytes()


def encode_integer(number: int, value: int) -> bytes:
    """A whole number as a field."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)
