"""Features as HDF5 in the layout of hloc (cvg/Hierarchical-Localization): one file, many images.

Each image is a group named by its path, with the datasets `keypoints` (N, 2), `descriptors` (D, N), `scores` (N,),
`scales` (N,), `image_size` (width, height) and, where there is one, `global_descriptor` (G,). The origin of hloc's
keypoints is ours, the centre of the first pixel. Its own files may be float16, and may lack scales or scores: these are
then 1.

The bytes are parsed by the HDF5 library. Sizes are compared with the size of the file before memory is taken; links to
other files and compression, which would get around that, are refused.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, missing_dependency
from delf.files import replacing
from delf.formats.assembly import UNKNOWN_SIZE, assemble, writable
from delf.formats.files import MAX_BYTES, damaged, require_file
from delf.types import Features


def write(path: Path, features: Features) -> None:
    """Write the features of one image, named as the file without its suffix.

    Raises:
        DelfError: the file cannot be written, or a value is not finite.
        MissingDependencyError: h5py is not installed.
    """
    write_images(path, [(path.stem, features)])


def read(path: Path) -> Features:
    """Read the features of the only image in a file.

    Raises:
        DelfError: the file is missing or damaged, or holds no image or several.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        names = _names(file)
        if len(names) != 1:
            raise DelfError(f"{str(path)!r} holds {len(names)} images, not one: read them with "
                            "delf.formats.hdf5.read_images.")
        return _read_group(file, names[0], path)


def read_images(path: Path) -> Iterator[tuple[str, Features]]:
    """The name and the features of each image in a file, one at a time, in the order of the names.

    A name is what the file says: do not make a path of it without looking.

    Raises:
        DelfError: the file is missing or damaged.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        for name in _names(file):
            yield name, _read_group(file, name, path)


def write_images(path: Path, images: Iterable[tuple[str, Features]]) -> None:
    """Write the features of images under their names, e.g. their paths relative to a folder, with slashes.

    Raises:
        DelfError: the file cannot be written, a value is not finite, or two names are the same or cannot be names.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _h5py()
    with replacing(path, locked=False) as temporary, _told(path), h5py.File(temporary, "w") as file:
        for name, features in images:
            try:
                name.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DelfError(f"{name!a} is not text, which the names of images in {str(path)!r} must be: "
                                "rename the photo, or choose another format.") from error
            if "\0" in name or not {"", "."}.isdisjoint(name.split("/")):  # HDF5 would change or refuse it
                raise DelfError(f"{name!r} cannot name an image in {str(path)!r}: give a path relative to a folder.")
            if name in file:
                raise DelfError(f"{name!r} is there twice, so {str(path)!r} was not written: give every image its "
                                "own name.")
            arrays = vars(writable(features, path))
            group = file.create_group(name)
            for key in arrays:
                if arrays[key] is not None:
                    group[key] = arrays[key].T if key == "descriptors" else arrays[key]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what h5py raises when it cannot write, of which some is no `OSError`, into a `DelfError`."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError) as error:
        raise DelfError(f"{str(path)!r} could not be written ({str(error)[:200]}): check the disk.") from error


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise missing_dependency("h5py", "h5", "a .h5 file") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = _h5py()
    require_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DelfError:
        raise
    except Exception as error:  # h5py raises many unrelated classes on damaged files
        raise damaged(path, error) from error


def _names(file: Any) -> list[str]:
    """The groups that hold keypoints. Links to other places are not followed."""
    paths: list[str] = []
    file.visit(paths.append)
    return sorted(path.removesuffix("/keypoints") for path in paths if path.endswith("/keypoints"))


def _read_group(file: Any, name: str, path: Path) -> Features:
    names = ("keypoints", "descriptors", "scales", "scores", "image_size", "global_descriptor")
    arrays = {key: array for key in names if (array := _array(file[name], key, path.stat().st_size)) is not None}
    for key in ("keypoints", "descriptors"):
        if key not in arrays:
            raise ValueError(f"the image {name!r} has no {key}")
    for key in ("scales", "scores"):
        arrays.setdefault(key, np.ones(len(arrays["keypoints"])))
    size = arrays.pop("image_size", np.array(UNKNOWN_SIZE))
    if size.shape != (2,) or size.dtype.kind not in "iu":
        raise ValueError(f"the image_size of {name!r} is not two whole numbers")
    arrays["descriptors"] = arrays["descriptors"].T
    return assemble(**arrays, image_size=(int(size[0]), int(size[1])))


def _array(group: Any, name: str, limit: int) -> NDArray[Any] | None:
    """A dataset of numbers whose bytes lie in the file itself, and so are no more than `limit`; None without one."""
    h5py = _h5py()
    link = group.get(name, getlink=True)  # looked at before it is followed: it could lead to another file
    if link is None:
        return None
    dataset = group[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu" or dataset.ndim > 2:
        raise ValueError(f"{name!r} is not an array of numbers")
    if dataset.is_virtual or dataset.external or dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name!r} is compressed or lies in another file; 'h5repack -f NONE' makes a plain copy")
    largest = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
    if dataset.dtype.itemsize * largest > min(limit, MAX_BYTES):
        raise ValueError(f"{name!r} says that it is larger than the file")
    return np.asarray(dataset[()])
