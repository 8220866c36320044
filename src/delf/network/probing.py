"""What a network does, found out by asking it: the stride of its cells, and which pixels a cell answers to.

The stride is how the map grows with the picture. Where a cell lies is looked for in two ways: where all pixels beyond
some column are replaced by others and the cell stays what it was to the last bit, it does not see them; what it sees
begins and ends there, and its middle is the cell's place. Cells that see all of the picture, as in transformers and
behind squeeze-and-excitation, or each another part of what a coarser cell sees, as in feature pyramids, are asked for
the middle of what they answer to, weighted by how much (the effective receptive field, Luo et al., NeurIPS 2016). That
is exact for patches side by side, and up to half a stride off for convolutions that have been trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from delf.errors import ModelError

Compute = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]
ABOUT = 70  # pictures of one probe
UNIT = 224  # a whole number of patches of 7, 8, 14, 16, 28 and 32 pixels
LEAST = 96  # pixels of the shorter side of all pictures
SIDE = 640  # of the picture in which the edges of what a cell sees are looked for
CELLS, MOVED = 12, 4  # of the picture that answers are weighed in, and of the part of it that is changed


@dataclass(frozen=True)
class Found:
    """stride, channels: of the map. surplus: as in `Placing`. offset: the pixel in the middle of cell 0, on both axes.
    exact: whether that is the middle of what a cell sees, to the pixel. size: of what it sees, 0 where that is all of
        the picture.
    """

    stride: int
    channels: int
    surplus: int
    offset: tuple[float, float]
    exact: bool
    size: int


@torch.no_grad()
def probe(compute: Compute, *, stride: int = 0, multiple: int = 0, progress: Progress = lambda done, total: None
          ) -> Found:
    """Ask a network.

    Args:
        compute: (1, 3, H, W) normalised pictures -> (1, C, h, w). stride: what it is said to be; 0 if nothing is said.
        multiple: of which sides must be whole multiples; 0 if of the stride alone. progress: is given the number of
            pictures done, and of about how many.

    Raises:
        ModelError: what it gives is no map of features that grows with the picture.
    """
    compute = _counted(compute, progress)
    unit = math.lcm(stride or UNIT, multiple or 1)
    short = unit * -(-LEAST // unit)
    shape = compute(_noise(short, 2 * short)).shape
    if len(shape) != 4 or shape[0] != 1:
        raise ModelError(f"it gives an array of the shape {tuple(shape)}, where a map of features is (1, C, h, w)")
    found = _stride(short, shape[2], shape[3])
    surplus = shape[3] - 2 * short // found
    unit = math.lcm(found, multiple or 1)
    places = [_place(_along(compute, axis), found, unit) for axis in (3, 2)]
    return Found(found, shape[1], surplus, (places[0][0], places[1][0]), all(exact for _, exact, _ in places),
                 min(size for *_, size in places))


def _counted(compute: Compute, progress: Progress) -> Compute:
    numbers = itertools.count(1)

    def asked(images: Tensor) -> Tensor:
        found, number = compute(images), next(numbers)
        progress(number, max(number, ABOUT))
        return found

    return asked


def _noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def _stride(short: int, rows: int, columns: int) -> int:
    """Pixels for each further cell: the picture is `short` high, and twice as wide."""
    if columns <= rows:
        raise ModelError(f"its map has {columns} x {rows} cells for a picture of {2 * short} x {short} pixels, and so "
                         "does not grow with the picture")
    stride = short / (columns - rows)
    if stride != int(stride):
        raise ModelError(f"its map grows by a cell every {stride:.2f} pixels, and a stride is a whole number; if it "
                         "takes only pictures whose sides are whole multiples of something, say of what (multiple)")
    return int(stride)


def _along(compute: Compute, axis: int) -> Compute:
    """The network with the axis that is looked at as the last one."""
    return compute if axis == 3 else lambda images: compute(images.transpose(2, 3)).transpose(2, 3)


def _place(compute: Compute, stride: int, unit: int) -> tuple[float, bool, int]:
    """The pixel in the middle of cell 0 along the last axis, whether that is exact, and how many it sees; 0 if all."""
    seen = _edges(compute, stride, unit)
    if seen is None:
        return _centre(compute, stride, unit), False, 0
    size = max(last - first + 1 for first, last in seen)
    if seen[0] == seen[1]:
        return sum(seen[0]) / 2, True, size
    return _centre(compute, stride, unit), False, size


def _edges(compute: Compute, stride: int, unit: int) -> list[tuple[int, int]] | None:
    """The first and the last pixel that cell 0 would see, as two neighbouring cells do; None where they see both edges
    of the picture.
    """
    width, height = unit * -(-SIDE // unit), unit * -(-LEAST // unit)
    picture, other = _noise(height, width), _noise(height, width, 1)
    before = compute(picture)
    if not bool(before.isfinite().all()):
        raise ModelError("it gives what is not a number for a picture of noise")

    @cache
    def seen_by(first: int, end: int) -> Tensor:
        changed = picture.clone()
        changed[..., first:end] = other[..., first:end]
        return (compute(changed) != before).any(dim=2).any(dim=1)[0]

    cells = [before.shape[3] // 2, before.shape[3] // 2 + 1]
    if not seen_by(0, width)[cells].all():
        raise ModelError("its map does not change with the picture")
    if (seen_by(0, 1) | seen_by(width - 1, width))[cells].any():
        return None
    return [(_smallest(lambda end: bool(seen_by(0, end)[cell]), width) - 1 - cell * stride,  # noqa: B023 (used at once)
             width - _smallest(lambda count: bool(seen_by(width - count, width)[cell]), width) - cell * stride)  # noqa: B023
            for cell in cells]


def _smallest(holds: Callable[[int], bool], most: int) -> int:
    """The smallest number up to `most` for which something holds that holds for all larger ones."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _centre(compute: Compute, stride: int, unit: int) -> float:
    """Where cell 0 lies, by how much the cells answer to changes of some columns."""
    width, height = (unit * -(-length // unit) for length in (CELLS * stride, LEAST))
    picture, other = _noise(height, width), _noise(height, width, 1)
    before = compute(picture)
    step = max(part for part in range(1, stride // 4 + 2) if stride % part == 0)
    first = (width // stride - MOVED) // 2 * stride
    away = []
    for column in range(first, first + MOVED * stride, step):
        changed = picture.clone()
        changed[..., column : column + step] = other[..., column : column + step]
        answer = (compute(changed) - before).square().sum(dim=(0, 1, 2)).double().numpy()
        answer = np.maximum(answer - np.median(answer), 0)  # what all cells answer says nothing of a place
        if not answer.any():
            raise ModelError("its map does not change with the picture")
        away.append(column + (step - 1) / 2 - stride * float(answer @ np.arange(len(answer)) / answer.sum()))
    return float(np.mean(away))
