"""The extractor in the manner of other libraries, to be put into existing code.

`Feature2D` is used as `cv2.SIFT_create()` is, `DictExtractor` as the extractors that come with LightGlue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.errors import ImageError, OptionError
from delf.features import Delf
from delf.types import Features, FloatArray, ImageArray, IntArray


class Feature2D:
    """DELF with the methods of `cv2.Feature2D`: images as OpenCV gives them, BGR or grey, and `cv2.KeyPoint`s.

        delf = Feature2D()
        keypoints, descriptors = delf.detectAndCompute(cv2.imread("a.jpg"), None)

    A keypoint's size is the side of the patch that its descriptor sees, its response the score; it has no angle.
    """

    def __init__(self, extractor: Delf | None = None) -> None:
        """extractor: the packaged model by default."""
        self._extractor = extractor or Delf.load()
        everything = replace(self._extractor.options, max_features=2**31, score_threshold=-np.inf, suppression_iou=1.0,
                             details=None)
        self._dense = Delf(self._extractor.runtime, everything, threads=self._extractor.threads)

    def detectAndCompute(
        self, image: ImageArray, mask: ImageArray | None = None, descriptors: object = None,
        useProvidedKeypoints: bool = False,
    ) -> tuple[tuple[cv2.KeyPoint, ...], FloatArray | None]:
        """Keypoints, best first, and their descriptors: (N, D) float32, or None where there is no keypoint.

        Args:
            image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, uint8.
            mask: (H, W) uint8; keypoints are only where it is not zero.
            descriptors, useProvidedKeypoints: taken for the sake of OpenCV's signature; to describe given keypoints
                call `compute`.

        Raises:
            ImageError: the image or the mask is no such array.
            OptionError: `useProvidedKeypoints` is set.
        """
        if useProvidedKeypoints:
            raise OptionError("useProvidedKeypoints is not known here: call compute(image, keypoints)")
        rgb = rgb_of(image)
        if mask is None:
            features = self._extractor.extract(rgb)
        else:
            features = self._masked(self._dense.extract(rgb), mask)
        return self._keypoints(features), features.descriptors if len(features) else None

    def detect(self, image: ImageArray, mask: ImageArray | None = None) -> tuple[cv2.KeyPoint, ...]:
        """The keypoints alone, as `detectAndCompute` gives them."""
        return self.detectAndCompute(image, mask)[0]

    def compute(self, image: ImageArray,
                keypoints: Sequence[cv2.KeyPoint]) -> tuple[tuple[cv2.KeyPoint, ...], FloatArray | None]:
        """The descriptors of given keypoints, from any detector: each keypoint gets the nearest dense feature.

        Nearest means nearest in position, on the level whose patches are nearest to the keypoint's size. No keypoint is
        dropped, except that an image below 10 pixels has no features at all.
        """
        dense = self._dense.extract(rgb_of(image))
        if not len(dense) or not len(keypoints):
            return (), None
        places = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)
        sizes = np.array([keypoint.size for keypoint in keypoints], np.float32)
        return tuple(keypoints), dense.descriptors[_nearest(dense, places, sizes / self._extractor.patch_size)]

    def descriptorSize(self) -> int:
        """D: numbers in a descriptor."""
        return self._extractor.options.dimensions

    def descriptorType(self) -> int:
        """`cv2.CV_32F`."""
        return int(cv2.CV_32F)

    def defaultNorm(self) -> int:
        """The norm to compare descriptors by: `cv2.NORM_L2`."""
        return int(cv2.NORM_L2)

    def empty(self) -> bool:
        """False: there is a model."""
        return False

    def getDefaultName(self) -> str:
        """The name of the algorithm, as OpenCV has it."""
        return "Feature2D.DELF"

    def _masked(self, dense: Features, mask: ImageArray) -> Features:
        """The best of the features that the mask allows, chosen as the extractor chooses them."""
        width, height = dense.image_size
        if mask.shape[:2] != (height, width) or mask.dtype != np.uint8 or mask.size != width * height:
            raise ImageError(f"a mask is a uint8 array of the image's size, ({height}, {width}), not {mask.dtype} of "
                             f"shape {mask.shape}")
        columns, rows = np.rint(dense.keypoints).astype(np.int64).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        allowed = inside & (mask.reshape(height, width)[rows.clip(0, height - 1), columns.clip(0, width - 1)] > 0)
        options = self._extractor.options
        return dense.select(np.flatnonzero(allowed & (dense.scores >= options.score_threshold))[: options.max_features])

    def _keypoints(self, features: Features) -> tuple[cv2.KeyPoint, ...]:
        sizes = features.scales * self._extractor.patch_size
        return tuple(cv2.KeyPoint(x=float(x), y=float(y), size=float(size), angle=-1.0, response=float(score))
                     for (x, y), size, score in zip(features.keypoints, sizes, features.scores, strict=True))


class DictExtractor:
    """DELF in the manner of LightGlue's extractors: an image in, a dict of arrays with a leading axis of one out."""

    def __init__(self, extractor: Delf | None = None) -> None:
        """extractor: the packaged model by default."""
        self._extractor = extractor or Delf.load()

    def extract(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The features of an image.

        Args:
            image: (H, W, 3) uint8 RGB; or (3, H, W) or (1, 3, H, W) of numbers from 0 to 1, as LightGlue's
                `load_image` gives it (a tensor on the CPU will do).

        Returns:
            keypoints (1, N, 2) float32 (x, y), keypoint_scores (1, N), scales (1, N), descriptors (1, N, D), all
            float32, and image_size (1, 2) int64 (width, height).

        Raises:
            ImageError: it is no such image.
        """
        features = self._extractor.extract(_rgb_of_tensor(np.asarray(image)))
        return {"keypoints": features.keypoints[None], "keypoint_scores": features.scores[None],
                "scales": features.scales[None], "descriptors": features.descriptors[None],
                "image_size": np.array([features.image_size], np.int64)}


def rgb_of(image: ImageArray) -> ImageArray:
    """The (H, W, 3) RGB picture of an array as OpenCV gives it. Raises `ImageError` where it is none."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ImageError("an image of OpenCV is a uint8 array, (H, W) or (H, W, channels): was the file read?")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels not in (1, 3, 4):
        raise ImageError(f"an image of OpenCV has 1, 3 or 4 channels, not {channels}")
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[..., 2::-1])


def _rgb_of_tensor(image: NDArray[Any]) -> ImageArray:
    if image.dtype == np.uint8:
        return image
    pixels = image[0] if image.ndim == 4 and len(image) == 1 else image
    if pixels.ndim != 3 or len(pixels) != 3 or not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(f"an image is (H, W, 3) uint8, or (3, H, W) numbers from 0 to 1, not {image.dtype} of shape "
                         f"{image.shape}")
    if not pixels.size or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError("the numbers of an image must be from 0 to 1")
    return np.ascontiguousarray(np.rint(pixels * 255).astype(np.uint8).transpose(1, 2, 0))


def _nearest(dense: Features, places: FloatArray, scales: FloatArray) -> IntArray:
    """For each place and scale the row of the nearest feature on the level of the nearest scale."""
    levels = np.unique(dense.scales)
    wanted = np.abs(np.log(np.maximum(scales, 1e-6))[:, None] - np.log(levels)).argmin(axis=1)
    rows = np.zeros(len(places), np.int64)
    for number, level in enumerate(levels):
        of_level = np.flatnonzero(dense.scales == level)
        points = dense.keypoints[of_level]
        chosen = np.flatnonzero(wanted == number)
        for part in np.array_split(chosen, len(chosen) // 256 + 1):  # 256 x 12,000 distances at a time
            distances = ((places[part, None] - points) ** 2).sum(axis=2)
            rows[part] = of_level[distances.argmin(axis=1)]
    return rows
