"""Details: RootSIFT features of an image, kept beside those of a network.

The network's features know what a thing is, and forget how fine print looks, or a thing that lies turned. RootSIFT is
the other way round. So a few hundred of its features verify what the network's have found, and tell how it lies.
"""

from __future__ import annotations

from delf.features.rootsift import RootSift, RootSiftOptions, root_sift
from delf.images import limit_size, resize
from delf.types import ImageArray

LONGEST_SIDE = 1024  # pixels; finer details than those are not looked at


def find_details(image: ImageArray, most: int) -> tuple[RootSift, tuple[int, int]]:
    """The strongest details of an (H, W, 3) uint8 RGB image, and the (width, height) in whose pixels they lie."""
    size = limit_size(image.shape[1], image.shape[0], LONGEST_SIDE)
    reduced = resize(image, size) if image.size else image
    return root_sift(reduced, RootSiftOptions(max_features=int(most))), size
