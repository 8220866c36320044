"""A file with the features of many images, read one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from delf.errors import DelfError
from delf.types import Features

LONGEST_NAME = 4096  # bytes of a path on Linux


class Images(Mapping[str, Features]):
    """The images of a file by name; each is read when it is asked for, and none is kept.

    A name is what the file says: make a path of it by `inside` only. about: what the file says that it was made by, as
    JSON; "" where it says nothing.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Features], about: str = "") -> None:
        self._names = dict.fromkeys(names)
        self._read = read
        self.about = about

    def __getitem__(self, name: str) -> Features:
        """The features of an image. Raises `KeyError` for a name that there is not, `DelfError` where it is damaged."""
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


def only_one(images: Images, path: Path) -> Features:
    """The features of the only image in a file.

    Raises:
        DelfError: it holds none, or several.
    """
    if len(images) != 1:
        raise DelfError(f"{str(path)!r} holds {len(images)} images, not one: read them with "
                        "delf.formats.open_images.")
    return images[next(iter(images))]


def require_text(name: str, path: Path) -> None:
    """Refuse what cannot be the name of an image in the file at `path`: no text, too long, or no path in a folder.

    Raises:
        DelfError: it is such a name.
    """
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise DelfError(f"{name!a} is not text, which the names of images in {str(path)!r} must be: "
                        "rename the photo, or choose another format.") from error
    parts = name.split("/")
    if "\0" in name or length > LONGEST_NAME or not {"", ".", ".."}.isdisjoint(parts):
        raise DelfError(f"{name[:200]!r} cannot name an image in {str(path)!r}: give a path relative to a folder.")


def inside(folder: Path, name: str) -> Path:
    """The path below `folder` that a name from a file stands for, which never leads out of it.

    Raises:
        DelfError: the name is that of another place, or of none.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or len(name) > LONGEST_NAME or parts[0] == "/" or ".." in parts:
        raise DelfError(f"{name[:200]!r} leads out of the folder {str(folder)!r}, so that no file is made of it: "
                        "rename the image where it comes from.")
    return folder.joinpath(*parts)
