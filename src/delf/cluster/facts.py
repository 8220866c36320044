"""What a store says of the images of a segment: a line of JSON for each, in the order of their positions.

It is what the catalogue of a collection says of them: size, time, place, camera, what callers have said, and the files.
An image without files is a removed one, or a copy of one in another segment. File names need not be text: what is not
UTF-8 is escaped as Python escapes it (`os.fsdecode`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from delf.collection.records import FileRecord, ImageRecord
from delf.errors import CollectionError

_TEXT = ("captured_at", "camera", "metadata")
_NUMBERS = ("latitude", "longitude")


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image. metadata: what callers have said of it, as JSON."""

    image: ImageRecord
    files: tuple[FileRecord, ...]
    metadata: str | None = None


def facts_to_bytes(images: Iterable[ImageFacts]) -> bytes:
    """The lines of some images."""
    return b"".join(_line(one) for one in images)


def facts_from_bytes(data: bytes, where: str) -> list[ImageFacts]:
    """Read back what `facts_to_bytes` wrote. Raises `CollectionError` where it is damaged; where: what it is called."""
    try:
        return [_parsed(json.loads(line)) for line in data.splitlines()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CollectionError(f"{where} is damaged ({error}); index the photos again") from error


def _line(one: ImageFacts) -> bytes:
    image = one.image
    said: dict[str, Any] = {"key": image.sha256.hex(), "size": [image.width, image.height],
                            "files": [[os.fsdecode(file.path), os.fsdecode(file.shown), file.size, file.mtime_ns]
                                      for file in one.files]}
    known = {"captured_at": image.captured_at, "latitude": image.latitude, "longitude": image.longitude,
             "camera": image.camera, "metadata": one.metadata}
    said |= {name: value for name, value in known.items() if value is not None}
    return json.dumps(said, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _parsed(said: dict[str, Any]) -> ImageFacts:
    width, height = map(_whole, said["size"])
    key, texts = bytes.fromhex(said["key"]), {name: said.get(name) for name in _TEXT}
    numbers = {name: said.get(name) for name in _NUMBERS}
    if len(key) != 32 or not all(isinstance(one, str | None) for one in texts.values()):
        raise ValueError("an image has no key, or says something that is no text")
    if not all(isinstance(one, int | float | None) for one in numbers.values()):
        raise ValueError("a position is no number")
    files = tuple(FileRecord(os.fsencode(path), os.fsencode(shown), _whole(size), _whole(mtime))
                  for path, shown, size, mtime in said["files"])
    metadata = texts.pop("metadata")
    return ImageFacts(ImageRecord(key, width, height, **texts, **numbers), files, metadata)


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is not a whole number")
    return value
