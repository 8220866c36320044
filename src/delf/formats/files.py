"""Reading files that strangers wrote, and writing files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
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
        raise DelfError(f"{str(path)!r} cannot be read ({error.strerror}): check its permissions.") from error


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


def write_atomically(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`. Raises a `DelfError` as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose file takes the place of `path` if the block ends well.

    If it does not, nothing is left behind and what was at `path` is untouched.

    Raises:
        DelfError: the place cannot be written, or is something else than a file.
    """
    if _occupied(path):
        raise DelfError(f"{str(path)!r} is not a file, so nothing was written: name a file inside a folder.")
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        yield temporary
        temporary.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DelfError(f"{str(path)!r} could not be written ({reason}): choose a folder that exists and that you "
                        "may write to.") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)


def _occupied(path: Path) -> bool:
    """Whether `path` is a folder or a device, which a rename must not replace."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):  # cannot be looked at: writing will say why
        return False
