"""Features as files that other tools read.

| suffix | what it is | what it does not hold |
|---|---|---|
| `.delf`, `.delg_local` | the protocol buffer of the TensorFlow DELF reference | image size, global descriptor |
| `.npz` | numpy arrays, named as in `delf.types.Features` | |
| `.csv` | one row per feature, `x,y,scale,score,d0,d1,...` | image size, global descriptor |
| `.h5` | HDF5 in the layout of hloc; can hold many images (`delf.formats.hdf5`) | |

All keep every float32 to the bit. A format is one module and one line in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from delf.errors import DelfError
from delf.formats import csv, hdf5, npz, protos
from delf.formats.assembly import UNKNOWN_SIZE
from delf.types import Features

__all__ = ["FORMATS", "UNKNOWN_SIZE", "Format", "read_features", "write_features"]


class Format(NamedTuple):
    """How one kind of file is read and written. `read` may take features of size `UNKNOWN_SIZE` from a file."""

    read: Callable[[Path], Features]
    write: Callable[[Path, Features], None]


FORMATS = {
    ".delf": Format(protos.read, protos.write),
    ".delg_local": Format(protos.read, protos.write),
    ".npz": Format(npz.read, npz.write),
    ".csv": Format(csv.read, csv.write),
    ".h5": Format(hdf5.read, hdf5.write),
}


def read_features(path: str | PathLike[str], image_size: tuple[int, int] | None = None) -> Features:
    """Read the features of one image, in the order of the file and with descriptors as they are in it.

    `image_size`, (width, height), is for the formats that do not hold it; where neither knows, it is
    `UNKNOWN_SIZE`, (0, 0).

    Raises:
        DelfError: the file is missing, damaged, too large, of an unknown suffix, or of an image of another size.
        MissingDependencyError: `.h5` without h5py.
    """
    path = Path(path)
    features = _format(path).read(path)
    if image_size is None or features.image_size == image_size:
        return features
    if features.image_size != UNKNOWN_SIZE:
        raise DelfError(f"{str(path)!r} is of an image of {features.image_size} pixels, not {image_size}: give the "
                        "size of that image, or none.")
    return replace(features, image_size=image_size)


def write_features(path: str | PathLike[str], features: Features) -> None:
    """Write the features of one image in the format of the suffix; the file appears complete or not at all.

    Raises:
        DelfError: the suffix is unknown, the file cannot be written, or a value is not finite.
        MissingDependencyError: `.h5` without h5py.
    """
    path = Path(path)
    _format(path).write(path, features)


def _format(path: Path) -> Format:
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise DelfError(f"No format of features is known for {str(path)!r}: use one of the suffixes "
                        f"{', '.join(FORMATS)}.") from None
