"""What of a data set is on the disk: a record for each finished archive, in a hidden folder of the data set.

    data/oxford5k/.delf-dataset/about.json                     {"dataset": "oxford5k"}
    data/oxford5k/.delf-dataset/oxbuild_images-v1.tgz.json     urls, md5, and the bytes of each file that it brought

A record is written last, so that what it lists is there; files that were deleted or cut off since are seen by their
size.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from delf.datasets.registry import DatasetError, DatasetFile
from delf.files import write_atomically
from delf.images import display_path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FOLDER = ".delf-dataset"


@dataclass(frozen=True)
class Record:
    """A finished download. files: bytes by the name below the folder of the data set. md5: of each volume."""

    urls: tuple[str, ...]
    md5: tuple[str, ...]
    files: Mapping[str, int]


class Records:
    """The records of the data set in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / FOLDER

    def begin(self, dataset: str) -> None:
        """Make the folder ready for a data set.

        Raises:
            DatasetError: another data set is there, or the folder cannot be written.
        """
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{display_path(self.folder)} cannot be written ({error.strerror}): choose another "
                               "folder") from error
        there = self.dataset()
        if there not in (None, dataset):
            raise DatasetError(f"{display_path(self.folder)} holds the data set {there}: choose another folder for "
                               f"{dataset}")
        if there is None:
            write_atomically(self.place / "about.json", json.dumps({"dataset": dataset}).encode())

    def dataset(self) -> str | None:
        """The name of the data set that is there, if it is known."""
        try:
            name = json.loads((self.place / "about.json").read_bytes())["dataset"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return name if isinstance(name, str) else None

    def read(self, file: DatasetFile) -> Record | None:
        """The record of a file, if it is finished."""
        try:
            said = json.loads(self._path(file).read_bytes())
            files = {str(name): int(size) for name, size in said["files"].items()}
            return Record(tuple(map(str, said["urls"])), tuple(map(str, said["md5"])), files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(self, file: DatasetFile, record: Record) -> None:
        """Say that a file is finished."""
        path = self._path(file)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps({"urls": record.urls, "md5": record.md5,
                                           "files": dict(record.files)}).encode())

    def missing(self, record: Record) -> list[str]:
        """The files of a record that are not there, or of another size."""
        return [name for name, size in record.files.items() if _size(self.folder / name) != size]

    def _path(self, file: DatasetFile) -> Path:
        return self.place / f"{file.name}.json"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for one process; the operating system lets go of it when the process ends.

        Raises:
            DatasetError: another process has it.
        """
        with (self.place / "lock").open("ab") as stream:
            try:
                _lock(stream.fileno())
            except OSError as error:
                raise DatasetError(f"another process is getting the data set of {display_path(self.folder)}: wait "
                                   "until it has ended") from error
            yield


def _lock(number: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None
