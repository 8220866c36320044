"""The directories of TIFF files, classic and BigTIFF: reading those of a file, writing one anew."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how a TIFF file begins
_MOST_PAGES = 64  # looked at for the first one that is no thumbnail
_MOST_ENTRIES = 4096
_MOST_VALUES = 1 << 20  # of a tag: more strips than any picture has; all tags could point to the same bytes
# The types whose values are unsigned integers (IFD, LONG8 and IFD8 among them), and what numpy calls them.
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_BYTES, _RATIONAL = 7, 5


class Tag(IntEnum):
    """The tags that say what the pixels are."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_SIZES = 279
    PLANAR = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_SIZES = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    COEFFICIENTS = 529
    SUBSAMPLING = 530
    POSITIONING = 531
    REFERENCE = 532
    IMAGE_DEPTH = 32997
    DNG_VERSION = 50706


_WANTED = frozenset(int(tag) for tag in Tag)
Tags = dict[int, NDArray[np.uint64] | bytes]


def number(tags: Tags, tag: Tag, default: int) -> int:
    """The first value of a tag."""
    values = numbers(tags, tag)
    return int(values[0]) if len(values) else default


def numbers(tags: Tags, tag: Tag) -> NDArray[np.uint64]:
    """All values of a tag; none where it is missing or is no list of integers."""
    values = tags.get(tag, b"")
    return np.zeros(0, np.uint64) if isinstance(values, bytes) else values


def is_reduced(tags: Tags) -> bool:
    """Whether a page says that it is a smaller version, or a mask, of another one."""
    return bool(number(tags, Tag.NEW_SUBFILE_TYPE, 0) & 5) or number(tags, Tag.SUBFILE_TYPE, 0) == 2


def directories(tiff: bytes, start: int | None = None) -> Iterator[tuple[int, Tags]]:
    """Where each page's directory begins, and the tags in it that we know; ends at what cannot be understood. start:
    where the first one is; by default as the head of the file says.
    """
    order, big = "<" if tiff[:1] == b"I" else ">", tiff[2:4].strip(b"\0") == b"+"
    word, size = ("Q", 8) if big else ("I", 4)
    head = 8 if big else 4
    seen: set[int] = set()
    try:
        (position,) = struct.unpack_from(order + word, tiff, head) if start is None else (start,)
        while position and position not in seen and len(seen) < _MOST_PAGES:
            seen.add(position)
            (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, position)
            first, length = position + (8 if big else 2), 4 + 2 * size
            if count > _MOST_ENTRIES:
                return
            tags: Tags = {}
            for entry in range(first, first + count * length, length):
                _read_entry(tiff, entry, order + "HH" + word, size, tags)
            yield position, tags
            (position,) = struct.unpack_from(order + word, tiff, first + count * length)
    except (struct.error, OverflowError):  # the file ends here, or lies about where it goes on
        return


def is_cut_short(tiff: bytes) -> bool:
    """Whether a page, or one below a page, has strips or tiles that lie beyond the end of the file."""
    pages = [tags for _, tags in directories(tiff)]
    below = [int(place) for tags in pages for place in numbers(tags, Tag.SUB_DIRECTORIES)[:_MOST_PAGES]]
    pages += [tags for place in below[:_MOST_PAGES] for _, tags in directories(tiff, place)]
    for tags in pages:
        for offsets, sizes in ((numbers(tags, Tag.STRIP_OFFSETS), numbers(tags, Tag.STRIP_SIZES)),
                               (numbers(tags, Tag.TILE_OFFSETS), numbers(tags, Tag.TILE_SIZES))):
            if 0 < len(offsets) == len(sizes) and float((offsets + 0.99 * sizes).max()) > len(tiff):
                return True  # a hundredth is spared, for sizes that are rounded up
    return False


def _read_entry(tiff: bytes, entry: int, form: str, size: int, tags: Tags) -> None:
    """Put the values of an entry into the tags, where they are of use and lie in the file."""
    tag, kind, count = struct.unpack_from(form, tiff, entry)
    unit = int(_INTEGERS[kind][1]) if kind in _INTEGERS else {_BYTES: 1, _RATIONAL: 8}.get(kind, 0)
    if tag not in _WANTED or tag in tags or not unit or count > _MOST_VALUES:
        return
    start = entry + 4 + size
    if count * unit > size:
        (start,) = struct.unpack_from(form[0] + form[-1], tiff, start)
    content = tiff[start:start + count * unit]
    if len(content) < count * unit:
        return
    if kind in _INTEGERS:
        tags[tag] = np.frombuffer(content, form[0] + _INTEGERS[kind]).astype(np.uint64)
    else:
        tags[tag] = content if kind == _BYTES else np.frombuffer(content, form[0] + "u4").astype(np.uint64)


_LONGS = {Tag.WIDTH, Tag.LENGTH, Tag.STRIP_OFFSETS, Tag.ROWS_PER_STRIP, Tag.STRIP_SIZES, Tag.TILE_WIDTH,
          Tag.TILE_LENGTH, Tag.TILE_OFFSETS, Tag.TILE_SIZES, Tag.T4_OPTIONS, Tag.T6_OPTIONS}
_RATIONALS = {Tag.COEFFICIENTS, Tag.REFERENCE}


def with_directory(tiff: bytes, tags: Tags, *, big_endian: bool) -> bytes:
    """A file with the bytes of another one at the same places, but for the head, and one directory of these tags."""
    order = ">" if big_endian else "<"
    start = len(tiff) + len(tiff) % 2
    outside = start + 2 + 12 * len(tags) + 4
    entries, values = [], b""
    for tag, content in sorted(tags.items()):
        kind, unit = (_BYTES, 1) if isinstance(content, bytes) else (4, 4) if tag in _LONGS else (3, 2)
        count, form = len(content), "u4" if tag in _LONGS or tag in _RATIONALS else "u2"
        if tag in _RATIONALS:
            kind, count, unit = _RATIONAL, count // 2, 8
        packed = content if isinstance(content, bytes) else content.astype(order + form).tobytes()
        if count * unit > 4:
            place = struct.pack(order + "I", outside + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries.append(struct.pack(order + "HHI", tag, kind, count) + place)
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", start)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return b"".join([head, memoryview(tiff)[8:], bytes(len(tiff) % 2), directory, values])
