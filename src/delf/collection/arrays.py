"""Arrays on the disk, written once and memory-mapped from then on: each in a `.npy` file, or several in one file.

The file of several (`segment.bin`) is a page with the header, as JSON, and the bytes of the arrays behind it, one after
another; the header says the shape and the SHA-256 of each. Their types are those of the format, largest first, so that
all but records begin where numbers of their type may. One memory map serves them all.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"delf segment\n"
PAGE = 4096  # of the header
_BLOCK = 1 << 20
_LARGEST = 2**48  # bytes of a file: a larger number is nonsense, and larger ones would not fit


@dataclass(frozen=True, eq=False)
class Planned:
    """An array that is to be written, in blocks of its rows."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Iterable[NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Planned:
        """An array that there is."""
        return cls(array.dtype, array.shape, [array])


def write_npy(path: Path, array: Planned) -> str:
    """Write and flush one array; the SHA-256 of the file."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in array.blocks:
            file.write(np.ascontiguousarray(block, dtype=array.dtype).data)
        flush(file)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_npy(path: Path) -> NDArray[Any]:
    """A read-only memory map of a .npy file (an ordinary array where it is empty, which cannot be mapped).

    Raises:
        OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError: it cannot be read.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"unknown version {version} of the array format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if fortran or dtype.hasobject:
        raise ValueError("an unexpected kind of array")
    if path.stat().st_size != start + math.prod(shape) * dtype.itemsize:
        raise ValueError("its size does not fit its header")
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape)


def flush(file: Any) -> None:
    """Bring to the disk what was written to an open file."""
    file.flush()
    os.fsync(file.fileno())


def write_joined(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Planned]) -> None:
    """Write and flush several arrays into one file, in their order. header: what it says beside their shapes."""
    with path.open("wb") as file:
        file.write(bytes(PAGE))
        said = {}
        for name, array in arrays.items():
            digest = hashlib.sha256()
            for block in array.blocks:
                data = np.ascontiguousarray(block, dtype=array.dtype)
                digest.update(data.data)
                file.write(data.data)
            said[name] = {"shape": array.shape, "sha256": digest.hexdigest(),
                          "bytes": math.prod(array.shape) * array.dtype.itemsize}
        text = MAGIC + json.dumps({**header, "arrays": said}, sort_keys=True).encode()
        file.seek(0)
        file.write(text.ljust(PAGE))
        flush(file)


def read_header(path: Path) -> dict[str, Any]:
    """What the header of such a file says.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    with path.open("rb") as file:
        page = file.read(PAGE)
    if len(page) < PAGE or not page.startswith(MAGIC):
        raise ValueError("it does not begin as such a file does")
    try:
        header = json.loads(page[len(MAGIC) :])
    except RecursionError as error:
        raise ValueError("its header is nested too deep") from error
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), dict):
        raise ValueError("it has no valid header")
    return header


@dataclass(frozen=True)
class _Place:
    """Where an array lies in a file."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    sha256: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_joined(path: Path, dtypes: Mapping[str, tuple[np.dtype[Any], int]]) -> dict[str, NDArray[Any]]:
    """Read-only views of one memory map: the arrays of a file.

    Args:
        dtypes: type and number of axes of each array, in the order in which they lie in the file.

    Raises:
        OSError, ValueError: it cannot be read, or is not a file of these arrays.
    """
    places = _places(path, dtypes)
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    return {name: content[place.start : place.start + place.nbytes].view(place.dtype).reshape(place.shape)
            if place.nbytes else np.zeros(place.shape, place.dtype) for name, place in places.items()}


def damaged_arrays(path: Path, dtypes: Mapping[str, tuple[np.dtype[Any], int]]) -> list[str]:
    """The names of the arrays of a file that are not what was written. Raises as `open_joined`."""
    with path.open("rb") as file:
        return [name for name, place in _places(path, dtypes).items() if _digest(file, place) != place.sha256]


def bytes_of(path: Path) -> dict[str, int]:
    """Bytes of each array of a file, by what its header says, and of the header; nothing where that cannot be read."""
    try:
        sizes = {"header": PAGE, **{str(name): said["bytes"] for name, said in read_header(path)["arrays"].items()}}
        fits = all(type(size) is int and size >= 0 for size in sizes.values())
        return sizes if fits and sum(sizes.values()) == path.stat().st_size else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _places(path: Path, dtypes: Mapping[str, tuple[np.dtype[Any], int]]) -> dict[str, _Place]:
    said, start, places = read_header(path)["arrays"], PAGE, {}
    if set(said) != set(dtypes):
        raise ValueError("it does not have the arrays that such a file has")
    for name, (dtype, axes) in dtypes.items():
        entry = said[name]
        place = _Place(start, dtype, _shape(entry, axes), str(entry.get("sha256")))
        places[name] = place
        start += place.nbytes
    if start != path.stat().st_size:
        raise ValueError("its size does not fit its header")
    return places


def _shape(entry: Any, axes: int | None) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if (not isinstance(shape, list) or len(shape) != (len(shape) if axes is None else axes)
            or not all(type(side) is int and 0 <= side <= _LARGEST for side in shape)
            or math.prod(shape) > _LARGEST):
        raise ValueError("its header has impossible shapes")
    return tuple(shape)


def _digest(file: BinaryIO, place: _Place) -> str:
    digest, left = hashlib.sha256(), place.nbytes
    file.seek(place.start)
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            break
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()
