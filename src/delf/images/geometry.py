"""Boxes, crops and sizes. The one place where the package resizes images."""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import Box, FloatArray, ImageArray, IntArray

_Samples = TypeVar("_Samples", np.uint8, np.float32)


def parse_box(text: str) -> Box:
    """The box that `"x1,y1,x2,y2"` means, in pixels. Raises `OptionError` where it means none."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"A box is four numbers x1,y1,x2,y2 in pixels, such as 10,20,300,400, "
                          f"not {text!r}.") from error
    return _checked((x1, y1, x2, y2))


def crop(image: ImageArray, box: Box) -> tuple[ImageArray, tuple[int, int]]:
    """The part of an image inside `box`, and where it begins.

    image: (H, W, 3). box: (x1, y1, x2, y2) with (0, 0, W, H) being the whole picture; it is clipped to the
    picture, and its sides are rounded to whole pixels, halves to even, as `PIL.Image.crop` does, so that the
    queries of Oxford and Paris are cropped as the revisited benchmark (Radenovic et al. 2018) crops them.

    Returns ((h, w, 3) contiguous, (x, y)): adding the offset (x, y) to a point of the crop gives the point of
    the image. Raises `OptionError` for a box that is inverted, not finite, outside the picture, or less than
    a pixel.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = _checked(box)
    left, right = (round(min(max(x, 0), width)) for x in (x1, x2))
    top, bottom = (round(min(max(y, 0), height)) for y in (y1, y2))
    if left == right or top == bottom:
        raise OptionError(f"The box {_text(box)} has no pixel in common with the picture of "
                          f"{width} x {height} pixels: give a box inside it.")
    return np.ascontiguousarray(image[top:bottom, left:right]), (left, top)


def _checked(box: Box) -> Box:
    try:
        x1, y1, x2, y2 = (float(side) for side in box)
    except (TypeError, ValueError) as error:
        raise OptionError(f"A box is four numbers (x1, y1, x2, y2) in pixels, not {box!r}.") from error
    if not all(math.isfinite(side) for side in (x1, y1, x2, y2)):
        raise OptionError(f"The sides of a box must be finite numbers, not {_text(box)}.")
    if x1 >= x2 or y1 >= y2:
        raise OptionError(f"The box {_text(box)} has no area: x1,y1 is its upper left and x2,y2 its "
                          "lower right corner.")
    return x1, y1, x2, y2


def _text(box: Box) -> str:
    return ",".join(f"{side:g}" for side in box)


def limit_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side brought down to `max_side`, in proportion, at least one pixel
    each.

    A picture that is smaller keeps its size. Raises `OptionError` where `max_side` is below 1.
    """
    if max_side < 1:
        raise OptionError(f"The longest side of an image must be at least 1 pixel, not {max_side}.")
    longest = max(width, height)
    if longest <= max_side:
        return width, height
    return max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest))


def resize(image: NDArray[_Samples], size: tuple[int, int], how: str = "antialiased") -> NDArray[_Samples]:
    """An image of another size: averaged over areas when it shrinks on both axes, else bilinear.

    image: (H, W, 3) uint8 or float32. size: (width, height). Returns (height, width, 3) of the same dtype,
    the image itself where it has that size. Pixels are squares with their value at the centre (half-pixel
    centres, as in OpenCV, Pillow and TensorFlow 2): x in the result shows x' = (x + 0.5) W / width - 0.5 of
    the image. uint8 rounds to whole grey levels; resize a float32 image where that matters. Raises
    `OptionError` for a size below 1.

    how: "antialiased", as above. What others do, for models that come from there: "pillow", the antialiased bilinear
    one of Pillow, of a uint8 image; "bilinear", that of TensorFlow 2 and torch, of a float32 image: as above, but
    between the two nearest pixels even where it shrinks; "tensorflow", that of TensorFlow 1: the same, and x shows
    x' = x W / width.
    """
    height, width = image.shape[:2]
    if min(size) < 1:
        raise OptionError(f"An image cannot be resized to {size[0]} x {size[1]} pixels: both must be "
                          "at least 1.")
    if (width, height) == tuple(size):
        return image
    if how == "tensorflow":
        return cast(NDArray[_Samples], _resize_as_tensorflow(image, size))
    if how == "pillow":
        from PIL import Image

        return cast(NDArray[_Samples], np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))
    import cv2  # here, for cv2 takes longer to load than all else that this package needs

    shrinks = size[0] <= width and size[1] <= height and how != "bilinear"
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cast(NDArray[_Samples], resized)


def _resize_as_tensorflow(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """`tf.compat.v1.image.resize_bilinear` (align_corners and half_pixel_centers False), to the last digit."""
    lower, upper, share = _between(image.shape[1], size[0])
    rows = image[:, lower] + (image[:, upper] - image[:, lower]) * share[None, :, None]
    lower, upper, share = _between(image.shape[0], size[1])
    return rows[lower] + (rows[upper] - rows[lower]) * share[:, None, None]


def _between(length: int, wanted: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Between which two pixels each of the wanted ones lies, and the share of the second; in single precision."""
    places = np.arange(wanted, dtype=np.float32) * (np.float32(length) / np.float32(wanted))
    lower = np.minimum(np.floor(places).astype(np.int64), length - 1)
    return lower, np.minimum(lower + 1, length - 1), places - lower.astype(np.float32)


def as_stored(points: FloatArray, size: tuple[int, int], orientation: int) -> tuple[FloatArray, tuple[int, int]]:
    """Where points of an upright photo lie in the photo as it is stored, for programs that do not turn photos.

    points: (N, 2) float32 (x, y), (0, 0) the centre of the first pixel. size: (width, height), upright. orientation: 1
    to 8, as in EXIF: what is to be done with the stored photo to have it upright. Returns (N, 2) float32, and (width,
    height) as stored.
    """
    x, y = points[:, 0], points[:, 1]
    left, up = size[0] - 1 - x, size[1] - 1 - y
    stored = {1: (x, y), 2: (left, y), 3: (left, up), 4: (x, up), 5: (y, x), 6: (y, left), 7: (up, left), 8: (up, x)}
    return (np.column_stack(stored[orientation]).astype(np.float32),
            size if orientation <= 4 else (size[1], size[0]))
