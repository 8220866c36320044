"""Pictures that show nothing: a lens cap, a blank page, the sky, gradients. They are no match for anything."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delf.types import ImageArray

SIZES = ((640, 480), (448, 336), (300, 400), (1024, 683))
COLOURS = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (40, 90, 200), (200, 30, 40), (250, 248, 240))


def blank_pictures(seed: int = 0) -> Iterator[tuple[str, ImageArray]]:
    """Names and (H, W, 3) uint8 pictures: plain, shaded in several ways, with a little noise, and saved as JPEG."""
    rng = np.random.default_rng(seed)
    for number, colour in enumerate(COLOURS):
        size = SIZES[number % len(SIZES)]
        plain = np.full((size[1], size[0], 3), colour, np.float64)
        yield f"plain {colour}", _bytes(plain)
        for name, light in _lights(size).items():
            shaded = plain * (1 - light[..., None]) + (255 - plain) * light[..., None] * 0.7
            yield f"{name} {colour}", _bytes(shaded)
            yield f"{name} {colour}, JPEG", compressed(_bytes(shaded), int(rng.integers(30, 95)))
        noise = rng.normal(0, rng.uniform(1, 4), plain.shape)
        yield f"noise {colour}", _bytes(plain + noise)
        yield f"noise {colour}, JPEG", compressed(_bytes(plain + noise), int(rng.integers(50, 95)))


def compressed(pixels: ImageArray, quality: int) -> ImageArray:
    """A picture saved as JPEG and read again."""
    saved = io.BytesIO()
    Image.fromarray(pixels).save(saved, "JPEG", quality=quality)
    return np.asarray(Image.open(saved), np.uint8)


def _lights(size: tuple[int, int]) -> dict[str, NDArray[np.float64]]:
    """(H, W) from 0 to 1: how much lighter or darker a picture is from place to place."""
    x, y = (np.linspace(-1, 1, side) for side in size)
    across, down = np.meshgrid(x, y)
    radius = np.hypot(across, down) / np.sqrt(2)
    return {"across": (across + 1) / 2, "down": (down + 1) / 2, "aslant": (across + down + 2) / 4,
            "round": radius, "vignette": 0.4 * radius**4, "spot": np.exp(-2 * radius**2)}


def _bytes(values: NDArray[np.float64]) -> ImageArray:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)
