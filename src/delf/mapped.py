"""What the system is told of files that are mapped into memory: what will be read, and what was read for now."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray


def expect(*parts: NDArray[Any]) -> None:
    """Have the system read parts of mapped arrays, and nothing else; it does so while this process goes on.

    Where a process meets a page that is not in memory, the system reads on ahead: 128 kB or several megabytes for the
    20 kB of an image, which then take the place of what is needed.

    parts: each lies together in its file; what is not mapped is left alone.
    """
    for part in parts:
        pages = pages_of(part)
        if pages is not None and hasattr(mmap, "MADV_WILLNEED"):
            mapped, start, length = pages
            with suppress(OSError):  # it is only advice
                mapped.madvise(mmap.MADV_WILLNEED, start, length)


def release(part: NDArray[Any]) -> None:
    """Have the pages of a mapped file that were read counted as the system's, not as this process's; they can be read
    as before, by other threads at this moment as well. part: any part of it.
    """
    mapped = getattr(part, "_mmap", None)  # an empty file is not mapped
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def pages_of(part: NDArray[Any]) -> tuple[mmap.mmap, int, int] | None:
    """The memory map of a part of an array that lies together, the first byte of its first page there, and how many
    bytes there are from that to its end. None if it is not mapped.
    """
    mapped = getattr(part, "_mmap", None)
    if mapped is None or not part.nbytes:
        return None
    first = np.frombuffer(mapped, np.uint8, 1).__array_interface__["data"][0]
    start = part.__array_interface__["data"][0] - first
    before = start % mmap.PAGESIZE
    return mapped, start - before, before + part.nbytes
