"""Which files of a collection are the same photo, and which of them is the best.

Exact copies are files of one content, which a collection knows as one image. Near-duplicates are images that are nearly
the same picture, by the rule of `delf.grouping` that marks them in `delf explore`: their best files are a group. So a
file is to spare in one group at most, and what is left without the spare files of all groups is one file of each photo.

The best is the file with most pixels, then with most bytes (of pictures of one size, mostly the sharper one and the one
that was compressed less), then the one with the earliest time of exposure, then of change, then the first path.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from delf.collection import Collection
from delf.collection.records import FileRecord
from delf.duplicates.table import table_bytes
from delf.extractors import Own
from delf.files import write_atomically
from delf.grouping import DuplicateOptions, PairOptions, match_collection, near_duplicates, originals
from delf.images import display_path, is_video
from delf.images.frames import as_frame

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DuplicateFile:
    """A file of the collection that is there as it was indexed.

    key: the SHA-256 of its content, as 64 hexadecimal digits. width, height: pixels of the upright picture. size:
    bytes. mtime_ns: when it was changed. captured_at: the time of the exposure, as EXIF has it (ISO 8601).
    """

    path: Path
    key: str
    width: int
    height: int
    size: int
    mtime_ns: int
    captured_at: str | None

    @property
    def order(self) -> tuple[Any, ...]:
        """What files are sorted by, so that the best one comes first."""
        return (-self.width * self.height, -self.size, self.captured_at is None, self.captured_at or "", self.mtime_ns,
                os.fsencode(self.path))

    def to_json(self) -> dict[str, Any]:
        """The fields of the file, for JSON."""
        return {"file": str(self.path), "key": self.key, "width": self.width, "height": self.height, "bytes": self.size,
                "captured_at": self.captured_at}


@dataclass(frozen=True)
class DuplicateGroup:
    """Files of one photo, at least two, the best first. kind: "copy" for exact copies, "near" for near-duplicates."""

    kind: Literal["copy", "near"]
    files: tuple[DuplicateFile, ...]

    @property
    def keep(self) -> DuplicateFile:
        """The best."""
        return self.files[0]

    @property
    def spare(self) -> tuple[DuplicateFile, ...]:
        """All but the best."""
        return self.files[1:]

    @property
    def bytes(self) -> int:
        """How many the spare files have."""
        return sum(file.size for file in self.spare)

    def to_json(self) -> dict[str, Any]:
        """An object of the array that `delf duplicates --json` prints."""
        return {"kind": self.kind, "keep": str(self.keep.path), "files": [str(file.path) for file in self.files],
                "bytes": self.bytes, "details": [file.to_json() for file in self.files]}


@dataclass(frozen=True)
class Duplicates:
    """The groups of a collection, exact copies before near-duplicates, of each kind first those with most to spare.

    folder: of the collection. root: the folder that all of its files lie below. left_out: a sentence for each file that
    would belong to a group, and is gone, changed, or no file of its own. images: how many there are; done: how many
    were looked at, fewer where that was interrupted.
    """

    folder: Path
    root: Path
    groups: tuple[DuplicateGroup, ...]
    left_out: tuple[str, ...]
    images: int
    done: int

    @property
    def interrupted(self) -> bool:
        """Whether images are left that were not looked at; the next call goes on from there."""
        return self.done < self.images

    @property
    def spare(self) -> int:
        """How many files are to spare."""
        return sum(len(group.spare) for group in self.groups)

    @property
    def bytes(self) -> int:
        """How many they have."""
        return sum(group.bytes for group in self.groups)

    def to_json(self) -> list[dict[str, Any]]:
        """The array that `delf duplicates --json` prints."""
        return [group.to_json() for group in self.groups]

    def write_csv(self, path: str | Path) -> None:
        """A row for each file, group by group.

        Raises:
            DelfError: the place cannot be written.
        """
        write_atomically(Path(path), duplicates_csv(self))


def duplicates_csv(found: Duplicates) -> bytes:
    """What `Duplicates.write_csv` writes."""
    rows = ((number, group.kind, "yes" if file is group.keep else "no", str(file.path), file.width, file.height,
             file.size, file.captured_at or "", file.key)
            for number, group in enumerate(found.groups, start=1) for file in group.files)
    return table_bytes(("group", "kind", "keep", "file", "width", "height", "bytes", "captured_at", "sha256"), rows)


def find_duplicates(collection: Collection, extractor: Own | None = None, *, near: bool = True,
                    pair_options: PairOptions | None = None, options: DuplicateOptions | None = None,
                    progress: Progress = lambda done, total: None,
                    preparing: Progress = lambda done, total: None) -> Duplicates:
    """The files that a collection has more than once. Nothing is extracted, and no photo is opened.

    A near-duplicate is one of the file that is kept: of a chain a, b, c in which only neighbours are nearly the same
    picture, c is in no group where a is the best, or in another one.

    Args:
        near: whether the collection is matched with itself for near-duplicates; exact copies are known without that.
        extractor, pair_options, progress, preparing: as for `delf.grouping.match_collection`. options: what is nearly
            the same.

    Raises:
        CollectionError: the model of the collection is not to be had, or there is no room for the pairs.
    """
    images = done = len(collection)
    same: Mapping[int, set[int]] = {}
    if near:
        pairs = match_collection(collection, extractor, pair_options, progress=progress, preparing=preparing)
        same, images, done = near_duplicates(pairs, options), pairs.images, pairs.done
    records, root = _files(collection)
    looked = _Looked(collection)
    there = {image: files for image, known in records.items() if len(known) > 1 or image in same
             if (files := looked.files(image, known))}
    groups = [*_sorted("copy", (files for files in there.values() if len(files) > 1)),
              *_sorted("near", _near({image: files[0] for image, files in there.items()}, same))]
    return Duplicates(collection.folder, root, tuple(groups), tuple(looked.left_out), images, done)


def _files(collection: Collection) -> tuple[dict[int, list[FileRecord]], Path]:
    """The files of each image, by ordinal, and the folder that all lie below."""
    snapshot = collection.snapshot
    ordinals = {snapshot.key_of(ordinal): ordinal for ordinal in np.flatnonzero(snapshot.alive).tolist()}
    records: dict[int, list[FileRecord]] = defaultdict(list)
    root = b""
    for record, key in collection.catalogue.files():
        if not record.path.startswith(b"/") or os.path.normpath(record.path) != record.path:
            continue  # which nobody wrote who indexes photos
        if as_frame(record.path) is not None or is_video(record.path):
            continue  # a frame is no file that could be moved away
        folder = os.path.dirname(record.path)  # noqa: PTH120 (bytes)
        root = os.path.commonpath([root, folder]) if root else folder
        if (ordinal := ordinals.get(key.hex())) is not None:  # else it was added since
            records[ordinal].append(record)
    return records, Path(os.fsdecode(root or b"/"))


def _sorted(kind: Literal["copy", "near"], groups: Iterable[list[DuplicateFile]]) -> list[DuplicateGroup]:
    """Groups, first those with most to spare."""
    made = [DuplicateGroup(kind, tuple(files)) for files in groups]
    return sorted(made, key=lambda group: (-group.bytes, os.fsencode(group.keep.path)))


def _near(best: Mapping[int, DuplicateFile], same: Mapping[int, set[int]]) -> Iterable[list[DuplicateFile]]:
    """The near-duplicates of each image that is kept, with it. best: the best file of each image."""
    images = sorted((image for image in best if image in same), key=lambda image: best[image].order)
    groups: dict[int, list[DuplicateFile]] = defaultdict(list)
    for image, original in originals(images, same).items():
        groups[image if original is None else original].append(best[image])
    return (files for files in groups.values() if len(files) > 1)


class _Looked:
    """Looks at files; a file that has several names is one file."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._names: dict[tuple[int, int], Path] = {}
        self.left_out: list[str] = []

    def files(self, image: int, records: Iterable[FileRecord]) -> list[DuplicateFile]:
        """The files of an image that exist and have not changed since they were indexed, the best first."""
        snapshot = self._collection.snapshot
        key, (width, height) = snapshot.key_of(image), snapshot.size(image)
        captured_at = snapshot.image(image).captured_at
        made = [DuplicateFile(Path(os.fsdecode(record.path)), key, width, height, record.size, record.mtime_ns,
                              captured_at) for record in records]
        return [file for file in sorted(made, key=lambda file: file.order) if self._is_there(file)]

    def _is_there(self, file: DuplicateFile) -> bool:
        status = look_at(file)
        if isinstance(status, os.stat_result):
            name = self._names.setdefault((status.st_dev, status.st_ino), file.path)
            if name == file.path:
                return True
            status = f"is another name of the file {display_path(name)}"
        self.left_out.append(f"{display_path(file.path)} {status}")
        return False


def look_at(file: DuplicateFile) -> os.stat_result | str:
    """The status of a file that is as it was indexed, by its kind, size and time; else what has become of it."""
    try:
        status = file.path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    except (OSError, ValueError) as error:
        return f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISLNK(status.st_mode):
        return "is a link, and no file of its own"
    if not stat.S_ISREG(status.st_mode):
        return "is no file any more"
    if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
        return "has changed since it was indexed"
    return status
