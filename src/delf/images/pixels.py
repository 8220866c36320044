"""Pictures of Pillow and samples of any type as 8-bit RGB.

- Transparency is laid over white, as a viewer would show it. CMYK and YCCK (inverted, as Adobe writes it) and
  L*a*b* become RGB.
- 16-bit samples keep their high byte. Floats from 0 to 1 are multiplied by 255; any other floats, signed integers
  and 32-bit integers have no agreed white, so they are stretched from their smallest to their largest value (NaN
  is black).
- Embedded colour profiles, gammas and curves are ignored, as in the pipelines that published DELF models were
  trained with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from delf.types import ImageArray

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image, orientation: int) -> ImageArray:
    """The pixels of a Pillow image: (H, W, 3) uint8 RGB, contiguous, turned by an EXIF orientation."""
    image.load()
    rgb = _rgb(image)
    turn = _TURNS.get(orientation)
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_deep_grey(image)).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":  # from which Pillow converts to nothing else
        image = image.convert("LA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _deep_grey(image: Image.Image) -> ImageArray:
    """The 8-bit form of a grey picture with more than 8 bits."""
    samples = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # of a TIFF that the caller opened with Pillow
    if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        samples = samples << 4
    grey = eight_bit(samples)
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # the grey that stands for "nothing here"
        grey = np.where(samples == clear, np.uint8(255), grey)
    zero_is_white = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return 255 - grey if zero_is_white else grey


def eight_bit(samples: NDArray[Any]) -> ImageArray:
    """Samples of any real type as uint8, as the head of this file says."""
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype.kind == "u" and samples.dtype.itemsize == 2:
        return (samples >> 8).astype(np.uint8)
    finite = samples[np.isfinite(samples)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if samples.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    values = np.nan_to_num(samples.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.rint((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)
