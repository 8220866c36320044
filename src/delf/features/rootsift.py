"""RootSIFT: the keypoints and descriptors of Lowe (IJCV 2004), by OpenCV, and the square root of their shares
(Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import ImageError, OptionError
from delf.types import FloatArray, ImageArray

DIMENSIONS = 128
SIGMA = 1.6  # blur of the pixels of an octave, in its own pixels: OpenCV's, and Lowe's
SMALLEST_SIDE = 8  # pixels; OpenCV looks at nothing nearer than 5 pixels to a border, and takes no smaller octave
BYTES_PER_UNIT = 512.0  # as COLMAP stores them: few values are above a half, and those are cut


@dataclass(frozen=True)
class RootSiftOptions:
    """What is found.

    max_features: the strongest so many. contrast, edge: thresholds as OpenCV has them; lower contrast and higher edge
    find more.
    """

    max_features: int = 1000
    contrast: float = 0.04
    edge: float = 10.0

    def __post_init__(self) -> None:
        if type(self.max_features) is not int or self.max_features < 1:
            raise OptionError(f"max_features must be 1 or more, and a whole number, not {self.max_features!r}")
        for name in ("contrast", "edge"):
            value = getattr(self, name)
            if type(value) is bool or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise OptionError(f"{name} must be a number of 0 or more, not {value!r}")


@dataclass(frozen=True, eq=False)
class RootSift:
    """RootSIFT of one image, strongest first.

    keypoints: (N, 2) float32, (x, y) in pixels of the image that was given.
    scales: (N,) float32, pixels of the image per pixel of the octave where a feature was found, between two octaves as
        well: its blur is 1.6 times that, and the patch that is described 19 times.
    orientations: (N,) float32, degrees from 0 to 360, clockwise as the picture is looked at (y grows downwards).
    strengths: (N,) float32, the contrast of the extremum.
    descriptors: (N, 128) float32, of unit length and without negative values.
    """

    keypoints: FloatArray
    scales: FloatArray
    orientations: FloatArray
    strengths: FloatArray
    descriptors: FloatArray

    def __len__(self) -> int:
        return len(self.keypoints)


def root_sift(image: ImageArray, options: RootSiftOptions | None = None) -> RootSift:
    """The strongest RootSIFT features of an (H, W, 3) uint8 RGB or an (H, W) uint8 grey image.

    A point with two orientations counts as two features. Of equals the order is by place, so that the same image gives
    the same features in the same order. An image without any contrast gives none.

    Raises:
        ImageError: `image` is no such array.
    """
    options = options or RootSiftOptions()
    grey = _grey(image)
    if min(grey.shape) < SMALLEST_SIDE:
        return _none()
    sift = cv2.SIFT.create(nfeatures=options.max_features, contrastThreshold=options.contrast,
                           edgeThreshold=options.edge, sigma=SIGMA, enable_precise_upscale=True)
    found, raw = sift.detectAndCompute(grey, None)  # the strongest, and all that are as strong as the last of them
    if not found:
        return _none()
    points = np.array([(*one.pt, one.size, one.angle, one.response) for one in found], np.float32)
    sums = raw.sum(axis=1, dtype=np.float64)
    order = np.lexsort((points[:, 3], points[:, 2], points[:, 0], points[:, 1], -points[:, 4]))
    order = order[sums[order] > 0][: options.max_features]
    points = points[order]
    descriptors = np.sqrt(raw[order] / sums[order, None]).astype(np.float32)  # of unit length, but for roundings
    return RootSift(np.ascontiguousarray(points[:, :2]), points[:, 2] / np.float32(2 * SIGMA), points[:, 3] % 360,
                    np.ascontiguousarray(points[:, 4]), descriptors)


def as_bytes(descriptors: FloatArray) -> NDArray[np.uint8]:
    """(N, 128) float32 RootSIFT descriptors -> (N, 128) uint8: 512 times their values, at most 255."""
    return np.minimum(np.rint(descriptors * BYTES_PER_UNIT), 255).astype(np.uint8)


def from_bytes(codes: NDArray[np.uint8]) -> FloatArray:
    """(N, 128) uint8 of `as_bytes` -> (N, 128) float32 of unit length (a row of zeros stays one)."""
    vectors = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.asarray(vectors / np.maximum(lengths, 1.0)[:, None], np.float32)


def _grey(image: ImageArray) -> ImageArray:
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"an image is an (H, W, 3) uint8 RGB array, not {image.dtype} of shape {image.shape}: read it "
                         "with delf.read_image")
    if not image.size:
        return np.zeros((0, 0), np.uint8)
    return np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _none() -> RootSift:
    zeros = np.zeros(0, np.float32)
    return RootSift(zeros.reshape(0, 2), zeros, zeros, zeros, zeros.reshape(0, DIMENSIONS))
