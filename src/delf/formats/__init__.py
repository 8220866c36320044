"""Features as files that other tools read.

| suffix | what it is | what it does not hold |
|---|---|---|
| `.delf`, `.delg_local` | the protocol buffer of the TensorFlow DELF reference | image size, global descriptor |
| `.npz` | numpy arrays, named as in `delf.types.Features` | |
| `.csv` | one row per feature, `x,y,scale,score,d0,d1,...` | image size, global descriptor |
| `.h5` | HDF5 in the layout of hloc; can hold many images (`delf.formats.hdf5`) | |
| `.parquet` | Apache Parquet, one row per feature; can hold many images (`delf.formats.parquet`) | global descriptor |

All keep every float32 to the bit. A format is one module and one line in `FORMATS`; one that can hold many images has
a line in `CONTAINERS` as well, and is read by `open_images`, an image at a time. Beside features there are pairs
(`pairs`), matches of pairs (`matches`, in the layout of hloc) and databases of COLMAP (`colmap`), which `open_images`
reads as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeVar

from delf.errors import DelfError
from delf.formats import colmap, csv, hdf5, npz, parquet, protos
from delf.formats.assembly import UNKNOWN_SIZE
from delf.formats.container import Images
from delf.types import Features

__all__ = ["CONTAINERS", "FORMATS", "UNKNOWN_SIZE", "Container", "Format", "Images", "open_images", "read_features",
           "write_features", "write_images"]

_Value = TypeVar("_Value")


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
    ".parquet": Format(parquet.read, parquet.write),
}


class Container(NamedTuple):
    """How one kind of file with many images is read and written. write: takes names with features, and what they were
    made by, as JSON. require: raises `MissingDependencyError` where what it needs is not installed.
    """

    open: Callable[[Path], AbstractContextManager[Images]]
    write: Callable[[Path, Iterable[tuple[str, Features]], str], None]
    require: Callable[[], None]


CONTAINERS = {
    ".h5": Container(hdf5.open_images, hdf5.write_images, hdf5.require),
    ".parquet": Container(parquet.open_images, parquet.write_images, parquet.require),
}
_READ_ONLY = {".db": colmap.open_images}  # what else holds images; it is written with matches, which features are not


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


@contextmanager
def open_images(path: str | PathLike[str]) -> Iterator[Images]:
    """The images of a file with many, by name; each is read when it is asked for, so that memory stays small.

    Raises:
        DelfError: the file is missing, damaged, or of an unknown suffix.
        MissingDependencyError: what reads the format is not installed.
    """
    path = Path(path)
    known = {**{suffix: container.open for suffix, container in CONTAINERS.items()}, **_READ_ONLY}
    with _known(path, known, "file with many images")(path) as images:
        yield images


def write_images(path: str | PathLike[str], images: Iterable[tuple[str, Features]], about: str = "") -> None:
    """Write the features of many images into one file, in the format of its suffix, an image at a time.

    Args:
        images: names, such as paths relative to a folder with slashes, and features. about: what they were made by.

    Raises:
        DelfError: the suffix is unknown, the file cannot be written, or two names are the same.
        MissingDependencyError: what writes the format is not installed.
    """
    path = Path(path)
    _known(path, CONTAINERS, "file with many images").write(path, images, about)


def _format(path: Path) -> Format:
    return _known(path, FORMATS, "format of features")


def _known(path: Path, formats: Mapping[str, _Value], what: str) -> _Value:
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        raise DelfError(f"No {what} is known for {str(path)!r}: use one of the suffixes "
                        f"{', '.join(formats)}.") from None
