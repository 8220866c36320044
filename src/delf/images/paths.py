"""Finding the images below some folders, and printing any path."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from delf.errors import ImageError

IMAGE_EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif",
    ".hif", ".avif",
})

_Identity = tuple[int, int]
_OnError = Callable[[ImageError], None]


def display_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""A path as printable text: a newline becomes `\n`, a byte that is not UTF-8 `\xff`.

    For messages only: it cannot be turned back into the path, since a backslash stays as it is.
    """
    return printable(os.fsdecode(path))


def printable(text: str) -> str:
    """Any text on one line of printable characters."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # what `surrogateescape` makes of an undecodable byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def find_images(
    roots: Iterable[str | os.PathLike[str]], *,
    extensions: Collection[str] = IMAGE_EXTENSIONS,
    on_error: _OnError | None = None,
) -> Iterator[Path]:
    """The image files below `roots`, lazily, in an order that depends on the names alone.

    A root that is a file is yielded as it is, whatever its name. A root that is a folder is walked: names in
    the order of their bytes, each folder at the place of its name. Only the names of one folder per level are
    in memory.

    - A file counts by its extension, upper or lower case. What cannot be read although its name says image (a
      broken link, a pipe) is yielded too, so that reading it reports it.
    - Hidden files and folders (a name that starts with a dot) are skipped, and so are our own collections:
      folders named `*.delf` that hold a `catalogue.sqlite`. A hidden root is walked.
    - Links are followed, except to a folder that is being walked already. A folder with two names is walked
      twice.

    A folder that cannot be read becomes an `ImageError`: given to `on_error`, after which the walk goes on,
    or raised where there is no `on_error`. A missing root raises `ImageError` at once, before anything is
    yielded.
    """
    paths = [Path(root) for root in roots]
    for path in paths:
        _require_existing(path)
    wanted = frozenset(extension.lower() for extension in extensions)
    return _walk_all(paths, wanted, on_error)


def _require_existing(path: Path) -> None:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(
            f"There is no file or folder {display_path(path)} ({reason}): check the path.") from error


def _walk_all(roots: list[Path], extensions: frozenset[str], on_error: _OnError | None) -> Iterator[Path]:
    for root in roots:
        if root.is_dir():
            yield from _walk(root, extensions, on_error)
        else:
            yield root


def _walk(root: Path, extensions: frozenset[str], on_error: _OnError | None) -> Iterator[Path]:
    open_folders: list[tuple[_Identity, Iterator[os.DirEntry[str]]]] = []  # from the root to where we are

    def enter(folder: str | Path) -> None:
        try:
            status = Path(folder).stat()
            identity = (status.st_dev, status.st_ino)
            if all(identity != above for above, _ in open_folders):
                open_folders.append((identity, iter(_entries(folder))))
        except OSError as error:
            _report(folder, error, on_error)

    enter(root)
    while open_folders:
        entry = next(open_folders[-1][1], None)
        if entry is None:
            open_folders.pop()
        elif _is_folder(entry):
            enter(entry.path)
        elif Path(entry.name).suffix.lower() in extensions:
            yield Path(entry.path)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is to be visited in a folder, in the order of the names' bytes."""
    with os.scandir(folder) as scan:
        entries = [entry for entry in scan if not entry.name.startswith(".")]
    if os.fspath(folder).endswith(".delf") and any(entry.name == "catalogue.sqlite" for entry in entries):
        return []
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look
        return False


def _report(folder: str | Path, error: OSError, on_error: _OnError | None) -> None:
    problem = ImageError(f"The folder {display_path(folder)} cannot be read ({error.strerror}), so its "
                         "images are missing: change its permissions or leave it out.")
    if on_error is None:
        raise problem from error
    on_error(problem)
