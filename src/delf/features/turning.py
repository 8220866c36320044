"""Features of an image as it looks turned by quarters: for queries that were taken at another angle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from delf.features.extractor import Delf
from delf.types import Features, ImageArray


def extract_turned(extractor: Delf, image: ImageArray, size: tuple[int, int], quarters: int) -> Features:
    """The features of an image that is turned left by so many quarters, as features of the image that is not.

    Args:
        image: (H, W, 3) uint8 RGB, maybe a reduced copy. size: (width, height) of the original.

    Returns:
        keypoints are where they are in the original; only what is seen there was seen at another angle.
    """
    width, height = size
    turned_size = size if quarters % 2 == 0 else (height, width)
    found = extractor.extract(np.ascontiguousarray(np.rot90(image, quarters)), image_size=turned_size)
    x, y = found.keypoints.T
    places = {0: (x, y), 1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
    return replace(found, keypoints=np.stack(places[quarters % 4], axis=1).astype(np.float32), image_size=size)
