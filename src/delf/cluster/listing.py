"""Finding photos in folders and in object storage, each as the record by which a catalogue knows a file.

What is found below an address is what `delf.images.find_images` would find if it were a folder: by the same extensions,
in the order of the names, without what programs keep among photos and what patterns exclude. RAW files and videos are
passed over, since not all machines may have what reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delf.cluster.locations import filesystem_of, is_url, local_path, modified
from delf.collection.adding import file_key
from delf.collection.records import FileRecord
from delf.errors import ImageError
from delf.images import PassedOver, display_path, find_images
from delf.images.passing import Exclusion, is_kept_by_programs
from delf.images.paths import IMAGE_EXTENSIONS

_OnError = Callable[[ImageError], None]


def find_photos(roots: Iterable[str | os.PathLike[str]], *, exclude: Iterable[str] = (), on_error: _OnError,
                passed_over: PassedOver | None = None) -> Iterator[FileRecord]:
    """The photos in files, folders and below addresses, lazily.

    A local one is known by its absolute path, which must be the same on all machines that read it; others by their
    address. The time of a file in object storage is that of its last change. What lies below two roots is found once.

    Args:
        exclude: as for `find_images`. on_error: is told of folders that cannot be read.

    Raises:
        ImageError: a root is not there, before anything else is done.
    """
    listed, passed = [os.fspath(root) for root in roots], passed_over or PassedOver()
    patterns = [exclude] if isinstance(exclude, str) else list(exclude)
    seen = _Seen()
    walks = [_remote(root, Exclusion(patterns), on_error, passed, seen) for root in listed if local_path(root) is None]
    local = [path for path in map(local_path, listed) if path is not None]
    found = find_images(local, extensions=IMAGE_EXTENSIONS, exclude=patterns, on_error=on_error,
                        passed_over=passed)  # says what is missing at once
    return _chained((_recorded(path) for path in found), walks)


def _chained(first: Iterator[FileRecord], walks: list[Iterator[FileRecord]]) -> Iterator[FileRecord]:
    yield from first
    for walk in walks:
        yield from walk


def _recorded(path: Path) -> FileRecord:
    try:
        status = path.stat()
        size, time = status.st_size, status.st_mtime_ns
    except (OSError, ValueError):  # whoever reads it says what is wrong
        size, time = 0, 0
    return FileRecord(file_key(path), os.fsencode(path), size, time)


@dataclass
class _Seen:
    """In object storage: files that were given as roots, and folders that are walked, by their names there."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def is_new(self, folder: str) -> bool:
        """Whether a folder is met for the first time, which is noted."""
        known = folder in self.folders
        self.folders.add(folder)
        return not known


def _remote(url: str, exclusion: Exclusion, on_error: _OnError, passed: PassedOver,
            seen: _Seen) -> Iterator[FileRecord]:
    """What is below an address, or the file there. Raises at once where there is nothing."""
    files, root = filesystem_of(url)
    scheme = url.partition("://")[0]
    try:
        about = files.info(root)
    except Exception as error:  # its clients raise errors of many classes
        raise ImageError(f"There is nothing at {display_path(url)} ({type(error).__name__}: {error}): check the "
                         "address, your rights there and the network.") from error
    if about["type"] != "directory":
        known = about["name"] in seen.files
        seen.files.add(about["name"])
        return iter([] if known else [_remote_record(scheme, about)])
    return _walk(files, scheme, root, exclusion, on_error, passed, seen)


def _walk(files: Any, scheme: str, root: str, exclusion: Exclusion, on_error: _OnError, passed: PassedOver,
          seen: _Seen) -> Iterator[FileRecord]:
    above = [_entries(files, root, root, exclusion, on_error)] if seen.is_new(root) else []
    while above:
        about = next(above[-1], None)
        if about is None:
            above.pop()
        elif about["type"] == "directory":
            if seen.is_new(folder := about["name"].rstrip("/")):
                above.append(_entries(files, folder, root, exclusion, on_error))
        elif about["name"] in seen.files:
            continue
        elif (extension := Path(about["name"]).suffix.lower()) not in IMAGE_EXTENSIONS:
            passed.count(extension)
        else:
            yield _remote_record(scheme, about)


def _entries(files: Any, folder: str, root: str, exclusion: Exclusion, on_error: _OnError) -> Iterator[dict[str, Any]]:
    try:
        listed = files.ls(folder, detail=True)
    except Exception as error:
        on_error(ImageError(f"The folder {display_path(folder)} cannot be read ({type(error).__name__}: {error}), so "
                            "its images are missing: check your rights there and the network."))
        return iter([])
    kept = []
    for about in listed:
        path = about["name"].rstrip("/")
        name = path.rpartition("/")[2]
        if path != folder and not is_kept_by_programs(name, in_library=False) and not exclusion.excludes(
                root, path.removeprefix(root).lstrip("/")):
            kept.append((name.encode("utf-8", "surrogateescape"), about))
    return (about for _, about in sorted(kept, key=lambda pair: pair[0]))


def _remote_record(scheme: str, about: dict[str, Any]) -> FileRecord:
    url = os.fsencode(f"{scheme}://{about['name'].lstrip('/')}")
    return FileRecord(url, url, int(about.get("size") or 0), int(modified(about) * 1e9))


def source_of(record: FileRecord) -> str:
    """Where a photo is read: a path, or an address."""
    return os.fsdecode(record.path)


def is_remote(record: FileRecord) -> bool:
    """Whether it is in object storage."""
    return is_url(source_of(record))
