"""What is passed over when folders are walked: what programs keep beside photos, and what the user says.

These are copies in small of the photos that they lie beside, or photos that were thrown away. None of it is passed over
where it is itself what is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from delf.errors import OptionError

RAW_EXTENSIONS = frozenset({
    ".3fr", ".ari", ".arq", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf", ".fff", ".gpr", ".iiq",
    ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".raf", ".raw", ".rw2", ".rwl",
    ".sr2", ".srf", ".srw", ".x3f",
})
VIDEO_EXTENSIONS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".insv", ".m2t", ".m2ts", ".m4v", ".mkv", ".mod", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".tod", ".vob", ".webm", ".wmv",
})
CATALOGUE = "catalogue.sqlite"  # in each of our collections
UNDO = "undo.csv"  # says where files were that `delf.duplicates` has moved
UNDO_COLUMNS = ("source", "target", "bytes", "sha256")
_PACKAGES = {"raw": "rawpy", "video": "av"}  # by the extra that brings them

# Names of folders, in lower case. (What begins with a dot is hidden, and passed over anyway.)
_FOLDERS = re.compile("|".join((
    "@eadir", "#recycle", "#snapshot", "@tmp",  # Synology
    "@recycle", "@recently-snapshot", "@__thumb", "@transcode", "network recycle bin.*", "trashbox",  # QNAP, Buffalo
    r"\$recycle\.bin", "recycle bin", "recycler", "recycled", "system volume information",
    r"found\.[0-9]{3}",  # Windows
    "__macosx", "network trash folder", "temporary items",  # Apple
    r"lost\+found", r"lost\.dir", "trash",  # Linux, Android, Google
    "files_trashbin", "files_versions", "appdata_oc.*",  # Nextcloud
    "_?thumbs", "_?thumbnails", "xnviewthumbs", "thmbnl",
    r".*\.lrdata",  # Lightroom: previews of all kinds
    r".*\.trickplay",  # Jellyfin
)))
# Of a library of Apple's Photos, iPhoto or Aperture, only the originals are photos; all else is made from them.
_LIBRARY = re.compile(r".*\.(photoslibrary|(migrated)?photolibrary|(migrated)?aplibrary)|iphoto library")
_ORIGINALS = frozenset({"originals", "masters"})


def is_library(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a library of Apple's programs."""
    return bool(_LIBRARY.fullmatch(os.path.basename(os.path.abspath(folder)).lower()))  # noqa: PTH100, PTH119


def is_kept_by_programs(name: str, *, in_library: bool) -> bool:
    """Whether a name is one of those that programs keep beside photos."""
    lower = name.lower()
    if in_library:
        return lower not in _ORIGINALS
    return lower.startswith(".") or bool(_FOLDERS.fullmatch(lower))


def is_collection(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of our own collections, in which there may be reduced copies of photos."""
    return os.path.isfile(os.path.join(folder, CATALOGUE)) and (  # noqa: PTH113, PTH118
        os.fspath(folder).endswith(".delf") or os.path.isdir(os.path.join(folder, "segments")))  # noqa: PTH112, PTH118


def is_aside(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has files that were moved aside as duplicates, and would be taken for photos that have moved."""
    try:
        with open(os.path.join(folder, UNDO), "rb") as file:  # noqa: PTH118, PTH123
            return file.readline(100).rstrip() == ",".join(UNDO_COLUMNS).encode()
    except OSError:
        return False


class Exclusion:
    """Patterns of what is not wanted: of names, of paths relative to the folder that is walked, or of absolute paths.

    They may have `*`, `?` and `[...]`; a `*` stands for any characters, separators too.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises `OptionError` for an empty pattern."""
        given = [patterns] if isinstance(patterns, str) else list(patterns)
        trimmed = [_plain(pattern).removeprefix("./").rstrip("/") for pattern in given]
        if not all(trimmed):
            raise OptionError("A pattern of what to exclude is empty: give a name or a path, such as '*.gif' or "
                              "'2019/private'.")
        self._match = re.compile("|".join(map(translate, trimmed))).match if trimmed else None
        self._has_absolute = any(os.path.isabs(pattern) for pattern in given)  # noqa: PTH117

    def excludes(self, root: str | os.PathLike[str], relative: str) -> bool:
        """Whether something below a folder, by its path relative to that, is not wanted."""
        if self._match is None:
            return False
        path = _plain(relative)
        return bool(self._match(path.rpartition("/")[2]) or self._match(path) or (
            self._has_absolute and self._match(f"{_plain(os.path.abspath(root)).rstrip('/')}/{path}")))  # noqa: PTH100


def _plain(path: str) -> str:
    """A path with slashes, and without capitals where the system does not mind them."""
    return os.path.normcase(path).replace(os.sep, "/")


def has_extra(extra: str) -> bool:
    """Whether the package is installed that reads a kind of files: "raw" or "video"."""
    return importlib.util.find_spec(_PACKAGES[extra]) is not None


def is_video(path: str | bytes | os.PathLike[str]) -> bool:
    """Whether a file is a video by its name."""
    return os.path.splitext(os.fsdecode(path))[1].lower() in VIDEO_EXTENSIONS  # noqa: PTH122


@dataclass
class PassedOver:
    """How many RAW files of cameras, and videos, were passed over since they are not read."""

    raw: int = 0
    videos: int = 0

    def count(self, extension: str) -> None:
        """Count a file by its extension in lower case."""
        self.raw += extension in RAW_EXTENSIONS
        self.videos += extension in VIDEO_EXTENSIONS
