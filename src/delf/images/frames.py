"""What a frame of a video is called: `holiday.mp4#t=12.480`, as media fragments are on the web (W3C, 2012).

Whoever takes the path of a photo takes such a name, too. A file that really is called so comes first.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from delf.errors import ImageError
from delf.images.sources import explanation, open_regular
from delf.places import source_of

_FRAME = re.compile(rb"(.+)#t=([0-9]{1,7}(?:\.[0-9]{1,6})?)", re.DOTALL)


def frame_path(video: bytes, second: float) -> bytes:
    """The name of a frame. video: its path; second: from the beginning."""
    return os.fsencode(source_of(os.fsdecode(video), second))


def as_frame(path: bytes) -> tuple[bytes, float] | None:
    """The path of the video, and the second, that the name of a frame has; None for any other path."""
    found = _FRAME.fullmatch(path)
    return None if found is None else (found[1], float(found[2]))


def frame_of(path: str | os.PathLike[str]) -> tuple[str, float] | None:
    """As `as_frame`, for a path that is to be read: None also where there is a file of that very name."""
    try:
        found = as_frame(os.fsencode(path))
    except UnicodeEncodeError:  # a path that the system cannot express; reading it says so
        return None
    return None if found is None or os.path.lexists(path) else (os.fsdecode(found[0]), found[1])


def containing_file(path: bytes) -> bytes:
    """The file that a photo of the catalogue is in: that of the video for a frame, else the path itself."""
    found = as_frame(path)
    return path if found is None or os.path.lexists(path) else found[0]


def frame_key(video: str | os.PathLike[str], second: float) -> str:
    """What a frame is known by: a SHA-256 of that of its file and of its time, in hexadecimal.

    It does not depend on its pixels, which are not the same for every decoder. The digest of a file is kept until the
    file changes. Raises `ImageError`.
    """
    path = os.fspath(video)
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise ImageError(explanation(path, error)) from error
    digest = _digest_of(path, status.st_ino, status.st_size, status.st_mtime_ns)
    return hashlib.sha256(f"frame of {digest} at {second:.3f}".encode()).hexdigest()


@lru_cache(maxsize=256)
def _digest_of(path: str, inode: int, size: int, mtime_ns: int) -> str:
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
