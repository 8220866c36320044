"""Adding and removing photos. One change at a time; readers see it when it is whole."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from delf.collection import Collection
from delf.errors import DelfError
from delf.files import write_atomically
from delf.images import load
from delf.indexing import build_index
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.problems import Problem, not_found

_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp",
             b"II": ".tif", b"MM": ".tif"}
_STORED = re.compile(r"[0-9a-f]{64}\.[a-z]+")


def add(library: Library, options: ServiceOptions, data: bytes) -> tuple[int, bool]:
    """Store a photo in the folder for uploads, named by its content, and index it.

    Returns:
        its ordinal, and whether it is new.

    Raises:
        ImageError: it is none that can be read. CollectionError: another process is writing. Problem: there is no
            folder for uploads, or the disk is full.
    """
    if options.uploads is None:
        raise Problem(403, "read_only", "this service takes no photos: start it with --uploads FOLDER")
    load(data, shrink_to=library.extractor.longest_side, options=options.images)  # whole, before it is stored
    digest = hashlib.sha256(data).hexdigest()
    with Collection.open(library.folder, library.extractor) as collection:
        known = _known(collection, digest)
        if known is not None:
            return known, False
        path = (options.uploads / f"{digest}{_suffix(data)}").absolute()
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
            path.unlink(missing_ok=True)
            raise
        ordinal = collection.ordinal_of(path)
    library.reload()
    if ordinal is None:
        raise Problem(409, "collection", "the photo was removed again meanwhile")
    return ordinal, True


def remove(library: Library, options: ServiceOptions, ordinal: int) -> None:
    """Take a photo out of the collection; its file goes only if it lies in the folder for uploads.

    Raises:
        Problem: there is no such photo. CollectionError: another process is writing.
    """
    with library.reading() as state:
        photo = state.photo(ordinal)
        known = state.collection.segment_ids
    files: list[Path] = []
    with Collection.open(library.folder) as collection:
        if collection.segment_ids[: len(known)] != known:
            raise Problem(409, "collection", "the photos have other numbers by now; look at the collection again")
        while collection.alive[ordinal]:  # an image may have several files
            files.append(collection.image(ordinal).file)
            collection.remove([files[-1]])
    library.reload()
    if not files:
        raise not_found(f"the collection has no image {photo.ordinal}")
    for file in files:
        if options.uploads is not None and file.parent == options.uploads.absolute() and _STORED.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _known(collection: Collection, digest: str) -> int | None:
    """The ordinal of the photo with this content, unless it was removed."""
    image = collection.catalogue.image_of(bytes.fromhex(digest))
    files = [] if image is None else collection.catalogue.files_of(image)
    return collection.ordinal_of(Path(files[0].decode("utf-8", "surrogateescape"))) if files else None


def _suffix(data: bytes) -> str:
    """What the content says it is, of which the client's file name may say anything."""
    return next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), ".heic")
