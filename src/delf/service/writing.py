"""Adding and removing photos. One change at a time; readers see it when it is whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delf.collection import Collection
from delf.collection.adding import is_gone
from delf.errors import CollectionError, DelfError
from delf.files import write_atomically
from delf.images import load
from delf.indexing import build_index
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.problems import Problem

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp",
             b"II": ".tif", b"MM": ".tif"}
_STORED = re.compile(r"[0-9a-f]{64}\.[a-z]+")


def add(library: Library, options: ServiceOptions, data: bytes,
        metadata: Mapping[str, Any] | None = None) -> tuple[str, bool]:
    """Store a photo in the folder for uploads, named by its content, and index it. metadata: what is said of it.

    Returns:
        its key, and whether it is new.

    Raises:
        ImageError: it is none that can be read. CollectionError: another process is writing. Problem: there is no
            folder for uploads, or the disk is full.
    """
    uploads = uploads_of(options)
    load(data, shrink_to=library.extractor.longest_side, options=options.images)  # whole, before it is stored
    key = hashlib.sha256(data).hexdigest()
    with Collection.open(library.folder, library.extractor) as collection, collection.writing():
        known = collection.snapshot.ordinal_of_key(key) is not None
        if not has_file(collection, key):
            _store(collection, (uploads / f"{key}{suffix_of(data)}").absolute(), key, data)
        if metadata is not None:
            collection.describe({key: metadata})
    library.reload()
    return key, not known


def has_file(collection: Collection, key: str) -> bool:
    """Whether a collection has a photo, and a file of it, or cannot tell that these are gone."""
    return not all(map(is_gone, collection.snapshot.paths_of(key)))


def _store(collection: Collection, path: Path, key: str, data: bytes) -> None:
    """Write a photo to a file and add that; where it cannot be added, nothing stays."""
    try:
        write_atomically(path, data)
    except DelfError as error:
        raise Problem(507, "storage", f"the photo cannot be stored: {error}") from error
    try:
        report = collection.add(path)
        if report.skipped:
            raise Problem(422, "image", report.skipped[0])
        build_index(collection)
    except DelfError:
        collection.refresh()
        if collection.snapshot.ordinal_of_key(key) is None:  # else the collection has it, and the file belongs to it
            path.unlink(missing_ok=True)
        raise


def uploads_of(options: ServiceOptions) -> Path:
    """The folder that added photos are kept in. Raises `Problem` where there is none."""
    if options.uploads is None:
        raise Problem(403, "read_only", "this service takes no photos: start it with --uploads FOLDER")
    return options.uploads


def remove(library: Library, options: ServiceOptions, key: str) -> None:
    """Take a photo out of the collection, with all of its files; of these, only those in the folder for uploads go.

    Raises:
        Problem: there is no such photo. CollectionError: another process is writing.
    """
    library.state.ordinal(key)
    try:
        with Collection.open(library.folder) as collection:
            files = collection.forget(key)
    except CollectionError:
        library.reload()
        library.state.ordinal(key)  # another one may have removed it meanwhile
        raise
    library.reload()
    for file in files:
        if options.uploads is not None and file.parent == options.uploads.absolute() and _STORED.fullmatch(file.name):
            file.unlink(missing_ok=True)


def suffix_of(data: bytes) -> str:
    """What the content says it is, of which the client's file name may say anything."""
    return next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), ".heic")
