"""How keypoints, numbers and details are packed into the arrays of a segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import decode, encode
from delf.types import Features, FloatArray

DETAIL = np.dtype([("keypoint", "<u2", (2,)), ("scale", "<f2"), ("descriptor", "i1", (128,))])
_STEPS = np.float32(65535)
_LARGEST = np.float32(np.finfo(np.float16).max)


def half(values: FloatArray) -> NDArray[np.float16]:
    """In half precision, of which the largest number stands for larger ones."""
    return np.minimum(values, _LARGEST).astype(np.float16)


def encode_keypoints(keypoints: FloatArray, size: tuple[int, int]) -> NDArray[np.uint16]:
    """(N, 2) points of a picture of (width, height) -> (N, 2) shares of its sides."""
    # A picture extends from -0.5 to its side minus 0.5, since (0, 0) is the centre of the first pixel.
    fractions = (keypoints + 0.5) / np.array(size, dtype=np.float32)
    return np.rint(np.clip(fractions, 0.0, 1.0) * _STEPS).astype(np.uint16)


def decode_keypoints(stored: NDArray[np.uint16], size: tuple[int, int]) -> FloatArray:
    """The other way round."""
    return (stored.astype(np.float32) / _STEPS * np.array(size, dtype=np.float32) - 0.5).astype(np.float32)


def pack_details(batch: Sequence[Features | None]) -> dict[str, NDArray[Any]]:
    """The details of a batch of images, as `details` and `detail_offsets`; neither where an image has none at all.

    An image in which no details were found has an empty set of them.
    """
    images = [one for one in batch if one is not None]
    if not images or len(images) < len(batch):
        return {}
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in images])]).astype(np.int64)
    stored = np.zeros(int(offsets[-1]), DETAIL)
    stored["keypoint"] = np.concatenate([encode_keypoints(one.keypoints, one.image_size) for one in images])
    stored["scale"] = half(np.concatenate([one.scales for one in images]))
    stored["descriptor"] = np.concatenate([encode(one.descriptors) for one in images])
    return {"details": stored, "detail_offsets": offsets}


def unpack_details(stored: NDArray[np.void], size: tuple[int, int]) -> Features:
    """The details of one image of (width, height); the strengths that they were selected by are not kept."""
    return Features(decode_keypoints(stored["keypoint"], size), stored["scale"].astype(np.float32),
                    np.zeros(len(stored), np.float32), decode(stored["descriptor"]), size)
