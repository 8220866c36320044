"""The pyramid of a photo: how large its levels are, how they are made, and where their cells lie in the photo.

There is one pyramid, with three conventions, of which a model says which it was trained with (`ModelConfig.resize`):

- "antialiased": a level is made of the photo itself, with half-pixel centres. Pixel p of it covers the photo around
  (p + 0.5) * factor - 0.5, and scales are those of the level's sides to the photo's.
- "tensorflow", as the reference does (`research/delf` of tensorflow/models): the photo is first brought within the
  limits of its size by Pillow, to 8 bits; a level is made of that with TensorFlow's bilinear resize, without
  antialiasing or half-pixel centres. Pixel p lies at p / s, where s is the scale that was asked for, divided by how
  much the photo was resized at first; the scale of a feature is 1 / s. Patches overlap where they lie before that
  division.
- "bilinear", of the later reference in TensorFlow 2, and of models in torch: as "tensorflow", but the resize of a level
  has half-pixel centres, which that reference leaves aside where it says where features lie.

Cell i of a level is centred on its pixel `stride * i` in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.images import limit_size, resize
from delf.models.receptive_field import ReceptiveField
from delf.types import FloatArray, ImageArray, IntArray

SMALLEST_SIDE = 10  # pixels; the reference finds nothing in a smaller image

Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class Pyramid:
    """What a model and the options of extraction make of a photo.

    convention: as `ModelConfig.resize`. field: of a cell. scales, most, least: `scales`, `max_image_size` and
    `min_image_size` of the options.
    """

    convention: str
    field: ReceptiveField
    scales: tuple[float, ...]
    most: int | None
    least: int | None

    @property
    def as_reference(self) -> bool:
        """Whether it is as the reference has it, and not as delf does by itself."""
        return self.convention != "antialiased"

    @property
    def patch_side(self) -> int:
        """The side of a cell's patch, in pixels of its level: the reference counts from pixel to pixel."""
        return self.field.size - 1 if self.as_reference else self.field.size

    def base_size(self, width: int, height: int) -> Size:
        """The size of a photo within the limits of its longest side."""
        longest = max(width, height)
        if self.most is not None and longest > self.most:
            limit = self.most
            if not self.as_reference:
                return limit_size(width, height, limit)
        elif self.least is not None and longest < self.least:
            limit = self.least
        else:
            return width, height
        if self.as_reference:
            factor = limit / longest
            return round(width * factor), round(height * factor)
        return round(width * limit / longest), round(height * limit / longest)

    def level_sizes(self, width: int, height: int) -> list[Size]:
        """The size of each level, in the order of the scales; none for a photo that is too small."""
        width, height = self.base_size(width, height)
        if min(width, height) < SMALLEST_SIDE:
            return []
        if self.as_reference:
            sides = np.array([[width, height]], np.float32) * np.array(self.scales, np.float32)[:, None]
            return [(max(1, int(across)), max(1, int(down))) for across, down in np.rint(sides)]
        return [(max(1, round(width * scale)), max(1, round(height * scale))) for scale in self.scales]

    def base(self, image: ImageArray) -> ImageArray:
        """What the levels of a photo are made of."""
        if self.as_reference:
            size = self.base_size(image.shape[1], image.shape[0])
            return resize(image, size, "pillow") if min(size) >= SMALLEST_SIDE else image
        return image

    def level(self, base: ImageArray, size: Size) -> ImageArray | FloatArray:
        """A level of a photo: (height, width, 3), of whole or broken numbers from 0 to 255."""
        if self.as_reference:
            return resize(base.astype(np.float32), size, self.convention)
        return resize(base, size)

    def place(self, cells: IntArray, number: int, size: Size, photo: Size) -> tuple[FloatArray, FloatArray]:
        """(N, 2) cells (column, row) of a level -> their (N, 2) centres and (N,) scales, as patches overlap.

        Args:
            number: of the level. size: of the level. photo: of the original.
        """
        if self.as_reference:
            scale = np.float32(1) / np.float32(self.scales[number])
            centres = cells * self.field.stride / np.float64(np.float32(self.scales[number]))
        else:
            factor = np.array([photo[0] / size[0], photo[1] / size[1]])
            scale = np.float32(np.sqrt(factor.prod()))
            centres = (cells * self.field.stride + 0.5) * factor - 0.5
        return centres.astype(np.float32), np.full(len(cells), scale, np.float32)

    def in_photo(self, centres: FloatArray, image: Size, photo: Size) -> FloatArray:
        """(N, 2) centres from `place` -> where they are in the original.

        Args:
            image: the size of the pixels that were given. photo: of the original, of which they may be a reduced copy.
        """
        if self.as_reference:
            return (centres / (np.array(self.base_size(*image)) / photo)).astype(np.float32)
        return centres

    def among_cells(self, length: int, level_length: int, cells: int) -> NDArray[np.float64]:
        """(length,) where each pixel of one axis of a photo lies among the cells of a level."""
        shift = 0.0 if self.as_reference else 0.5
        pixels = (np.arange(length) + shift) * level_length / length - shift
        return np.clip(pixels / self.field.stride, 0, cells - 1)
