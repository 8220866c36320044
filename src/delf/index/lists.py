"""What inverted lists of visual words have in common: images by the block, lists by the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from delf.codes import Codes
from delf.index.exact import checked
from delf.types import IntArray

LEAST_RARITY = 2.0**-20  # idf^2 of a word that all images have: it must not hide those that share nothing else
ROWS = 16384  # features, of whole images, that are aggregated at a time


def image_type(images: int) -> np.dtype[Any]:
    """The type that images of a segment are numbered by."""
    return np.dtype(np.uint16 if images <= 65536 else np.uint32)


def blocks_of(images: Iterable[Codes], dimensions: int) -> Iterator[list[Codes]]:
    """Whole images together, up to so many features."""
    block: list[Codes] = []
    rows = 0
    for codes in images:
        if rows and rows + len(codes) > ROWS:
            yield block
            block, rows = [], 0
        block.append(checked(codes, dimensions))
        rows += len(codes)
    if block:
        yield block


def parts(sizes: IntArray, most: int) -> Iterator[slice]:
    """Runs of lists that have so many entries together, or of one list that has more."""
    ends, start = np.cumsum(sizes), 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, stop)
        start = stop
