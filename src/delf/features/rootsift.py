"""RootSIFT: the keypoints and descriptors of Lowe (IJCV 2004), by OpenCV, and the square root of their shares
(Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import ImageError, OptionError
from delf.images import ImageSource, is_rgb, limit_size, read_reduced, resize
from delf.pools import Pool, available_cores
from delf.settings import Options
from delf.types import Features, FloatArray, ImageArray

DIMENSIONS = 128
SIGMA = 1.6  # blur of the pixels of an octave, in its own pixels: OpenCV's, and Lowe's
SMALLEST_SIDE = 8  # pixels; OpenCV looks at nothing nearer than 5 pixels to a border, and takes no smaller octave
FINGERPRINT = "rootsift-opencv-1"  # to be counted up where the same picture gives other features
BYTES_PER_UNIT = 512.0  # as COLMAP stores them: few values are above a half, and those are cut


MOST = 2**31 - 1  # features, which OpenCV counts in 32 bits


@dataclass(frozen=True)
class RootSiftOptions(Options):
    """Which features are found.

    max_features: the strongest so many. contrast, edge: thresholds as OpenCV has them; lower contrast and higher edge
    find more.
    """

    max_features: int = 1000
    contrast: float = 0.04
    edge: float = 10.0

    def __post_init__(self) -> None:
        if type(self.max_features) is not int or not 1 <= self.max_features <= MOST:
            raise OptionError(f"max_features must be 1 to {MOST:,}, and a whole number, not {self.max_features!r}")
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


def in_original(found: RootSift, given: tuple[int, int], size: tuple[int, int]) -> Features:
    """Features of a reduced copy with (width, height), as features of the original."""
    factors = np.array(size) / np.maximum(given, 1)
    return Features(((found.keypoints + 0.5) * factors - 0.5).astype(np.float32),
                    (found.scales * math.sqrt(factors.prod())).astype(np.float32), found.strengths, found.descriptors,
                    size)


def as_bytes(descriptors: FloatArray) -> NDArray[np.uint8]:
    """(N, 128) float32 RootSIFT descriptors -> (N, 128) uint8: 512 times their values, at most 255."""
    return np.minimum(np.rint(descriptors * BYTES_PER_UNIT), 255).astype(np.uint8)


def from_bytes(codes: NDArray[np.uint8]) -> FloatArray:
    """(N, 128) uint8 of `as_bytes` -> (N, 128) float32 of unit length (a row of zeros stays one)."""
    vectors = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.asarray(vectors / np.maximum(lengths, 1.0)[:, None], np.float32)


def require_image(image: ImageArray) -> None:
    """Raise an `ImageError` unless this is an (H, W, 3) uint8 RGB or an (H, W) uint8 grey image."""
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"an image is an (H, W, 3) uint8 RGB array, not {image.dtype} of shape {image.shape}: read it "
                         "with delf.read_image")


def _grey(image: ImageArray) -> ImageArray:
    require_image(image)
    if not image.size:
        return np.zeros((0, 0), np.uint8)
    return np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _none() -> RootSift:
    zeros = np.zeros(0, np.float32)
    return RootSift(zeros.reshape(0, 2), zeros, zeros, zeros, zeros.reshape(0, DIMENSIONS))


class RootSiftExtractor:
    """RootSIFT as an extractor (`delf.extractors`), which is searched with as the package's own models are.

        engine = SearchEngine(collection, RootSiftExtractor(max_features=2000))

    The score of a feature is the contrast of its extremum. Orientations are in the descriptors, which are those of the
    patch as it is turned, and are not kept beside them.
    """

    knows_turns = True

    def __init__(self, *, max_image_size: int | None = 1024, threads: int | None = None, **options: Any) -> None:
        """max_image_size: longest side in pixels to which a larger image is reduced first. options: of
        `RootSiftOptions`.
        """
        try:
            self.options = RootSiftOptions(**options)
        except TypeError as error:
            raise OptionError(f"unknown option of RootSIFT: {error}") from error
        if max_image_size is not None and (type(max_image_size) is not int or max_image_size < SMALLEST_SIDE):
            raise OptionError(f"max_image_size must be {SMALLEST_SIDE} or more, and a whole number, not "
                              f"{max_image_size!r}")
        self.longest_side = max_image_size
        self.threads = threads or available_cores()
        self._pool = Pool(self.threads, "delf-rootsift")

    @property
    def identity(self) -> dict[str, Any]:
        """As `delf.extractors.Own` has it."""
        return {"model": {"name": "rootsift", "fingerprint": FINGERPRINT},
                "options": {"dimensions": DIMENSIONS, "max_image_size": self.longest_side, **asdict(self.options)}}

    def extract(self, image: ImageSource, *, image_size: tuple[int, int] | None = None) -> Features:
        """The features of one image, strongest first; it takes and gives what `Delf.extract` does."""
        if not is_rgb(image):
            image, size = read_reduced(image, shrink_to=self.longest_side)
            image_size = image_size or size
        height, width = image.shape[:2]
        if self.longest_side is not None:
            image = resize(image, limit_size(width, height, self.longest_side))
        return in_original(root_sift(image, self.options), (image.shape[1], image.shape[0]),
                           image_size or (width, height))

    def extract_many(self, images: Iterable[tuple[ImageArray, tuple[int, int]]]) -> Iterator[Features]:
        """The features of (pixels, (width, height) of the original) pairs, in their order, `threads` at a time."""
        pending: deque[Future[Features]] = deque()
        for image, size in images:
            pending.append(self._pool.submit(self.extract, image, image_size=size))
            if len(pending) > self.threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
