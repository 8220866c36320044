"""Features of an image as it looks turned: for queries that were taken at another angle."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.extractors import Extractor
from delf.features.extractor import LONGEST_SIDE
from delf.images import limit_size, resize
from delf.types import Features, ImageArray

SPARE = 3  # times as many features as are asked for, since some lie in what is mirrored


def extract_turned(extractor: Extractor, image: ImageArray, size: tuple[int, int], degrees: float, *,
                   whole: bool = True, longest_side: int | None = None, most: int | None = None) -> Features:
    """The features of an image that is turned left by an angle, as features of the image that is not.

    Beyond its borders the image goes on mirrored, as in training; features that lie there are left out.

    Args:
        image: (H, W, 3) uint8 RGB, maybe a reduced copy. size: (width, height) of the original. whole: look at all of
            it; else the corners that are turned out of a canvas of its own size are left out, which takes half of the
            time at an eighth turn. longest_side: in pixels, to which a larger image is reduced first; by default that
            of the extractor's largest level. most: features that are wanted, where that is fewer than the extractor
            keeps; there may be fewer of them.

    Returns:
        keypoints are where they are in the original; only what is seen there was seen at another angle. There are no
        details, which are the same at any angle.
    """
    longest_side = min(longest_side or extractor.longest_side or LONGEST_SIDE, LONGEST_SIDE)
    image = resize(image, limit_size(image.shape[1], image.shape[0], longest_side))
    height, width = image.shape[:2]
    turn, canvas = _turn(width, height, degrees, whole or not degrees % 90)
    turned = cv2.warpAffine(image, turn, canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    all_of_them, wanted = extractor.max_features, most
    if all_of_them is not None:
        wanted = min(most or all_of_them, all_of_them)
        spare = math.ceil(all_of_them * canvas[0] * canvas[1] / (width * height))  # as many as the image may have
        extractor = extractor.keeping(min(spare, SPARE * wanted) if wanted < all_of_them else spare)
    found = extractor.extract(np.asarray(turned, np.uint8))
    places = (found.keypoints - turn[:, 2]) @ turn[:, :2]  # the inverse of a turn is its transpose
    borders = np.array([width, height]) - 0.5
    kept = np.flatnonzero(((places >= -0.5) & (places <= borders)).all(axis=1))[:wanted]
    factors = np.array(size) / (width, height)
    return Features(((places[kept] + 0.5) * factors - 0.5).astype(np.float32),
                    (found.scales[kept] * math.sqrt(factors.prod())).astype(np.float32), found.scores[kept],
                    found.descriptors[kept], size, found.global_descriptor)


def _turn(width: int, height: int, degrees: float, whole: bool) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """The (2, 3) transform of an image that is turned left about its middle, and (width, height) of what it fills, or
    of the image itself where that is not `whole`.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])  # y grows downwards
    canvas = np.rint(np.abs(turn) @ (width, height)).astype(int) if whole else np.array([width, height])
    shift = (canvas - 1) / 2 - turn @ ((width - 1) / 2, (height - 1) / 2)
    return np.column_stack([turn, shift]), (int(canvas[0]), int(canvas[1]))
