"""What people and programs put over and around photos: captions, watermarks, screens, frames.

Two photos of different places with one and the same overlay are no match, and two photos of one place remain one
whatever is around them. Probabilities are fitted with such pairs, and measured with them (`benchmarks/overlays.py`).
All is drawn here, by the seed of an overlay, in Pillow's own font.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delf.errors import OptionError
from delf.training.overlays import around, marks, signs
from delf.training.overlays.drawing import Placed
from delf.types import ImageArray

OVERLAYS: dict[str, Callable[[Image.Image, random.Random], Placed]] = {
    "caption bar": around.caption_bar,
    "caption on photo": marks.caption_on_photo,
    "tiled watermark": marks.watermark_tiled,
    "watermark in the middle": marks.watermark_centre,
    "watermark anywhere": marks.watermark_anywhere,
    "date stamp": marks.date_stamp,
    "logo": marks.logo,
    "logo anywhere": marks.logo_anywhere,
    "sign": signs.sign,
    "phone": around.phone,
    "browser": around.browser,
    "frame": around.frame,
    "scanner": around.scanner,
    "letterbox": around.letterbox,
    "polaroid": around.polaroid,
    "film": around.film,
    "news": marks.news,
    "postage stamp": around.postage,
    "post": around.post,
}
"""Each kind of overlay by its name: a photo and the random numbers of the overlay -> the new picture, and where the
photo lies in it."""
UNTUNED = ("browser", "news", "postage stamp", "post")
"""Kinds that nothing is fitted to, and that are measured apart: what people meet is not drawn here."""
TUNED = tuple(kind for kind in OVERLAYS if kind not in UNTUNED)


@dataclass(frozen=True, eq=False)
class Overlaid:
    """pixels: (H, W, 3) of the photo with its overlay. transform: (3, 3) from the pixels of the photo to those."""

    pixels: ImageArray
    transform: NDArray[np.float64]


@dataclass(frozen=True)
class Overlay:
    """One overlay, which looks the same on every photo.

    kind: a key of `OVERLAYS`. seed: of its words, sizes and colours.
    """

    kind: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in OVERLAYS:
            raise OptionError(f"The kind of an overlay must be one of {', '.join(OVERLAYS)}, not {self.kind!r}.")

    def draw(self, pixels: ImageArray) -> Overlaid:
        """An (H, W, 3) uint8 RGB photo with the overlay, saved as JPEG and read again."""
        rng = random.Random(f"{self.kind} {self.seed}")
        quality = rng.randint(70, 95)
        drawn, scale, left, top = OVERLAYS[self.kind](Image.fromarray(pixels), rng)
        saved = io.BytesIO()
        drawn.convert("RGB").save(saved, "JPEG", quality=quality)
        # Pixel centres: (p + 0.5) * scale - 0.5, as every resize with half-pixel centres has it.
        shift = (scale - 1) / 2
        return Overlaid(np.asarray(Image.open(saved), np.uint8),
                        np.array([[scale, 0, left + shift], [0, scale, top + shift], [0, 0, 1]], np.float64))
