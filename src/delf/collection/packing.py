"""How the features of an image are packed into the arrays of a segment, and what they are when they come back.

    keypoints     (N, 2) uint16    position as a fraction of the image's size, in steps of 1/65535
    scales        (N,) float16
    scores        (N,) float16
    descriptors   (N, D) int8      codes of `delf.codes`
    details       (M,) DETAIL      details: position, scale and code of each

That is `Full`; `delf.collection.compact` has another one. A keypoint of an image 1000 pixels wide is off by at most
0.008 pixels. All told a 128-D feature takes 136 bytes, and a detail 134.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode, encode
from delf.types import Features, FloatArray, IntArray

Arrays = Mapping[str, NDArray[Any]]
Kinds = dict[str, tuple[np.dtype[Any], int]]  # array -> type, number of axes

DETAIL = np.dtype([("keypoint", "<u2", (2,)), ("scale", "<f2"), ("descriptor", "i1", (128,))])
ROWS = ("keypoints", "scales", "scores", "descriptors")  # arrays that have a row for each feature
_STEPS = 65535
_LARGEST = np.float32(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Packed:
    """The features of an image, as they are stored. rows: the arrays of `ROWS`. details: None where it has none."""

    size: tuple[int, int]
    global_descriptor: NDArray[np.float16]
    rows: Arrays
    details: NDArray[np.void] | None

    def __len__(self) -> int:
        """How many features there are."""
        return len(self.rows["descriptors"])


class Packing(Protocol):
    """What packs features and unpacks them."""

    @property
    def name(self) -> str:
        """It is stored with what was packed, and says all that unpacking depends on."""
        ...

    @property
    def point(self) -> int:
        """The numbers of a stored keypoint."""
        ...

    @property
    def worth(self) -> float:
        """How many inliers of the features as they were an inlier of what is kept stands for."""
        ...

    @property
    def kinds(self) -> Kinds:
        """The kinds of arrays that have a row for each feature."""
        ...

    def pack(self, features: Features) -> Packed:
        """The features of an image, or those that are kept of it."""
        ...

    def unpack(self, stored: Arrays, size: tuple[int, int]) -> Features:
        """The features of an image of (width, height), given its rows of the arrays of `ROWS`."""
        ...

    def searched(self, kept: IntArray) -> IntArray:
        """(n + 1,) where the searched features of each image of a segment begin, given where all that are kept do."""
        ...

    def codes(self, stored: NDArray[Any], kept: IntArray, offsets: IntArray, folder: Path) -> Codes:
        """The codes of the searched descriptors of a segment, of which no more are decoded than are looked at.

        stored: its array `descriptors`. kept, offsets: as of `searched`. folder: of the segment, for sentences.
        """
        ...

    def check(self) -> None:
        """Read what unpacking needs beside the segments. Raises `CollectionError` where that is damaged."""
        ...


class Full:
    """All features and details, with descriptors in 8 bits a dimension."""

    name, point, worth = "full", 2, 1.0

    @property
    def kinds(self) -> Kinds:
        """As `Packing` has it."""
        return {"keypoints": (np.dtype(np.uint16), 2), "scales": (np.dtype(np.float16), 1),
                "scores": (np.dtype(np.float16), 1), "descriptors": (np.dtype(np.int8), 2)}

    def pack(self, features: Features) -> Packed:
        """As `Packing` has it."""
        rows: Arrays = {"keypoints": encode_keypoints(features.keypoints, features.image_size),
                        "scales": half(features.scales), "scores": half(features.scores),
                        "descriptors": encode(features.descriptors)}
        details = None if features.details is None else pack_details(features.details)
        return Packed(features.image_size, packed_global(features), rows, details)

    def unpack(self, stored: Arrays, size: tuple[int, int]) -> Features:
        """As `Packing` has it."""
        return Features(decode_keypoints(stored["keypoints"], size), stored["scales"].astype(np.float32),
                        stored["scores"].astype(np.float32), decode(stored["descriptors"]), size)

    def searched(self, kept: IntArray) -> IntArray:
        """As `Packing` has it: all are."""
        return kept

    def codes(self, stored: NDArray[Any], kept: IntArray, offsets: IntArray, folder: Path) -> Codes:
        """As `Packing` has it: they are stored as they are."""
        return stored

    def check(self) -> None:
        """As `Packing` has it: it needs nothing."""


FULL = Full()


def packed_global(features: Features) -> NDArray[np.float16]:
    """(G,) the global descriptor in half precision; G is 0 where there is none."""
    vector = features.global_descriptor
    return np.zeros(0, np.float16) if vector is None else vector.astype(np.float16)


def half(values: FloatArray) -> NDArray[np.float16]:
    """Round to half precision; larger numbers become its largest one."""
    return np.minimum(values, _LARGEST).astype(np.float16)


def encode_keypoints(keypoints: FloatArray, size: tuple[int, int], steps: int = _STEPS) -> NDArray[np.uint16]:
    """(N, 2) points of a picture of (width, height) -> (N, 2) shares of its sides, in so many steps."""
    # A picture extends from -0.5 to its side minus 0.5, since (0, 0) is the centre of the first pixel.
    fractions = (keypoints + 0.5) / np.array(size, dtype=np.float32)
    return np.rint(np.clip(fractions, 0.0, 1.0) * np.float32(steps)).astype(np.uint16)


def decode_keypoints(stored: NDArray[np.uint16], size: tuple[int, int], steps: int = _STEPS) -> FloatArray:
    """The other way round."""
    shares = stored.astype(np.float32) / np.float32(steps)
    return (shares * np.array(size, dtype=np.float32) - 0.5).astype(np.float32)


def pack_details(details: Features) -> NDArray[np.void]:
    """(M,) the details of an image, as `DETAIL`."""
    stored = np.zeros(len(details), DETAIL)
    stored["keypoint"] = encode_keypoints(details.keypoints, details.image_size)
    stored["scale"] = half(details.scales)
    stored["descriptor"] = encode(details.descriptors)
    return stored


def unpack_details(stored: NDArray[np.void], size: tuple[int, int]) -> Features:
    """The details of one image of (width, height); the strengths that they were selected by are not kept."""
    return Features(decode_keypoints(stored["keypoint"], size), stored["scale"].astype(np.float32),
                    np.zeros(len(stored), np.float32), decode(stored["descriptor"]), size)
