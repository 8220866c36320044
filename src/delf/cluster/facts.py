"""Facts of the images of a segment: one line of JSON for each image, in the order of their positions.

A store keeps here what the catalogue of a collection would know of an image: its size, time, place, camera, metadata
and files. An image without files was removed, or is a copy of an image in another segment. File names need not be text:
bytes that are not UTF-8 are escaped as Python escapes them (`os.fsdecode`).
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
    """What a store knows of an image. metadata: the metadata that callers have set, as JSON."""

    image: ImageRecord
    files: tuple[FileRecord, ...]
    metadata: str | None = None


def facts_to_bytes(images: Iterable[ImageFacts]) -> bytes:
    """The lines of some images, as the content of a file."""
    return b"".join(map(_line, images))


def facts_from_bytes(data: bytes, where: str) -> list[ImageFacts]:
    """Read what `facts_to_bytes` wrote. Raises `CollectionError` if it is damaged; where: the file, for the message."""
    try:
        return [_parsed(json.loads(line)) for line in data.splitlines()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CollectionError(f"{where} is damaged ({error}); index the photos again") from error


def _line(facts: ImageFacts) -> bytes:
    image = facts.image
    fields: dict[str, Any] = {"key": image.sha256.hex(), "size": [image.width, image.height],
                              "files": [[os.fsdecode(file.path), os.fsdecode(file.shown), file.size, file.mtime_ns]
                                        for file in facts.files]}
    optional = {"captured_at": image.captured_at, "latitude": image.latitude, "longitude": image.longitude,
                "camera": image.camera, "metadata": facts.metadata}
    fields |= {name: value for name, value in optional.items() if value is not None}
    return json.dumps(fields, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _parsed(fields: dict[str, Any]) -> ImageFacts:
    width, height = map(_whole, fields["size"])
    key, texts = bytes.fromhex(fields["key"]), {name: fields.get(name) for name in _TEXT}
    numbers = {name: fields.get(name) for name in _NUMBERS}
    if len(key) != 32 or not all(isinstance(text, str | None) for text in texts.values()):
        raise ValueError("an image has no key, or a time, a camera or metadata that are not text")
    if not all(isinstance(number, int | float | None) for number in numbers.values()):
        raise ValueError("a latitude or longitude is not a number")
    files = tuple(FileRecord(os.fsencode(path), os.fsencode(shown), _whole(size), _whole(mtime))
                  for path, shown, size, mtime in fields["files"])
    metadata = texts.pop("metadata")
    return ImageFacts(ImageRecord(key, width, height, **texts, **numbers), files, metadata)


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r} is not a whole number")
    return value
