"""Photos that wait on the disk until they are added, within bounds."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from delf.errors import DelfError
from delf.files import locked_folder
from delf.service.options import ServiceOptions
from delf.service.problems import Problem, too_many

FOLDER = ".incoming"  # in that for uploads, so that a photo that is added is only renamed
_SOON = 5.0  # seconds after which there may be room again


@dataclass(frozen=True)
class Waiting:
    """A photo that waits. number: its place in the form, from 1. size: in bytes. problem: why it is not added."""

    number: int
    path: Path
    size: int = 0
    problem: str = ""


class Spool:
    """The folder of one running service in which photos wait.

    Each service has a folder of its own, on which it holds a lock. So one that begins can tell what a service that has
    ended left behind, which it deletes, from what belongs to another that runs.
    """

    def __init__(self, uploads: Path, options: ServiceOptions) -> None:
        self._root, self.options = uploads.absolute() / FOLDER, options
        self._folder: Path | None = None
        self._held = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._names = 0
        self.total = 0  # bytes that wait

    def clean(self) -> None:
        """Delete what services that were killed have left, as far as that is possible."""
        with contextlib.suppress(OSError):
            for left in self._root.iterdir():
                with contextlib.suppress(DelfError, OSError), locked_folder(left):
                    shutil.rmtree(left)
            self._root.rmdir()  # unless another service has a folder in it

    def open(self) -> None:
        """Make a folder, unless there is one. Raises `Problem` where the disk cannot be written."""
        if self._folder is not None:
            return
        self.clean()
        try:
            self._root.mkdir(exist_ok=True)
            folder = self._root / secrets.token_hex(8)
            folder.mkdir()
            self._held.enter_context(locked_folder(folder))
        except (OSError, DelfError) as error:
            raise _not_stored(error) from error
        self._folder = folder

    def close(self) -> None:
        """Delete the folder with all that waits in it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._held.close()
            with contextlib.suppress(OSError):  # another service may have a folder beside it
                self._root.rmdir()
            self._folder = None

    def new_file(self) -> Path:
        """A path that no photo has. Raises as `open` does."""
        self.open()
        assert self._folder is not None, "it is open"
        self._names += 1
        return self._folder / f".{self._names}"  # hidden, so that it does not count as a part of the collection

    def take(self, size: int, of: int) -> None:
        """Count bytes that come in. of: so many that the same batch has already.

        Raises:
            Problem: there is no room for them: now, or for such a batch at any time.
        """
        most = self.options.spool_bytes
        if of + size > most:
            raise Problem(413, "too_large", f"the photos of a batch may have {most:,} bytes together; send them in "
                                            "several batches")
        with self._lock:
            if self.total + size > most:
                raise too_many(f"{self.total:,} bytes of photos wait to be added already, and at most {most:,} may; "
                               "send this batch again later", _SOON)
            self.total += size

    def drop(self, photo: Waiting) -> None:
        """A photo does not wait any more: its file is deleted, unless it was moved."""
        photo.path.unlink(missing_ok=True)
        with self._lock:
            self.total -= photo.size


class Incoming:
    """A batch while it comes in, photo by photo: a `forms.Sink`."""

    def __init__(self, spool: Spool) -> None:
        self.photos: list[Waiting] = []
        self._spool, self._bytes = spool, 0
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Another photo begins."""
        most = self._spool.options.batch_photos
        if len(self.photos) == most:
            raise Problem(413, "too_large", f"a batch has at most {most:,} photos; send them in several batches")
        path = self._spool.new_file()
        try:
            self._file = path.open("xb")
        except OSError as error:
            raise _not_stored(error) from error
        self.photos.append(Waiting(len(self.photos) + 1, path))

    def write(self, data: bytes) -> None:
        """More of it. What is beyond the limit of one photo is not kept, and told with the job."""
        photo, most = self.photos[-1], self._spool.options.upload_bytes
        if photo.problem:
            return
        if photo.size + len(data) > most:
            assert self._file is not None, "a photo has begun"
            self._file.close()
            self._spool.drop(photo)
            self._bytes -= photo.size
            self.photos[-1] = replace(photo, size=0, problem=f"it has more than {most:,} bytes; send a smaller one")
            return
        self._spool.take(len(data), self._bytes)
        self._bytes += len(data)
        self.photos[-1] = replace(photo, size=photo.size + len(data))
        try:
            assert self._file is not None, "a photo has begun"
            self._file.write(data)
        except OSError as error:
            raise _not_stored(error) from error

    def end(self) -> None:
        """It is whole."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise _not_stored(error) from error

    def discard(self) -> None:
        """Nothing of it is wanted."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        for photo in self.photos:
            self._spool.drop(photo)


def _not_stored(error: Exception) -> Problem:
    reason = getattr(error, "strerror", None) or str(error)
    return Problem(507, "storage", f"photos cannot be stored at the moment ({reason}); try again later, or tell "
                                   "those who run the service")
