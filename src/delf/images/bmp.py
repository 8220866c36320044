"""BMP: indexed and direct colours, bit masks, and run-length encoding.

Pillow takes indexed pictures with a palette of greys for others, and pictures whose alpha is unused for transparent.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delf.errors import ImageError
from delf.types import ImageArray

_RGB, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_OS2 = (12, 16, 64)
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_DEPTHS = {_RGB: (1, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _MASKS: (16, 32), _ALPHA_MASKS: (16, 32)}


class Bmp:
    """A BMP file whose header has been read; `read` decodes it.

    size: (width, height).
    """

    def __init__(self, data: bytes, name: str) -> None:
        """Read the header. Raises `ImageError` where it is damaged or of a kind that is not read."""
        self._data = data
        self._name = name
        self._compression = self._colours = 0
        try:
            self._offset, self._header = struct.unpack_from("<II", data, 10)
            width, height, _, self._bits = struct.unpack_from("<HHHH" if self._header == 12 else "<iiHH", data, 18)
            if self._header >= 40:
                self._compression, self._colours = (struct.unpack_from("<I", data, at)[0] for at in (30, 46))
        except struct.error as error:
            raise self._damaged() from error
        self._top_down = height < 0
        self.size = width, abs(height)
        is_rle = self._compression in (_RLE8, _RLE4)
        if (self._header not in _HEADERS or self._bits not in _DEPTHS.get(self._compression, ())
                or (self._header in _OS2 and self._compression > _RLE4) or (is_rle and self._top_down)):
            raise self._rare()

    def read(self) -> Image.Image:
        """The picture, top first, as RGB or RGBA."""
        if self._compression in (_RLE8, _RLE4):
            pixels = self._palette()[self._runs()]
        elif self._bits <= 8:
            pixels = self._palette()[self._indices()]
        else:
            pixels = self._direct()
        return Image.fromarray(np.ascontiguousarray(pixels if self._top_down else pixels[::-1]))

    def _damaged(self) -> ImageError:
        return ImageError(f"{self._name} is a BMP file that is cut short or damaged: copy it again from where it came "
                          "from.")

    def _rare(self) -> ImageError:
        return ImageError(f"{self._name} is a BMP file of a rare kind ({self._bits} bits, compression "
                          f"{self._compression}, header of {self._header} bytes), which is not read: save it as PNG "
                          "or JPEG in an image editor.")

    def _palette(self) -> ImageArray:
        """(2 ** bits, 3); what the file leaves out is black."""
        entry = 3 if self._header == 12 else 4
        start, count = 14 + self._header, min(self._colours or 1 << self._bits, 1 << self._bits)
        end = min(start + count * entry, len(self._data))
        if start < self._offset < end:  # fewer than it says
            end = self._offset
        stored = np.frombuffer(self._data, np.uint8, (end - start) // entry * entry, start).reshape(-1, entry)
        palette = np.zeros((1 << self._bits, 3), np.uint8)
        palette[:len(stored)] = stored[:, 2::-1]
        return palette

    def _rows(self) -> NDArray[np.uint8]:
        """(height, stride) bytes."""
        width, height = self.size
        used, stride = -(-width * self._bits // 8), -(-width * self._bits // 32) * 4
        rows = self._data[self._offset:self._offset + height * stride]
        if len(rows) < (height - 1) * stride + used:
            raise self._damaged()
        return np.frombuffer(rows.ljust(height * stride, b"\0"), np.uint8).reshape(height, stride)

    def _indices(self) -> NDArray[np.uint8]:
        rows = self._rows()
        if self._bits == 1:
            rows = np.unpackbits(rows, axis=1)
        elif self._bits == 4:
            rows = np.stack([rows >> 4, rows & 15], axis=2).reshape(len(rows), -1)
        return rows[:, :self.size[0]]

    def _direct(self) -> ImageArray:
        """(height, width, 3 or 4)."""
        width, _ = self.size
        if self._bits == 24:
            return self._rows()[:, :3 * width].reshape(-1, width, 3)[:, :, ::-1]
        words = self._rows().view(f"<u{self._bits // 8}")[:, :width]
        masks = self._masks()
        if masks[:3] == _DEFAULT_MASKS[32][:3] and self._bits == 32 and not masks[3]:
            return np.ascontiguousarray(words).view(np.uint8).reshape(-1, width, 4)[:, :, 2::-1]
        pixels = np.stack([self._channel(words, mask) for mask in masks if mask], axis=2)
        return pixels if masks[3] and pixels[:, :, 3].any() else pixels[:, :, :3]  # no alpha at all: it is unused

    def _masks(self) -> tuple[int, ...]:
        """The masks of red, green, blue and alpha, the last 0 if there is none."""
        if self._compression == _RGB:
            return _DEFAULT_MASKS[self._bits]
        with_alpha = self._header >= 56 or self._compression == _ALPHA_MASKS
        masks = (*struct.unpack_from("<III", self._data, 54), 0)
        if with_alpha and len(self._data) >= 70:
            masks = struct.unpack_from("<IIII", self._data, 54)
        if not all(masks[:3]) or max(masks) >> self._bits:
            raise self._rare()
        return masks

    def _channel(self, words: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
        shift = (mask & -mask).bit_length() - 1
        largest = mask >> shift
        if largest & (largest + 1):  # its bits do not lie side by side
            raise self._rare()
        values = (words & words.dtype.type(mask)) >> words.dtype.type(shift)
        return values.astype(np.uint8) if largest == 255 else np.rint(values * (255 / largest)).astype(np.uint8)

    def _runs(self) -> NDArray[np.uint8]:
        """The indices of a run-length encoded picture, bottom first; what is skipped is 0."""
        width, height = self.size
        indices = np.zeros((height, width), np.uint8)
        data, at, x, y = self._data, self._offset, 0, 0
        half = self._compression == _RLE4
        while at + 2 <= len(data) and y < height:
            count, value = data[at], data[at + 1]
            at += 2
            if count:
                run = np.frombuffer(bytes([value >> 4, value & 15]) * 128 if half else bytes([value]) * 256, np.uint8)
                run = run[:count]
            elif value == 0:
                x, y = 0, y + 1
                continue
            elif value == 1:
                return indices
            elif value == 2:
                x, y = x + data[at], y + data[at + 1]
                at += 2
                continue
            else:
                size = (value + 1) // 2 if half else value
                run = np.frombuffer(data[at:at + size], np.uint8)
                run = (np.stack([run >> 4, run & 15], axis=1).ravel() if half else run)[:value]
                at += size + size % 2
            run = run[:max(0, width - x)]
            indices[y, x:x + len(run)] = run
            x += len(run)
        if y < height - 1 or (y == height - 1 and x < width):
            raise self._damaged()
        return indices
