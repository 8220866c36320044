"""Features as HDF5 in the layout of hloc (cvg/Hierarchical-Localization): one file, many images.

Each image is a group named by its path, with the datasets `keypoints` (N, 2), `descriptors` (D, N), `scores` (N,),
`scales` (N,), `image_size` (width, height) and, where there are some, `global_descriptor` (G,) and `orientations`
(N,). The origin of hloc's keypoints is ours, the centre of the first pixel; it adds the half pixel of COLMAP by
itself. Its own files may be float16, and may lack scales or scores: these are then 1. The attribute `delf` of the file
says by which model and options it was made.

The bytes are parsed by the HDF5 library. Sizes are compared with the size of the file before memory is taken; links to
other files and compression, which would get around that, are refused.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, missing_dependency
from delf.files import replacing
from delf.formats.assembly import UNKNOWN_SIZE, assemble, writable
from delf.formats.container import Images, only_one, require_text
from delf.formats.files import MAX_BYTES, damaged, require_file
from delf.types import Features

ABOUT = "delf"
_LONGEST_ABOUT = 2**16


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
    with open_images(path) as images:
        return only_one(images, path)


@contextlib.contextmanager
def open_images(path: Path) -> Iterator[Images]:
    """The images of a file, in the order of their names, each read when it is asked for.

    Raises:
        DelfError: the file is missing or damaged.
        MissingDependencyError: h5py is not installed.
    """
    with opened(path) as file:
        with parsing(path):
            names, about = _names(file), about_of(file)

        def read_one(name: str) -> Features:
            with parsing(path):
                return _read_group(file, name, path)

        yield Images(names, read_one, about)


def read_images(path: Path) -> Iterator[tuple[str, Features]]:
    """The name and the features of each image in a file, one at a time, in the order of the names. Raises as above."""
    with open_images(path) as images:
        yield from images.items()


def write_images(path: Path, images: Iterable[tuple[str, Features]], about: str = "") -> None:
    """Write the features of images under their names, e.g. their paths relative to a folder, with slashes.

    Args:
        about: what they were made by, as JSON.

    Raises:
        DelfError: the file cannot be written, a value is not finite, or two names are the same or cannot be names.
        MissingDependencyError: h5py is not installed.
    """
    with created(path) as file:
        if about:
            file.attrs[ABOUT] = about
        for name, features in images:
            require_text(name, path)
            if name in file:
                raise DelfError(f"{name!r} is there twice, so {str(path)!r} was not written: give every image its "
                                "own name.")
            arrays = vars(writable(features, path))
            group = file.create_group(name)
            for key in arrays:
                if arrays[key] is not None:
                    group[key] = arrays[key].T if key == "descriptors" else arrays[key]


@contextlib.contextmanager
def created(path: Path) -> Iterator[Any]:
    """A new `h5py.File`, which takes the place of `path` when the block ends well.

    Raises:
        DelfError: it cannot be written.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _h5py()
    with replacing(path) as temporary:
        raw = _Raw(temporary, "r+")
        try:
            with _told(path), io.BufferedRandom(raw) as stream, h5py.File(stream, "w") as file:
                yield file
        except Exception:
            if raw.failure is not None:
                raise raw.failure from None
            raise


class _Raw(io.FileIO):
    """A file that HDF5 writes to by way of Python: where the disk is full, it would otherwise end the process.

    failure: why the file could not be written, which h5py says in many ways.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """As `io.FileIO` does."""
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = error
            raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what h5py raises when it cannot write, of which some is no `OSError`, into a `DelfError`."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError) as error:
        raise DelfError(f"{str(path)!r} could not be written ({str(error)[:200]}): check the disk.") from error


def require() -> None:
    """Raise a `MissingDependencyError` where h5py is not installed."""
    _h5py()


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise missing_dependency("h5py", "h5", "a .h5 file") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An `h5py.File` to be read; what is done with it belongs into `parsing`.

    Raises:
        DelfError: the file is missing, or no HDF5.
        MissingDependencyError: h5py is not installed.
    """
    h5py = _h5py()
    require_file(path)
    with parsing(path):
        file = h5py.File(path, "r")
    try:
        yield file
    finally:
        with contextlib.suppress(Exception):  # nothing was written, and damage has been told
            file.close()


@contextlib.contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what h5py raises on damaged files, which are many unrelated classes, into a `DelfError`."""
    try:
        yield
    except DelfError:
        raise
    except Exception as error:
        raise damaged(path, error) from error


def _names(file: Any) -> list[str]:
    """The groups that hold keypoints. Links to other places are not followed."""
    paths: list[str] = []
    file.visit(paths.append)
    return sorted(path.removesuffix("/keypoints") for path in paths if path.endswith("/keypoints"))


def about_of(file: Any) -> str:
    """What the file says of itself; "" where that is no text of a sensible length."""
    if ABOUT not in file.attrs or file.attrs.get_id(ABOUT).get_storage_size() > _LONGEST_ABOUT:
        return ""
    about = file.attrs[ABOUT]
    return about[:_LONGEST_ABOUT] if isinstance(about, str) else ""


def _read_group(file: Any, name: str, path: Path) -> Features:
    names = ("keypoints", "descriptors", "scales", "scores", "image_size", "global_descriptor", "orientations")
    arrays = {key: array for key in names if (array := read_array(file[name], key, path.stat().st_size)) is not None}
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


def is_own(place: Any, name: str) -> bool:
    """Whether a group has an object of a name, and in the file itself, not behind a link."""
    return isinstance(place, _h5py().Group) and isinstance(place.get(name, getlink=True), _h5py().HardLink)


def read_array(group: Any, name: str, limit: int) -> NDArray[Any] | None:
    """A dataset of numbers whose bytes lie in the file itself, and so are no more than `limit`; None without one."""
    if group.get(name, getlink=True) is None:
        return None
    dataset = group[name] if is_own(group, name) else None  # a link could lead to another file
    if not isinstance(dataset, _h5py().Dataset) or dataset.dtype.kind not in "fiu" or dataset.ndim > 2:
        raise ValueError(f"{name!r} is not an array of numbers")
    if dataset.is_virtual or dataset.external or dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name!r} is compressed or lies in another file; 'h5repack -f NONE' makes a plain copy")
    largest = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
    if dataset.dtype.itemsize * largest > min(limit, MAX_BYTES):
        raise ValueError(f"{name!r} says that it is larger than the file")
    return np.asarray(dataset[()])
