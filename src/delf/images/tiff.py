"""TIFF: of its many kinds those that are known to come out right; a sentence for the others.

Pillow takes some kinds for others without a word (unsigned for signed, planes, big-endian samples that are
compressed), and the first page although it may be a thumbnail. So the directory is read here. The samples are then
decoded by Pillow from a directory that is written anew and says only what is needed: single channels as greys without
a sign, which get their meaning (sign, palette, white or black zero, planes) here, and joined channels in the few
layouts that tests hold to be right.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from delf.errors import ImageError
from delf.images.pixels import eight_bit
from delf.images.tiff_directory import HEADS, Tag, Tags, directories, is_reduced, number, numbers, with_directory

_RAW, _LZW, _JPEG, _PACKBITS = 1, 5, 7, 32773
_FAX = frozenset({2, 3, 4})
_PREDICTABLE = frozenset({_LZW, 8, 32946, 34925, 50000})  # and Deflate, LZMA, Zstandard
_COMPRESSIONS = _PREDICTABLE | _FAX | {_RAW, _JPEG, _PACKBITS}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_IN_JPEG = frozenset({_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR})
_CAMERA_RAW = frozenset({32803, 34892})  # photometric: colour filter array, linear raw
_ASSOCIATED, _STRAIGHT = 1, 2
_LARGE_TILE = 1 << 24  # pixels
# What is read of a single channel, and of channels that are stored pixel by pixel: bits, and format.
_SINGLE = ({(bits, _UNSIGNED) for bits in (1, 2, 4, 8, 12, 16, 32)}
           | {(8, _SIGNED), (16, _SIGNED), (32, _SIGNED), (32, _FLOAT)})
# By photometric interpretation and bits: how many further channels there may be, and what the first may be.
_JOINED = {
    (_BLACK_IS_ZERO, 8): (1, {0, _ASSOCIATED, _STRAIGHT}),
    (_RGB, 8): (3, {0, _ASSOCIATED, _STRAIGHT}),
    (_RGB, 16): (1, {0, _ASSOCIATED, _STRAIGHT}),
    (_CMYK, 8): (2, {0}),
    (_CMYK, 16): (0, {0}),
    (_YCBCR, 8): (0, {0}),
    (_LAB, 8): (0, {0}),
}
_KEPT = (Tag.WIDTH, Tag.LENGTH, Tag.COMPRESSION, Tag.FILL_ORDER, Tag.T4_OPTIONS, Tag.T6_OPTIONS, Tag.PREDICTOR,
         Tag.TILE_WIDTH, Tag.TILE_LENGTH, Tag.JPEG_TABLES, Tag.COEFFICIENTS, Tag.SUBSAMPLING, Tag.POSITIONING,
         Tag.REFERENCE)


@dataclass(frozen=True)
class _Kind:
    """What the directory of a page says of its samples. channels: with those that are no colours."""

    width: int
    height: int
    photometric: int
    bits: int
    form: int
    channels: int
    extra: tuple[int, ...]
    separate: bool
    compression: int
    predictor: int
    tile: tuple[int, int]
    tiled: bool

    @classmethod
    def of(cls, tags: Tags) -> _Kind:
        width, height = number(tags, Tag.WIDTH, 0), number(tags, Tag.LENGTH, 0)
        channels = number(tags, Tag.SAMPLES, 1)
        rows = min(number(tags, Tag.ROWS_PER_STRIP, height), height)
        tiled = Tag.TILE_OFFSETS in tags
        tile = (number(tags, Tag.TILE_WIDTH, 0), number(tags, Tag.TILE_LENGTH, 0)) if tiled else (width, rows)
        return cls(width, height, number(tags, Tag.PHOTOMETRIC, -1), _common(tags, Tag.BITS, channels),
                   _common(tags, Tag.SAMPLE_FORMAT, channels), channels,
                   tuple(map(int, numbers(tags, Tag.EXTRA_SAMPLES))),
                   channels > 1 and number(tags, Tag.PLANAR, 1) == 2, number(tags, Tag.COMPRESSION, _RAW),
                   number(tags, Tag.PREDICTOR, 1), tile, tiled)

    @property
    def colours(self) -> int:
        """How many channels are colours."""
        return _CHANNELS.get(self.photometric, 0)

    @property
    def is_single(self) -> bool:
        """Whether each channel lies for itself."""
        return self.channels == 1 or self.separate

    @property
    def parts(self) -> int:
        """The number of strips or tiles of the picture, or of each channel of it."""
        return -(-self.width // self.tile[0]) * -(-self.height // self.tile[1])

    @property
    def bytes_of_part(self) -> int:
        """The size of a whole strip or tile before compression."""
        return -(-self.tile[0] * self.bits * (1 if self.is_single else self.channels) // 8) * self.tile[1]


def _common(tags: Tags, tag: Tag, channels: int) -> int:
    """The value that a tag has for all channels; 0 where they differ."""
    values = set(map(int, numbers(tags, tag)[:min(channels, 64)])) or {1}
    return values.pop() if len(values) == 1 else 0


def _problem(kind: _Kind, tags: Tags, big_endian: bool) -> str:
    """Why a kind is not read; nothing where it is."""
    if min(kind.width, kind.height, *kind.tile) < 1:
        return "does not say how large it is"
    if kind.tile[0] * kind.tile[1] > max(_LARGE_TILE, 4 * kind.width * kind.height):
        return "has tiles that are much larger than itself"
    if kind.colours == 0:
        return ("does not say what its samples mean" if kind.photometric < 0
                else f"has colours of a rare kind (photometric interpretation {kind.photometric})")
    if (kind.bits, kind.form) not in _SINGLE or number(tags, Tag.IMAGE_DEPTH, 1) != 1:
        return f"has samples of a rare kind ({kind.bits} bits, format {kind.form})"
    if kind.channels != kind.colours + len(kind.extra) or kind.channels > 64:
        return f"does not say what its {kind.channels} channels are"
    return (_compression_problem(kind, tags, big_endian) or _colour_problem(kind, tags)
            or _place_problem(kind, tags))


def _compression_problem(kind: _Kind, tags: Tags, big_endian: bool) -> str:
    if kind.compression not in _COMPRESSIONS:
        return f"is compressed in a rare way ({kind.compression})"
    if ((kind.compression in _FAX and (kind.bits, kind.channels) != (1, 1))
            or (kind.compression == _JPEG and ((kind.bits, kind.form) != (8, _UNSIGNED) or kind.extra
                                               or kind.photometric not in _IN_JPEG))
            or (kind.photometric == _YCBCR and (kind.compression != _JPEG or kind.separate))):
        return f"has samples of {kind.bits} bits in a compression ({kind.compression}) that is rare for them"
    if not _predictor_is_read(kind, big_endian):
        return f"predicts its samples in a rare way ({kind.predictor})"
    if number(tags, Tag.FILL_ORDER, 1) != 1 and (kind.bits != 1 or kind.compression not in _FAX | {_RAW}):
        return "has its bits in a rare order"
    return ""


def _predictor_is_read(kind: _Kind, big_endian: bool) -> bool:
    if kind.predictor == 1:
        return True
    if kind.compression not in _PREDICTABLE:  # some decoders ignore the prediction then
        return False
    if kind.predictor == 3:
        return kind.form == _FLOAT
    return kind.predictor == 2 and (kind.bits in (8, 16) or (kind.bits == 32 and not big_endian))


def _colour_problem(kind: _Kind, tags: Tags) -> str:
    alpha = kind.extra[:1] in ((_ASSOCIATED,), (_STRAIGHT,))
    if any(kind.extra[1:]) or max(kind.extra, default=0) > _STRAIGHT or (
            alpha and (kind.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
                       or kind.bits not in (8, 16) or kind.form != _UNSIGNED)):
        return "has transparency of a rare kind"
    if kind.photometric == _PALETTE and (kind.channels != 1 or kind.bits > 8 or kind.form != _UNSIGNED
                                         or len(numbers(tags, Tag.COLOUR_MAP)) != 3 << kind.bits):
        return "has a palette of a rare kind"
    if kind.photometric in (_CMYK, _LAB) and (number(tags, Tag.INK_SET, 1) != 1 or kind.form != _UNSIGNED
                                              or kind.bits not in ((8, 16) if kind.photometric == _CMYK else (8,))):
        return "has colours of a rare kind"
    if not kind.is_single:
        most, first = _JOINED.get((kind.photometric, kind.bits), (-1, set[int]()))
        if len(kind.extra) > most or not first.issuperset(kind.extra[:1]) or kind.form != _UNSIGNED:
            return f"has {kind.channels} channels of {kind.bits} bits in a layout of a rare kind"
    return ""


def _place_problem(kind: _Kind, tags: Tags) -> str:
    offsets, sizes = (numbers(tags, tag) for tag in _places(kind))
    needed = kind.parts * (kind.channels if kind.separate else 1)
    if len(offsets) < needed or (len(sizes) < needed and kind.compression != _RAW):
        return "does not say where its samples are"
    if kind.compression == _RAW and len(sizes) >= needed:
        last = kind.bytes_of_part // kind.tile[1] * ((kind.height - 1) % kind.tile[1] + 1)
        if int(sizes[:needed].min()) < (kind.bytes_of_part if kind.tiled else last):
            return "is cut short"
    return ""


def _places(kind: _Kind) -> tuple[Tag, Tag]:
    return (Tag.TILE_OFFSETS, Tag.TILE_SIZES) if kind.tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_SIZES)


def is_camera_raw(data: bytes) -> bool:
    """Whether a file is a RAW file of a camera in the form of TIFF."""
    if data[:4] not in HEADS:
        return False
    pages = [tags for _, tags in directories(data)]
    chosen = next((tags for tags in pages if not is_reduced(tags)), pages[0] if pages else {})
    return (Tag.DNG_VERSION in chosen or data[8:10] == b"CR"
            or number(chosen, Tag.PHOTOMETRIC, 0) in _CAMERA_RAW
            or (is_reduced(chosen) and Tag.SUB_DIRECTORIES in chosen))


def tiff_exif(data: bytes) -> Image.Exif | None:
    """The first directory of a TIFF file; None for other files."""
    first = next(directories(data), None) if data[:4] in HEADS else None
    return None if first is None else _exif_at(data, first[0])


def _exif_at(data: bytes, place: int) -> Image.Exif:
    exif = Image.Exif()
    exif.endian, exif.bigtiff = ">" if data[:1] == b"M" else "<", b"+" in data[2:4]
    with suppress(Exception):  # as of other damaged EXIF; Pillow 13 fails at big-endian BigTIFF, too
        exif.load_from_fp(io.BytesIO(data), place)
    return exif


class TiffPage:
    """The first page of a TIFF file that is not a thumbnail; `read` decodes it."""

    def __init__(self, data: bytes, name: str) -> None:
        """Read the directory. Raises `ImageError` where it is damaged or of a kind that is not read."""
        self._data = data
        self._big_endian = data[:1] == b"M"
        first = next(directories(data), None)
        if first is None:
            raise ImageError(f"{name} is a TIFF file whose directory is damaged: copy it again from where it came "
                             "from.")
        self._first, tags = first
        self._tags = next((tags for _, tags in directories(data) if not is_reduced(tags)), tags)
        self._kind = _Kind.of(self._tags)
        problem = _problem(self._kind, self._tags, self._big_endian)
        if problem:
            raise ImageError(f"{name} is a TIFF file that {problem}, so that its colours could come out wrong: save "
                             "it as JPEG, PNG or plain TIFF in an image editor.")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self._kind.width, self._kind.height

    @property
    def orientation(self) -> int:
        """As in EXIF, 1 to 8."""
        value = number(self._tags, Tag.ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1

    @cached_property
    def exif(self) -> Image.Exif:
        """The first directory, to which EXIF and the position belong."""
        return _exif_at(self._data, self._first)

    def read(self) -> Image.Image:
        """The picture as it is stored, in a mode of Pillow with 8 bits a channel."""
        return self._joined() if self._kind.is_single else self._decoded(0, self._kind.photometric)

    def _joined(self) -> Image.Image:
        """Channels that lie each for itself as a picture, by what they mean."""
        kind = self._kind
        channels = [self._channel(plane) for plane in range(kind.colours)]
        if channels[0].dtype.kind == "u" and kind.bits <= 16:  # the others have one scale for all of them
            channels = [eight_bit(channel) for channel in channels]
        colours = eight_bit(np.stack(channels, axis=2))
        if kind.photometric == _PALETTE:
            colours = self._palette()[colours[:, :, 0]]
        elif kind.photometric == _WHITE_IS_ZERO:
            colours = 255 - colours
        elif kind.photometric == _LAB:
            colours ^= np.array([0, 128, 128], np.uint8)  # a and b have signs, for which Pillow shifts them
        bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(colours, 2, 0)]
        alpha = kind.extra[0] if kind.extra else 0
        if alpha:
            bands = bands * (3 // len(bands)) + [Image.fromarray(eight_bit(self._channel(kind.colours)))]
        elif len(bands) == 1:
            return bands[0]
        mode = {_ASSOCIATED: "RGBa", _STRAIGHT: "RGBA"}.get(alpha, {_CMYK: "CMYK", _LAB: "LAB"}.get(kind.photometric))
        return Image.merge(mode or "RGB", bands)

    def _palette(self) -> NDArray[np.uint8]:
        colours = numbers(self._tags, Tag.COLOUR_MAP).reshape(3, -1).T
        is_short = colours.max() < 256  # written with 8 bits, against the standard
        return np.ascontiguousarray(colours if is_short else colours >> np.uint64(8)).astype(np.uint8)

    def _channel(self, plane: int) -> NDArray[Any]:
        """A channel in its own type; up to 8 bits as uint8, scaled to 255 where it is no index."""
        kind = self._kind
        image = self._decoded(plane, _BLACK_IS_ZERO)
        samples: NDArray[Any] = np.array(image.convert("L") if kind.bits == 1 else image)
        if kind.bits < 8:  # which Pillow scales
            return samples // np.uint8(255 // ((1 << kind.bits) - 1)) if kind.photometric == _PALETTE else samples
        if kind.bits == 12:
            return samples << 4
        swapped = self._big_endian and kind.bits == 32 and kind.predictor == 1
        order = ">" if swapped else samples.dtype.byteorder
        return samples.view(f"{order}{' uif'[kind.form]}{kind.bits // 8}")

    def _decoded(self, plane: int, photometric: int) -> Image.Image:
        """The picture, or a channel of it, decoded by Pillow."""
        kind = self._kind
        channels = 1 if kind.is_single else kind.channels
        tags: Tags = {tag: self._tags[tag] for tag in _KEPT if tag in self._tags}
        for tag, values in ((Tag.PHOTOMETRIC, [photometric]), (Tag.SAMPLES, [channels]),
                            (Tag.BITS, [kind.bits] * channels),
                            (Tag.SAMPLE_FORMAT, [_FLOAT if kind.form == _FLOAT else _UNSIGNED] * channels),
                            (Tag.EXTRA_SAMPLES, [] if kind.is_single else kind.extra),
                            (Tag.ROWS_PER_STRIP, [] if kind.tiled else kind.tile[1:])):
            if len(values):
                tags[tag] = np.array(values, np.uint64)
        for tag in _places(kind):
            if tag in self._tags:
                tags[tag] = numbers(self._tags, tag)[plane * kind.parts:(plane + 1) * kind.parts]
        # Pillow 13 swaps the bytes of compressed big-endian samples of 32 bits twice, so that only those of 16 bits,
        # which it minds, are said to be big-endian. (The prediction of floats has an order of its own.)
        file = with_directory(self._data, tags, big_endian=self._big_endian and kind.bits == 16)
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(file), "")
        image.load()
        return image
