"""Bytes from files and streams: bounded, and never waiting for a pipe or a device."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from delf.errors import ImageError
from delf.images.paths import display_path, printable

_CHUNK = 1 << 20
# Opening a pipe for reading would wait for a writer, and a terminal could become ours, without these two.
_OPEN_FLAGS = (os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
               | getattr(os, "O_BINARY", 0))


def read_file(path: str, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`. Raises `ImageError` for anything else, and for a file that
    is written to meanwhile.
    """
    name = display_path(path)
    with open_regular(path) as stream:
        status = os.fstat(stream.fileno())
        if status.st_size > max_bytes:
            raise _too_big(name, max_bytes)
        data = read_stream(stream, name, max_bytes)
        _require_unchanged(status, os.fstat(stream.fileno()), name)
        return data


@contextmanager
def open_regular(path: str) -> Iterator[FileIO]:
    """A regular file, opened to be read and unbuffered. Raises `ImageError` for anything else, as for an `OSError`
    inside.
    """
    name = display_path(path)
    try:
        _require_regular(Path(path).stat(), name)  # before opening, which can have effects on a device
        with os.fdopen(os.open(path, _OPEN_FLAGS), "rb", buffering=0) as stream:
            _require_regular(os.fstat(stream.fileno()), name)  # again: the path may have changed hands in between
            yield stream
    except (OSError, ValueError) as error:  # ValueError: a path that the system cannot express
        raise ImageError(explanation(path, error)) from error


def read_stream(stream: BinaryIO | Any, name: str, max_bytes: int) -> bytes:
    """The rest of a binary stream, at most `max_bytes`; `name` is for the error. Raises `ImageError`."""
    chunks: list[bytes] = []
    total = 0
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except Exception as error:  # a stream may be of any class: a socket, a member of an archive
            raise ImageError(f"{name} cannot be read ({printable(str(error))}): check where it comes "
                             "from.") from error
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise ImageError(f"{name} does not give bytes: open it in binary mode, and blocking.")
        if not chunk:
            return b"".join(chunks)
        total += len(chunk)
        if total > max_bytes:
            raise _too_big(name, max_bytes)
        chunks.append(bytes(chunk))


def _require_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name} is a folder, not an image: name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is a pipe, a socket or a device, not an image: name a regular file.")


def _require_unchanged(before: os.stat_result, after: os.stat_result, name: str) -> None:
    """What another program writes meanwhile would be half of one picture and half of another."""
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ImageError(f"{name} was changed while it was read: try again when nothing writes to it any more.")


def _too_big(name: str, max_bytes: int) -> ImageError:
    return ImageError(f"{name} has more than {max_bytes} bytes, the limit for an image file: leave it out, "
                      "or raise max_bytes.")


def explanation(path: str, error: OSError | ValueError) -> str:
    """Why a file cannot be read, and what to do."""
    name = display_path(path)
    if isinstance(error, FileNotFoundError):
        if Path(path).is_symlink():
            return f"{name} is a link to a file that does not exist: repair or delete the link."
        return f"There is no file {name}: check the path."
    if isinstance(error, PermissionError):
        return f"{name} may not be read: change its permissions."
    reason = getattr(error, "strerror", None) or str(error)
    return f"{name} cannot be read ({reason}): check the path and the disk."
