"""What the catalogue keeps of files and images."""

from __future__ import annotations

from dataclasses import dataclass


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
