"""Overlays that recur among several images.

Two pictures alone do not always show whether they share an overlay (`verification.overlays`): letters of a watermark
match other letters, or a logo is a little displaced. Several images together show it. If a picture agrees with several
others at one spot in what looks like an overlay, and with no more of them in anything else there, the spot is an
overlay, and evidence for none of them. A place with many photos has other views that agree at every spot, so that
little is lost if a few pairs look like overlays by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.settings import Options
from delf.types import Features, IntArray, Verification

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RecurrenceOptions(Options):
    """When a spot of a picture counts as an overlay. Chosen in `benchmarks/CHOICES.md`, "Overlays that recur".

    images: an overlay must have been found at the spot with at least so many other images.
    share: these must be more than this share of the images with which the picture agrees at the spot.
    minimum: inliers from which an image counts as agreeing; fewer may be due to chance.
    inliers: share of its inliers that must lie on overlays for an image to be verified again.
    reach: size of a spot, in thresholds of the verification.
    """

    images: int = 3
    share: float = 0.5
    minimum: int = 10
    inliers: float = 0.5
    reach: float = 2.0

    def __post_init__(self) -> None:
        if min(self.images, self.minimum) < 1 or self.reach <= 0:
            raise OptionError("The images and the minimum of a recurrence must be 1 or more, and its reach above 0, "
                              f"not {self.images}, {self.minimum} and {self.reach}.")
        if not (0 <= self.share <= 1 and 0 <= self.inliers <= 1):
            raise OptionError(f"share and inliers are shares from 0 to 1, not {self.share} and {self.inliers}.")


def recurring(picture: Features, seen: Sequence[tuple[Verification, int]], threshold: float,
              options: RecurrenceOptions) -> Mask:
    """Which features of a picture lie where an overlay recurs: (N,) bool.

    Args:
        seen: the verifications of the picture and several others, each with the side of the picture: 0 if it was the
            query, 1 if it was the database image. threshold: that of the verification, in pixels of the picture.
    """
    if sum(len(found.overlay) > 0 for found, _ in seen) < options.images:
        return np.zeros(len(picture), np.bool_)
    spots, shape = _spots(picture, options.reach * threshold)
    overlays, agreeing = np.zeros((2, *shape), np.int64)
    for found, side in seen:
        overlay = _around(spots[found.overlay[:, side]], shape)
        overlays += overlay
        rows = found.inliers[:, side] if len(found) >= options.minimum else found.overlay[:, side]
        agreeing += overlay | _around(spots[rows], shape)
    recurs = (overlays >= options.images) & (overlays > options.share * agreeing)
    return np.asarray(recurs[spots[:, 1], spots[:, 0]])


def rests_on(gone: Mask, found: Verification, side: int, options: RecurrenceOptions) -> bool:
    """Whether a good part of the inliers of two images are features of one of them that lie on overlays (`gone`)."""
    return len(found) >= options.minimum and bool(np.mean(gone[found.inliers[:, side]]) >= options.inliers)


def _spots(picture: Features, side: float) -> tuple[IntArray, tuple[int, int]]:
    """(N, 2) the square, by column and row, in which each feature of a picture lies, and (rows, columns) of squares."""
    columns, rows = (int(length // side) + 1 for length in picture.image_size)
    places = np.nan_to_num(picture.keypoints.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) // side
    return np.clip(places, 0, (columns - 1, rows - 1)).astype(np.int64), (rows, columns)


def _around(spots: IntArray, shape: tuple[int, int]) -> Mask:
    """(rows, columns) which squares are among some, or beside one of them."""
    marked = np.zeros((shape[0] + 2, shape[1] + 2), np.bool_)
    for down in range(3):
        for across in range(3):
            marked[spots[:, 1] + down, spots[:, 0] + across] = True
    return marked[1:-1, 1:-1]
