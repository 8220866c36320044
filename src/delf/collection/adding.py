"""Adding photos to a collection: find, read, extract, publish."""

from __future__ import annotations

import os
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from delf.collection.catalogue import Catalogue
from delf.collection.filming import Filming
from delf.collection.given import NewPhoto, keep_preview, key_of_path, metadata_text
from delf.collection.packing import Packed, Packing
from delf.collection.records import FileRecord, Identity, ImageRecord
from delf.collection.segment import new_segment, write_segment
from delf.errors import ImageError
from delf.extractors import Extractor
from delf.images import (
    ImageSource,
    LoadedImage,
    PassedOver,
    VideoOptions,
    find_images,
    is_video,
    load_ahead,
    photo_extensions,
)
from delf.images.frames import containing_file
from delf.types import ImageArray

LINKS_AT_ONCE = 4096
_Known = TypeVar("_Known")


@dataclass(frozen=True)
class AddReport:
    """What `Collection.add` did, in numbers of files; a new video counts by its frames.

    added, unchanged: files that are new or have changed, and files that were known.
    duplicates: files with exactly the bytes of another one.
    skipped: a sentence for each file or folder that could not be read.
    interrupted: whether Ctrl-C ended it early.
    moved: known photos that are now elsewhere.
    pruned: gone files that were forgotten.
    passed_over: RAW files and videos among the photos that were not read.
    """

    added: int
    unchanged: int
    duplicates: int
    skipped: tuple[str, ...]
    interrupted: bool
    moved: int = 0
    pruned: int = 0
    passed_over: PassedOver = field(default_factory=PassedOver)


class Adding:
    """One run of `Collection.add`. Memory is bounded by one segment and the few images in flight."""

    def __init__(self, catalogue: Catalogue, segments: Path, extractor: Extractor, packing: Packing,
                 images_per_segment: int, published: Callable[[], None] = lambda: None,
                 videos: VideoOptions | None = None) -> None:
        """packing: of the collection. published: called when a segment has become visible. videos: which of their
        frames are taken; None passes them over.
        """
        self._catalogue = catalogue
        self._segments = segments
        self._extractor, self._packing = extractor, packing
        self._images_per_segment = images_per_segment
        self._published = published
        self._filming = None if videos is None else Filming(catalogue, videos, self._link)
        # The files of each content that is not published yet, whether it is in flight or in the batch.
        self._files: dict[str, list[FileRecord]] = {}
        self._batch: list[tuple[str, ImageRecord, Packed]] = []
        self._links: list[tuple[FileRecord, int]] = []
        self._left: list[bytes] = []  # where moved files were
        self._metadata: dict[str, str] = {}  # by content
        self._added = self._unchanged = self._duplicates = self._moved = 0
        self._skipped: list[str] = []

    def run(self, paths: list[Path], progress: Callable[[int, int], None], exclude: Sequence[str] = ()) -> AddReport:
        """Add what is new or changed in files and folders; `progress` is called with (files done, files to do)."""
        passed_over, wanted = PassedOver(), photo_extensions(videos=self._filming is not None)
        total = sum(1 for _ in find_images(paths, extensions=wanted, exclude=exclude, on_error=lambda _: None,
                                           passed_over=passed_over))
        found = ((path, os.fsencode(path)) for path in find_images(paths, extensions=wanted, exclude=exclude,
                                                                   on_error=self._skip))
        return replace(self.add(found, total, progress), passed_over=passed_over)

    def add(self, files: Iterable[tuple[Path, bytes]], total: int, progress: Callable[[int, int], None]) -> AddReport:
        """Add what is new or changed among files, each given with how its path is shown. total: how many there are."""
        longest = self._extractor.longest_side
        return self._add(self._read(self._pictures(self._new_files(files), longest), longest), total, progress)

    def add_given(self, photos: Iterable[NewPhoto], total: int, progress: Callable[[int, int], None], *,
                  preview: int | None) -> AddReport:
        """Add photos from memory. preview: the longest side of the reduced copies that are kept; None keeps none."""
        longest = self._extractor.longest_side
        shrink_to = None if longest is None else max(longest, preview or 1)
        pairs = self._given(self._read(((photo, photo.image) for photo in photos), shrink_to), preview)
        return self._add(pairs, total, progress)

    def _given(self, read: Iterable[tuple[NewPhoto, LoadedImage]],
               preview: int | None) -> Iterator[tuple[FileRecord, LoadedImage]]:
        for photo, loaded in read:
            if preview is not None:
                keep_preview(self._segments.parent, loaded, preview)
            if photo.metadata:
                self._metadata[loaded.sha256] = metadata_text(photo.metadata)
            yield FileRecord(*photo.place(loaded.sha256), loaded.file_size, 0), loaded

    def _add(self, pairs: Iterable[tuple[FileRecord, LoadedImage]], total: int,
             progress: Callable[[int, int], None]) -> AddReport:
        interrupted = False
        in_flight: deque[tuple[str, ImageRecord]] = deque()

        def pixels() -> Iterator[tuple[ImageArray, tuple[int, int]]]:
            for loaded in self._new_images(pairs):
                in_flight.append((loaded.sha256, image_record(loaded)))
                yield loaded.pixels, loaded.size

        try:
            for features in self._extractor.extract_many(pixels()):
                self._batch.append((*in_flight.popleft(), self._packing.pack(features)))
                self._added += 1
                if len(self._batch) >= self._images_per_segment:
                    self._publish()
                progress(self._done(), total + self._more)
        except KeyboardInterrupt:
            interrupted = True
            # It may have come when the batch was published and not yet put away.
            self._batch = [entry for entry in self._batch if self._catalogue.image_of(bytes.fromhex(entry[0])) is None]
        self._publish()
        progress(self._done(), total + self._more)
        return AddReport(self._added, self._unchanged, self._duplicates, tuple(self._skipped), interrupted, self._moved)

    def _done(self) -> int:
        return self._added + self._unchanged + self._duplicates + self._moved + len(self._skipped)

    @property
    def _more(self) -> int:
        """Frames that were met, beside one for each video."""
        return 0 if self._filming is None else self._filming.more

    def _pictures(self, files: Iterable[tuple[FileRecord, Path]],
                  shrink_to: int | None) -> Iterator[tuple[FileRecord, Path | LoadedImage]]:
        """The pictures to read: the frames of a video, one after the other, and any other file as it is."""
        for record, path in files:
            if self._filming is None or not is_video(path):
                yield record, path
                continue
            try:
                yield from self._filming.frames(record, path, shrink_to)
            except ImageError as error:
                self._skip(error)

    def _read(self, sources: Iterable[tuple[_Known, ImageSource | LoadedImage]],
              shrink_to: int | None) -> Iterator[tuple[_Known, LoadedImage]]:
        return load_ahead(sources, threads=self._extractor.threads, shrink_to=shrink_to, on_error=self._skip)

    def _new_images(self, pairs: Iterable[tuple[FileRecord, LoadedImage]]) -> Iterator[LoadedImage]:
        """Each content that the collection lacks, once; its files are noted, so are all others."""
        for record, loaded in pairs:
            if loaded.sha256 in self._files:
                self._files[loaded.sha256].append(record)
                self._duplicates += 1
            elif (image := self._catalogue.image_of(bytes.fromhex(loaded.sha256))) is not None:
                self._link(record, image)
            else:
                self._files[loaded.sha256] = [record]
                yield loaded

    def _link(self, record: FileRecord, image: int) -> None:
        """Note a file of an image that the collection has: the same file touched, moved, or a copy."""
        others = self._catalogue.files_of(image)
        left = [path for path in others if path != record.path and is_gone(path) and path not in self._left]
        if record.path in others:
            self._unchanged += 1
        elif left:
            self._moved += 1
            self._left += left
        else:
            self._duplicates += 1
        self._links.append((record, image))
        if len(self._links) >= LINKS_AT_ONCE:
            self._publish_links()

    def _new_files(self, files: Iterable[tuple[Path, bytes]]) -> Iterator[tuple[FileRecord, Path]]:
        """The files that the catalogue does not know as they are now."""
        for path, shown in files:
            try:
                status = os.stat(containing_file(os.fsencode(path)))  # noqa: PTH116 (bytes)
            except (OSError, ValueError):
                status = None  # reading it says what is wrong
            size, mtime = (status.st_size, status.st_mtime_ns) if status else (0, 0)
            record = FileRecord(file_key(path), shown, size, mtime)
            if self._catalogue.file(record.path) == (size, mtime):
                self._unchanged += 1
            else:
                yield record, path

    def _skip(self, error: ImageError) -> None:
        self._skipped.append(str(error))

    def _publish(self) -> None:
        """Write the batch as a segment, flush it, and make it visible in one transaction."""
        if self._batch:
            name = uuid.uuid4().hex
            with new_segment(self._segments, name) as folder:
                write_segment(folder, [(self._identity(digest), packed) for digest, _, packed in self._batch],
                              fingerprint=self._extractor.identity["model"]["fingerprint"], packing=self._packing)
            self._catalogue.publish(name, sum(len(packed) for *_, packed in self._batch),
                                    [(image, self._files[digest]) for digest, image, _ in self._batch])
            for digest, *_ in self._batch:
                del self._files[digest]
            self._batch = []
            self._published()
        self._publish_links()

    def _identity(self, digest: str) -> Identity:
        file = self._files[digest][0]
        return Identity(bytes.fromhex(digest), file.shown, file.path)

    def _publish_links(self) -> None:
        if self._links:
            self._catalogue.link(self._links, self._left)
            self._links, self._left = [], []
        if self._filming is not None:
            whole, gone = self._filming.finished()
            if whole:
                self._catalogue.link(whole, gone)
        said = {key: text for key, text in self._metadata.items() if key not in self._files}  # else it is in flight
        if said:
            self._catalogue.describe({bytes.fromhex(key): text for key, text in said.items()})
            self._metadata = {key: text for key, text in self._metadata.items() if key not in said}


def is_gone(path: bytes) -> bool:
    """Whether there is certainly no such file: not that it cannot be looked at, or that a photo came from memory."""
    if key_of_path(path) is not None:
        return False
    try:
        os.lstat(containing_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def file_key(path: Path) -> bytes:
    """What the catalogue knows a file by: its absolute path as bytes, links not resolved."""
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 (resolve would follow links)


def image_record(loaded: LoadedImage) -> ImageRecord:
    """The record of an image that was read."""
    metadata = loaded.metadata
    return ImageRecord(bytes.fromhex(loaded.sha256), metadata.width, metadata.height, metadata.captured_at,
                       metadata.latitude, metadata.longitude, metadata.camera)
