"""Reading files that strangers wrote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from delf.errors import DelfError

MAX_BYTES = 2**28  # of one file that is read whole: 65,000 features of 1024 dimensions


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file (a pipe or a device could keep the reader for ever) of at most `MAX_BYTES`.

    Raises:
        DelfError: there is no such file, or it is too large or cannot be read.
    """
    require_file(path)
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise DelfError(f"{str(path)!r} is larger than {MAX_BYTES >> 20} MiB, far more than the features of "
                                "one image take: check that it is the right file.")
            return stream.read(size)
    except OSError as error:
        raise DelfError(f"{str(path)!r} cannot be read ({error.strerror or error}): check its permissions.") from error


def require_file(path: Path) -> None:
    """Raise a `DelfError` unless there is a regular file at `path`."""
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name that cannot be, e.g. with a NUL byte
        found = False
    if not found:
        raise DelfError(f"There is no file {str(path)!r}: check the path.")


@contextlib.contextmanager
def wrapped(path: Path) -> Iterator[None]:
    """Turn a `ValueError` into a `DelfError` that names the file."""
    try:
        yield
    except ValueError as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> DelfError:
    """The error of a file whose bytes make no sense."""
    return DelfError(f"{str(path)!r} is damaged or of another format: {str(reason)[:200].rstrip('.')}. Get or write "
                     "the file again.")
