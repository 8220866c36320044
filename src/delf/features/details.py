"""Details: RootSIFT features of an image, kept beside those of a network.

The network's features know what a thing is, and forget how fine print looks, or a thing that lies turned. RootSIFT is
the other way round. So a few hundred of its features verify what the network's have found, and find it at any angle.
"""

from __future__ import annotations

import math

import numpy as np

from delf.features.rootsift import RootSift, RootSiftOptions, root_sift
from delf.images import limit_size, resize
from delf.types import Features, ImageArray

LONGEST_SIDE = 1024  # pixels; finer details than those are not looked at


def find_details(image: ImageArray, most: int) -> tuple[RootSift, tuple[int, int]]:
    """The strongest details of an (H, W, 3) uint8 RGB image, and the (width, height) in whose pixels they lie."""
    height, width = image.shape[:2]
    size = limit_size(width, height, LONGEST_SIDE)
    return root_sift(resize(image, size), RootSiftOptions(max_features=most)), size


def place_details(found: RootSift, size: tuple[int, int], image_size: tuple[int, int]) -> Features:
    """What `find_details` gave, in pixels of the upright original, (width, height) `image_size`."""
    factors = np.array(image_size) / size
    return Features(keypoints=((found.keypoints + 0.5) * factors - 0.5).astype(np.float32),
                    scales=(found.scales * math.sqrt(factors.prod())).astype(np.float32), scores=found.strengths,
                    descriptors=found.descriptors, image_size=image_size)
