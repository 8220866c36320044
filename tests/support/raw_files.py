"""Minimal DNG files: a preview as JPEG, and a mosaic of a sensor."""

from __future__ import annotations

import struct

import numpy as np

_SHORT, _LONG, _SRATIONAL, _RATIONAL, _ASCII, _BYTE = 3, 4, 10, 5, 2, 1
_SIZES = {_BYTE: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8, _SRATIONAL: 8}
_Entry = tuple[int, int, bytes]


def short(tag: int, *values: int) -> _Entry:
    return tag, _SHORT, struct.pack(f"<{len(values)}H", *values)


def long(tag: int, *values: int) -> _Entry:
    return tag, _LONG, struct.pack(f"<{len(values)}I", *values)


def text(tag: int, value: str) -> _Entry:
    return tag, _ASCII, value.encode() + b"\0"


def dng(preview: bytes | None, size: tuple[int, int] = (64, 48), *, sensor: tuple[int, int] = (64, 48),
        orientation: int = 1, model: str = "Testcam One", bitmap: bool = False) -> bytes:
    """A DNG file. preview: a JPEG of this (width, height), or none; bitmap: it is bare RGB instead. sensor: (width,
    height) of the mosaic.
    """
    width, height = sensor
    mosaic = (np.add.outer(np.arange(height), np.arange(width)) * 16 % 4096).astype("<u2").tobytes()
    picture = preview or b""
    at = 8 + len(picture) + len(picture) % 2
    body = bytearray(b"II*\0" + bytes(4) + picture + bytes(len(picture) % 2) + mosaic)
    ratios = struct.pack("<18i", *(part for row in range(3) for column in range(3) for part in (row == column, 1)))
    camera = [(50706, _BYTE, b"\1\4\0\0"), text(50708, model), text(271, "Testcam"), text(272, model),
              (50721, _SRATIONAL, ratios), short(50778, 21), short(274, orientation),
              (50728, _RATIONAL, struct.pack("<6I", 1, 1, 1, 1, 1, 1))]
    sensed = [long(254, 0), long(256, width), long(257, height), short(258, 16), short(259, 1), short(262, 32803),
              long(273, at), short(277, 1), long(278, height), long(279, len(mosaic)), short(33421, 2, 2),
              (33422, _BYTE, b"\0\1\1\2"), short(50714, 0), short(50717, 4095)]
    if preview is None:
        first = [*sensed, *camera]
    else:
        below = _written(body, sensed)
        first = [long(254, 1), long(256, size[0]), long(257, size[1]), short(258, 8, 8, 8),
                 short(259, 1 if bitmap else 7), short(262, 2 if bitmap else 6), long(273, 8), short(277, 3),
                 long(278, size[1]), long(279, len(picture)), long(330, below), *camera]
    body[4:8] = struct.pack("<I", _written(body, first))
    return bytes(body)


def _written(body: bytearray, entries: list[_Entry]) -> int:
    """Add a directory to a file; where it begins."""
    body += bytes(len(body) % 2)
    packed = []
    for tag, kind, content in sorted(entries):
        value = content.ljust(4, b"\0")
        if len(content) > 4:
            value = struct.pack("<I", len(body))
            body += content + bytes(len(content) % 2)
        packed.append(struct.pack("<HHI", tag, kind, len(content) // _SIZES[kind]) + value)
    start = len(body)
    body += struct.pack("<H", len(packed)) + b"".join(packed) + bytes(4)
    return start
