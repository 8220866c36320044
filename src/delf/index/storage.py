"""The one file format of the indexes: a page of header, then an array of bytes.

The header is JSON: what kind of index it is, the numbers that belong to it, and the length and SHA-256 of
what follows. It says enough to refuse a foreign, truncated or overlong file when it is opened, which reads
the header alone; the hash is compared on demand (`verify`). faiss never parses these files: it crashes or
takes absurd amounts of memory when fed hostile bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from delf.errors import CollectionError
from delf.files import whole_file

MAGIC = b"delf index 1\n"
PAGE = 4096  # of the header, so that what follows is aligned to a page


class ArrayWriter:
    """Writes a file that appears whole under its name, when all is on the disk, or not at all (`delf.files`)."""

    def __init__(self, path: Path, kind: str, fields: dict[str, Any]) -> None:
        self._path = path
        self._header: dict[str, Any] = {"kind": kind, **fields}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(whole_file(self._path))
            self._stream = stack.enter_context(self._temporary.open("wb+"))
            self._stream.seek(PAGE)
            self._stack = stack.pop_all()
        return self

    def write(self, array: NDArray[Any]) -> None:
        """Append an array's bytes."""
        self._stream.write(np.ascontiguousarray(array).data)

    def reserve(self, nbytes: int) -> NDArray[np.uint8]:
        """Append that many bytes, all zero, and map them into memory to be filled in any order.

        Raises:
            OSError: the disk has no room for them. Found out later, when they are filled, that would end the process.
        """
        start = self._stream.tell()
        self._stream.truncate(start + nbytes)
        _allocate(self._stream.fileno(), start, nbytes)
        self._stream.seek(start + nbytes)
        return _mapped(self._temporary, start, nbytes, "r+")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._write_header()

    def _write_header(self) -> None:
        """Say what has been written."""
        stream = self._stream
        length = stream.tell() - PAGE
        stream.seek(PAGE)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        header = json.dumps({**self._header, "bytes": length, "sha256": digest}, sort_keys=True)
        stream.seek(0)
        stream.write((MAGIC + header.encode()).ljust(PAGE))


def _allocate(descriptor: int, start: int, nbytes: int) -> None:
    """Have the room for some bytes of a file on the disk, where the system can tell."""
    if nbytes and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, nbytes)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # of file systems without it
                raise


@dataclass(frozen=True)
class ArrayFile:
    """A file whose header and size have been checked. `fields`: what its header says."""

    path: Path
    fields: dict[str, Any]

    @classmethod
    def open(cls, path: Path, kind: str) -> Self:
        """Read the header; `CollectionError` where the file is missing, damaged, or of another kind."""
        try:
            with path.open("rb") as stream:
                page = stream.read(PAGE)
                size = stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise CollectionError(f"The index file {path} cannot be read ({error.strerror or error}); "
                                  "build the index again.") from None
        file = cls(path, _header(page, path))
        if file.fields.get("kind") != kind:
            raise CollectionError(f"{path} is not a file of the kind {kind!r}; name another file or build "
                                  "the index again.")
        if file.integer("bytes") != size - PAGE:
            raise CollectionError(f"The index file {path} has been cut or has grown since it was written; "
                                  "build the index again.")
        return file

    def integer(self, name: str, minimum: int = 0) -> int:
        """A whole number of the header, at least `minimum` and at most 2**48."""
        value = self.fields.get(name)
        if type(value) is not int or not minimum <= value <= 2**48:
            raise self.damaged(f"{name!r} is not a sensible number")
        return value

    def require(self, name: str, value: int | str) -> None:
        """Refuse the file unless its header has this value."""
        if self.fields.get(name) != value:
            raise CollectionError(f"The index file {self.path} was made with another value of {name!r} than "
                                  f"this collection's {value}; build the index again.")

    def bytes(self) -> NDArray[np.uint8]:
        """Everything after the header, memory-mapped."""
        try:
            return _mapped(self.path, PAGE, self.integer("bytes"), "r")
        except OSError as error:
            raise self.damaged(f"it cannot be mapped ({error.strerror or error})") from None

    def array(self, dtype: DTypeLike, columns: int) -> NDArray[Any]:
        """Everything after the header as rows of `columns` numbers, memory-mapped."""
        content, row = self.bytes(), columns * np.dtype(dtype).itemsize
        if len(content) % row:
            raise self.damaged("its last row is not complete")
        return content.view(dtype).reshape(-1, columns)

    def verify(self) -> None:
        """Read everything and compare it with the hash in the header; `CollectionError` where they differ."""
        with self.path.open("rb") as stream:
            stream.seek(PAGE)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != self.fields.get("sha256"):
            raise self.damaged("its content is not what was written")

    def damaged(self, reason: str) -> CollectionError:
        """The error that says so."""
        return CollectionError(f"The index file {self.path} is damaged: {reason}; build the index again.")


class InFile:
    """What lies in one file, memory-mapped."""

    _file: ArrayFile

    @property
    def nbytes(self) -> int:
        """Bytes on disk, without the header."""
        return self._file.integer("bytes")

    def verify(self) -> None:
        """Read everything and compare it with the hash in the header; `CollectionError` where they differ."""
        self._file.verify()


class Layout:
    """Arrays of known types and shapes in the bytes of a file, one after another, each from a multiple of 8 on.

    nbytes: of all.
    """

    def __init__(self, **arrays: tuple[DTypeLike, tuple[int, ...]]) -> None:
        self._arrays: dict[str, tuple[slice, DTypeLike, tuple[int, ...]]] = {}
        end = 0
        for name, (dtype, shape) in arrays.items():
            start = -(-end // 8) * 8
            end = start + math.prod(shape) * np.dtype(dtype).itemsize
            self._arrays[name] = slice(start, end), dtype, shape
        self.nbytes = end

    def __iter__(self) -> Iterator[str]:
        """The names of the arrays."""
        return iter(self._arrays)

    def view(self, content: NDArray[np.uint8], name: str) -> NDArray[Any]:
        """An array in the bytes (nbytes,) of a file, not copied."""
        place, dtype, shape = self._arrays[name]
        return content[place].view(dtype).reshape(shape)


def release(content: NDArray[np.uint8]) -> None:
    """Have the pages of a mapped file that were read counted as the system's, not as this process's; they can be read
    as before, by other threads at this moment as well.
    """
    mapped = getattr(content, "_mmap", None)  # an empty file is not mapped
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def is_of_another(path: Path, kind: str, quantiser: str) -> bool:
    """Whether a file holds lists of this kind that were made with another quantiser than that of a fingerprint."""
    try:
        return ArrayFile.open(path, kind).fields.get("quantiser") != quantiser
    except CollectionError:
        return False


def _header(page: bytes, path: Path) -> dict[str, Any]:
    if not page.startswith(MAGIC) or len(page) != PAGE:
        raise CollectionError(f"{path} is not an index file; name another file or build the index again.")
    try:
        header = json.loads(page[len(MAGIC):].decode())
    except (ValueError, RecursionError):  # text that is not UTF-8, or not JSON, is a ValueError
        header = None
    if not isinstance(header, dict):
        raise CollectionError(f"The header of the index file {path} is damaged; build the index again.")
    return header


def _mapped(path: Path, offset: int, nbytes: int, mode: str) -> NDArray[np.uint8]:
    if nbytes == 0:  # an empty file cannot be mapped
        return np.empty(0, np.uint8)
    return np.memmap(path, np.uint8, mode, offset, (nbytes,))  # type: ignore[call-overload]
