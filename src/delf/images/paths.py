"""Finding the images below some folders, and printing any path."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from delf.errors import ImageError
from delf.images.passing import (
    CATALOGUE,
    RAW_EXTENSIONS,
    UNDO,
    VIDEO_EXTENSIONS,
    Exclusion,
    PassedOver,
    has_extra,
    is_aside,
    is_collection,
    is_kept_by_programs,
    is_library,
)

IMAGE_EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif",
    ".hif", ".avif",
})

_Identity = tuple[int, int] | str
_OnError = Callable[[ImageError], None]


def photo_extensions(*, videos: bool = False) -> frozenset[str]:
    """Of which names files can be read: pictures, RAW files where the extra `raw` is installed, and, where they are
    wanted and the extra `video` is installed, videos.
    """
    raw = RAW_EXTENSIONS if has_extra("raw") else frozenset[str]()
    return IMAGE_EXTENSIONS | raw | (VIDEO_EXTENSIONS if videos and has_extra("video") else frozenset())


def named_paths(given: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Paths of what was given. Raises `ImageError` for what is no path, and for an empty text, which would be the
    folder that one is in.
    """
    named = list(given)
    for one in named:
        if not isinstance(one, str | os.PathLike):
            raise ImageError(f"A path is a text or a pathlib.Path, not {type(one).__name__!r}.")
    if not all(map(os.fspath, named)):
        raise ImageError("A path is empty: give one, such as . for the folder that the program runs in.")
    return [Path(one) for one in named]


def display_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    r"""A path as printable text: a newline becomes `\n`, a byte that is not UTF-8 `\xff`.

    For messages only: it cannot be turned back into the path, since a backslash stays as it is.
    """
    return printable(os.fsdecode(path))


def printable(text: str) -> str:
    """Any text on one line of printable characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # what `surrogateescape` makes of an undecodable byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def find_images(
    roots: Iterable[str | os.PathLike[str]], *,
    extensions: Collection[str] | None = None,
    exclude: Iterable[str] = (),
    on_error: _OnError | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[Path]:
    """The image files below `roots`, lazily, in an order that depends on the names alone.

    A root that is a file is yielded as it is, whatever its name. A root that is a folder is walked: names in
    the order of their bytes, each folder at the place of its name. Only the names of one folder per level are
    in memory, and what identifies each folder where there are several roots.

    - A file counts by its extension, upper or lower case; without `extensions`, by `photo_extensions()`. What cannot
      be read although its name says image (a broken link, a pipe) is yielded too, so that reading it reports it. RAW
      files of cameras and videos that do not count are counted in `passed_over`.
    - Passed over are hidden files and folders (a name that starts with a dot), what programs keep beside photos
      (`delf.images.passing`: thumbnails, previews, bins), our own collections, folders to which duplicates were
      moved, and what a pattern of `exclude` matches: its name, its path relative to the root, or its absolute path.
      A root that is one of these itself is walked; a root that is a file is not yielded where a pattern matches its
      name.
    - Links are followed, except to a folder that is being walked already. A folder with two names below one root is
      walked twice; what lies inside of two roots, however they are written, is yielded once, at the first of them.

    A folder that cannot be read becomes an `ImageError`: given to `on_error`, after which the walk goes on,
    or raised where there is no `on_error`. A missing root raises `ImageError` at once, and an empty pattern
    `OptionError`, before anything is yielded.
    """
    paths = named_paths(roots)
    for path in paths:
        _require_existing(path)
    wanted = photo_extensions() if extensions is None else extensions
    walk = _Walk(frozenset(extension.lower() for extension in wanted), Exclusion(exclude), on_error,
                 passed_over or PassedOver(), several=len(paths) > 1)
    return walk.all(paths)


def is_walked(path: Path, root: Path, exclude: Iterable[str] = ()) -> bool:
    """Whether `find_images` of a root comes to a path at or below it, as far as its names say. Both are absolute."""
    exclusion, parts = Exclusion(exclude), path.relative_to(root).parts
    folder, relative = root, ""
    for part in parts:
        if (is_kept_by_programs(part, in_library=is_library(folder)) or exclusion.excludes(root, relative + part)
                or is_collection(folder) or (relative and is_aside(folder))):
            return False
        folder, relative = folder / part, f"{relative}{part}/"
    return True


def _require_existing(path: Path) -> None:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(
            f"There is no file or folder {display_path(path)} ({reason}): check the path.") from error


@dataclass
class _Walk:
    """One call of `find_images`.

    walked: of the roots before this one, the folders by identity, with their root and their path relative to it.
    files: the roots that were files, by the identity of their folder and their name.
    """

    extensions: frozenset[str]
    exclusion: Exclusion
    on_error: _OnError | None
    passed_over: PassedOver
    several: bool
    walked: dict[_Identity, tuple[Path, str]] = field(default_factory=dict)
    files: set[tuple[_Identity, str]] = field(default_factory=set)

    def all(self, roots: list[Path]) -> Iterator[Path]:
        for root in roots:
            if root.is_dir():
                yield from self._folder(root)
            elif not self.exclusion.excludes(root.parent, root.name) and not (self.several and self._is_known(root)):
                yield root

    def _is_known(self, root: Path) -> bool:
        """Whether a file was yielded for an earlier root; if not, it is noted."""
        try:
            folder = _identity(root.parent)
        except OSError:  # gone by now; reading the file says so
            return False
        if (folder, root.name) in self.files:
            return True
        self.files.add((folder, root.name))
        if folder not in self.walked:
            return False
        walked_root, relative = self.walked[folder]
        return (Path(root.name).suffix.lower() in self.extensions
                and not is_kept_by_programs(root.name, in_library=is_library(root.parent))
                and not self.exclusion.excludes(walked_root, relative + root.name))

    def _folder(self, root: Path) -> Iterator[Path]:
        # From the root to where we are: the identity of each folder, its path relative to the root, and what is in it.
        above: list[tuple[_Identity, str, Iterator[os.DirEntry[str]]]] = []
        entered: dict[_Identity, tuple[Path, str]] = {}

        def enter(folder: str | Path, relative: str) -> None:
            try:
                identity = _identity(folder)
                if identity in self.walked or any(identity == known for known, *_ in above):
                    return
                above.append((identity, relative, iter(self._entries(folder, root, relative))))
                if self.several:
                    entered[identity] = (root, relative)
            except OSError as error:
                _report(folder, error, self.on_error)

        enter(root, "")
        while above:
            identity, relative, entries = above[-1]
            entry = next(entries, None)
            if entry is None:
                above.pop()
            elif _is_folder(entry):
                enter(entry.path, f"{relative}{entry.name}/")
            elif (extension := os.path.splitext(entry.name)[1].lower()) not in self.extensions:  # noqa: PTH122 (time)
                self.passed_over.count(extension)
            elif (identity, entry.name) not in self.files:
                yield Path(entry.path)
        self.walked |= entered

    def _entries(self, folder: str | Path, root: Path, relative: str) -> list[os.DirEntry[str]]:
        """The files and folders to visit in a folder, in the order of the bytes of their names."""
        in_library = is_library(folder)
        with os.scandir(folder) as scan:
            found = list(scan)
        names = {entry.name for entry in found if entry.name in (CATALOGUE, UNDO)}
        if (CATALOGUE in names and is_collection(folder)) or (UNDO in names and relative and is_aside(folder)):
            return []
        entries = [entry for entry in found if not is_kept_by_programs(entry.name, in_library=in_library)
                   and not self.exclusion.excludes(root, relative + entry.name)]
        return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _identity(folder: str | Path) -> _Identity:
    """A value that is equal for two names of one folder."""
    status = Path(folder).stat()
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we may not look
        return False


def _report(folder: str | Path, error: OSError, on_error: _OnError | None) -> None:
    problem = ImageError(f"The folder {display_path(folder)} cannot be read ({error.strerror or error}), so its "
                         "images are missing: change its permissions or leave it out.")
    if on_error is None:
        raise problem from error
    on_error(problem)
