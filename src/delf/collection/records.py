"""What the catalogue and the segments keep of files and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FileRecord:
    """A photo file. path: absolute, as bytes; shown: as it was given; size and mtime_ns: to see a change."""

    path: bytes
    shown: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageRecord:
    """The content of one or more equal files, and its place among the segments."""

    sha256: bytes
    width: int
    height: int
    captured_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None = None


@dataclass(frozen=True)
class StoredFacts:
    """What is known of an image. files: (shown, absolute path) of each; metadata: what callers have said of it, as
    JSON; the rest from the photo's EXIF data.
    """

    files: tuple[tuple[bytes, bytes], ...]
    captured_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None = None
    metadata: str | None = None


@dataclass(frozen=True)
class Identity:
    """What an image of a segment is known by. key: SHA-256 of its content. shown: its path, as it was given; path:
    absolute. A file name need not be text.
    """

    key: bytes
    shown: bytes
    path: bytes


def identity_arrays(identities: Sequence[Identity]) -> dict[str, NDArray[Any]]:
    """The arrays that say which images a segment holds."""
    paths = [one.shown + b"\0" + one.path for one in identities]
    return {"keys": np.frombuffer(b"".join(one.key for one in identities), np.uint8).reshape(-1, 32),
            "paths": np.frombuffer(b"".join(paths), np.uint8),
            "path_ends": np.cumsum([len(path) for path in paths], dtype=np.int64)}
