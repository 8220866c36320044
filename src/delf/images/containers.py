"""What of a PNG or JPEG file says something about its pixels, apart from its metadata.

Decoders refuse whole pictures for what is written beside them: comments and profiles that are large, damaged or odd.
So they are given the picture alone, and EXIF comes apart, from the one place where the format has it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from delf.errors import ImageError

_PNG = b"\x89PNG\r\n\x1a\n"
_SOS, _EOI, _APP0, _APP1, _APP14, _APP15, _COM = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_EXIF = b"Exif\0\0"


def png_parts(data: bytes, name: str) -> tuple[bytes, bytes]:
    """A PNG file with nothing but its picture, and its EXIF (without, nothing).

    A chunk that is not needed to decode is left out where its checksum is wrong, as libpng does; the others are the
    decoder's affair. Raises `ImageError` for a chunk that is needed and that no standard has.
    """
    picture, exif = [_PNG], b""
    body = memoryview(data)
    for kind, start, end in _chunks(data):
        whole = body[start - 8:end + 4]
        if kind in (b"IHDR", b"PLTE", b"IDAT"):
            picture.append(bytes(whole))
        elif kind[0] < ord("a"):  # an upper-case letter: it cannot be decoded by who does not know this chunk
            raise ImageError(f"{name} is a PNG file that needs its chunk {kind.decode()}, which is not of the "
                             "standard: save it as PNG or JPEG in an image editor.")
        elif kind in (b"tRNS", b"eXIf") and zlib.crc32(body[start - 4:end]).to_bytes(4, "big") == body[end:end + 4]:
            if kind == b"tRNS" and picture[1][16:18] == b"\x10\x02":
                raise ImageError(f"{name} is a PNG file of 16 bits with one transparent colour, which is not read: "
                                 "save it with an alpha channel, or as JPEG.")
            if kind == b"tRNS" and picture[-1][4:8] in (b"IHDR", b"PLTE"):  # once, and before the samples
                picture.append(bytes(whole))
            elif kind == b"eXIf" and not exif:
                exif = bytes(body[start:end])
    picture.append(b"\0\0\0\0IEND\xaeB`\x82")
    return b"".join(picture), exif


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name, start and end of each chunk's content, up to the end of the picture or of what can be understood."""
    start = len(_PNG) + 8
    while start <= len(png):
        kind = png[start - 4:start]
        end = start + int.from_bytes(png[start - 8:start - 4], "big")
        if kind == b"IEND" or not kind.isalpha():
            break
        yield kind, start, min(end, len(png))
        start = end + 12


def jpeg_parts(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG file whose header has nothing but what its picture needs, and its EXIF (without, nothing)."""
    exif = b""
    kept, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in (_SOS, _EOI) or marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            break
        end = position + 2 + int.from_bytes(data[position + 2:position + 4], "big")
        content = data[position + 4:end]
        if marker == _APP1 and content.startswith(_EXIF) and not exif:
            exif = content[len(_EXIF):]
        if not (_APP0 <= marker <= _APP15 or marker == _COM) or _names_the_colours(marker, content):
            kept.append(data[position:end])
        position = end
    if len(kept) > 1 or position > 2:
        return b"".join([*kept, data[position:]]), exif
    return data, exif


def _names_the_colours(marker: int, content: bytes) -> bool:
    """Whether a segment for applications is one by which libjpeg knows what the channels mean."""
    return ((marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 14)
            or (marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12))
