"""Photos that are no files: they are added from memory, each under a key of the caller's.

The catalogue knows them as it knows files, by a path that no file can have: what has one is there until it is
forgotten, another picture under the same key takes the place of the first, and the same picture under two keys is
stored once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delf.errors import CollectionError, ImageError, OptionError
from delf.files import write_atomically
from delf.images import ImageSource, LoadedImage, display_path, in_memory, preview

PREVIEWS = "previews"  # the folder of reduced copies
LONGEST_KEY = 1000  # characters
METADATA_BYTES = 65_536  # of one photo, as JSON
_SCHEME = b"key:"  # an absolute path begins otherwise


@dataclass(frozen=True, eq=False)
class NewPhoto:
    """A photo that is added from memory.

    image: anything that `delf.read_image` takes, or what `delf.images.load` returns. key: the caller's key, any text;
    by default the SHA-256 of the content. name: the name that results show; by default the key. metadata: a JSON object
    that is stored with it.
    """

    image: ImageSource | LoadedImage
    key: str | None = None
    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, text in (("key", self.key), ("name", self.name)):
            if text is not None and (not isinstance(text, str) or not 0 < len(text) <= LONGEST_KEY or "\0" in text):
                raise OptionError(f"the {what} of a photo is a text of 1 to {LONGEST_KEY:,} characters without a NUL, "
                                  f"not {text!r:.100}")
            if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
                raise OptionError(f"the {what} of a photo is text that UTF-8 can express, not {text!r:.100}")
        metadata_text(self.metadata)

    def place(self, digest: str) -> tuple[bytes, bytes]:
        """The path by which the catalogue knows it, and the name that is shown. digest: the SHA-256 of its content."""
        key = digest if self.key is None else self.key
        return path_of_key(key), os.fsencode(self.name or key)


def from_memory(photos: Any, *, key: str | None, name: str | None, metadata: Mapping[str, Any] | None,
                kept: bool) -> list[NewPhoto] | None:
    """The photos from memory among the arguments of `Collection.add`; None if these are files and folders.

    Args:
        key, name, metadata: of the only photo. kept: whether a preview was requested.

    Raises:
        OptionError: there are several photos, with a key, name, metadata or preview for one, or with paths among them.
        ImageError: this is neither a photo nor a list of photos or paths.
    """
    if not in_memory(photos) and not isinstance(photos, NewPhoto | str | os.PathLike | Iterable):
        raise ImageError(f"Photos cannot be added from {type(photos).__name__!r}: give files and folders, or the bytes "
                         "of a file, a binary file, a Pillow image, an array or a NewPhoto.")
    single = kept or any(value is not None for value in (key, name, metadata))
    if isinstance(photos, NewPhoto):
        return [photos]
    if in_memory(photos) or (single and isinstance(photos, str | os.PathLike)):
        return [NewPhoto(photos, key, name, metadata or {})]
    several = isinstance(photos, list | tuple) and any(isinstance(one, NewPhoto) or in_memory(one) for one in photos)
    if several and any(isinstance(one, str | os.PathLike) for one in photos):
        raise OptionError("paths and photos from memory cannot be added by one call, since a collection remembers the "
                          "files of paths alone: add them by two calls")
    if several and not single:
        return [one if isinstance(one, NewPhoto) else NewPhoto(one) for one in photos]
    if single:
        raise OptionError("key, name, metadata and preview belong to one photo from memory: give many as "
                          "add_photos([NewPhoto(image, key=...), ...])")
    return None


def path_of_key(key: str) -> bytes:
    """The path that stands for a caller's key in the catalogue."""
    return _SCHEME + key.encode("utf-8", "surrogatepass")


def key_of_path(path: bytes) -> str | None:
    """The caller's key for which a path stands; None for the path of a file."""
    return path.removeprefix(_SCHEME).decode("utf-8", "replace") if path.startswith(_SCHEME) else None


def metadata_text(value: Mapping[str, Any]) -> str:
    """A JSON object as the text that is stored.

    Raises:
        OptionError: it is not a JSON object, or too large.
    """
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, sort_keys=True)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"the metadata of a photo are a JSON object, such as {{\"album\": \"Rome\"}}, and this is "
                          f"none: {error}") from error
    if len(text.encode()) > METADATA_BYTES:
        raise OptionError(f"the metadata of a photo have {len(text.encode()):,} bytes as JSON, and at most "
                          f"{METADATA_BYTES:,} are kept: leave some out, or keep them elsewhere and a reference here")
    return text


def preview_path(folder: Path, key: str) -> Path:
    """The path of the reduced copy of a photo, existing or not. folder: of the collection; key: the SHA-256."""
    return folder / PREVIEWS / key[:2] / f"preview-{key}.jpg"


def keep_preview(folder: Path, loaded: LoadedImage, side: int) -> None:
    """Store a reduced copy of a photo, unless there is one. Raises `DelfError` if it cannot be written."""
    path = preview_path(folder, loaded.sha256)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CollectionError(f"{display_path(path.parent)} cannot be made ({error.strerror}); see that nothing "
                                  "else has its name, and that you may write there") from error
        write_atomically(path, preview(loaded.pixels, loaded.size, side))


def drop_previews(folder: Path, known: Callable[[str], bool]) -> None:
    """Delete the reduced copies of photos that have left the collection. known: whether the collection has a key."""
    for path in (folder / PREVIEWS).glob("*/preview-*.jpg"):
        if not known(path.stem.removeprefix("preview-")) and not path.is_symlink():
            path.unlink(missing_ok=True)
