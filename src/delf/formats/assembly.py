"""From arrays of any origin to `Features` that keep the conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError
from delf.types import Features, FloatArray

UNKNOWN_SIZE = (0, 0)
_LONGEST_SIDE = 2**31 - 1


def assemble(keypoints: NDArray[Any], scales: NDArray[Any], scores: NDArray[Any], descriptors: NDArray[Any],
             image_size: tuple[int, int] = UNKNOWN_SIZE, global_descriptor: NDArray[Any] | None = None,
             orientations: NDArray[Any] | None = None) -> Features:
    """Features of float32 copies of the arrays, which may be of any type of number.

    Raises:
        ValueError: a shape is wrong, lengths differ, a value is not finite in float32, or a size is impossible.
    """
    width, height = image_size
    if not (0 <= width <= _LONGEST_SIDE and 0 <= height <= _LONGEST_SIDE):
        raise ValueError(f"{width} x {height} is not the size of an image")
    return Features(
        keypoints=finite("keypoints", keypoints, axes=2),
        scales=finite("scales", scales, axes=1),
        scores=finite("scores", scores, axes=1),
        descriptors=finite("descriptors", descriptors, axes=2),
        image_size=(int(width), int(height)),
        global_descriptor=(None if global_descriptor is None
                           else finite("global descriptor", global_descriptor, axes=1)),
        orientations=None if orientations is None else finite("orientations", orientations, axes=1),
    )


def writable(features: Features, path: Path) -> Features:
    """The features with all arrays float32, to be written to `path`.

    Raises:
        DelfError: they do not keep the conventions, so that they could not be read back.
    """
    try:
        return assemble(**{name: value for name, value in vars(features).items() if name != "details"})
    except ValueError as error:
        raise DelfError(f"The features for {str(path)!r} cannot be written ({error}): extract them again.") from error


def finite(name: str, array: NDArray[Any], axes: int) -> FloatArray:
    """A float32 copy of the array called `name`. Raises ValueError where it has other axes, NaN or infinity."""
    if array.ndim != axes:
        raise ValueError(f"the {name} have shape {array.shape}, which should be of {axes} axes")
    with np.errstate(all="ignore"):  # what overflows is found below
        floats = np.array(array, np.float32, order="C")
    if not np.isfinite(floats).all():
        raise ValueError(f"the {name} hold NaN or infinite values")
    return floats
