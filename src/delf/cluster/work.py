"""The work of one piece, on any machine: read its photos, extract features, write a segment, and report it."""

from __future__ import annotations

import platform
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from delf.cluster.facts import ImageFacts
from delf.cluster.listing import is_remote, source_of
from delf.cluster.locations import Location, filesystem_of, location_of
from delf.cluster.manifest import SEGMENTS, Manifest, SegmentEntry
from delf.cluster.pieces import Piece, PieceReport
from delf.cluster.publishing import written_segment
from delf.cluster.store import Store
from delf.codes import Codes, encode
from delf.collection.adding import image_record
from delf.collection.packing import Packed, Packing
from delf.collection.records import FileRecord, Identity, ImageRecord
from delf.collection.segment import write_segment
from delf.collection.storage import packing_of
from delf.errors import DelfError, ImageError
from delf.extractors import Extractor
from delf.features import Delf
from delf.images import LoadedImage, display_path, load
from delf.images.decoding import ImageOptions
from delf.pools import Pool
from delf.types import ImageArray

_GIVEN = "The given image"  # what a picture from memory is called in messages


class UnreachableError(DelfError):
    """A machine sees none of the photos of a piece, probably because it does not share their folder."""


@dataclass(frozen=True)
class Job:
    """What all pieces of a job have in common.

    store: the address of the store. manifest: its manifest when the job began. device: the device on which workers
    compute a model; the driver need not have such a device. batch: photos of one size that are computed together, if
    the extractor can do that; None leaves the number to the extractor.
    """

    store: str
    manifest: Manifest
    extractor: Extractor
    device: str = "cpu"
    batch: int | None = None

    def here(self) -> Job:
        """The same job with its model on the device of this machine."""
        model = self.extractor
        if self.device == "cpu" or not isinstance(model, Delf):
            return self
        return replace(self, extractor=Delf.load(model.source, device=self.device, threads=model.threads,
                                                 **asdict(model.options)))


@dataclass
class _Content:
    """One image: its record, the files that contain it, and its packed features once they are extracted."""

    record: ImageRecord
    files: list[FileRecord]
    packed: Packed | None = None


@dataclass
class _Work:
    """A piece in progress. It holds the packed features of the piece and a few pictures."""

    job: Job
    packing: Packing
    contents: dict[str, _Content] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def images(self, photos: tuple[FileRecord, ...]) -> Iterator[int]:
        """Read and extract the photos, each content once. Yields how many photos are done by now."""
        in_flight: deque[str] = deque()
        extractor = self.job.extractor

        def pixels() -> Iterator[tuple[ImageArray, tuple[int, int]]]:
            for record, loaded in self._loaded(photos):
                if loaded.sha256 in self.contents:
                    self.contents[loaded.sha256].files.append(record)
                else:
                    self.contents[loaded.sha256] = _Content(image_record(loaded), [record])
                    in_flight.append(loaded.sha256)
                    yield loaded.pixels, loaded.size

        options: dict[str, Any] = {} if self.job.batch is None else {"batch_size": self.job.batch}
        for features in extractor.extract_many(pixels(), **options):
            self.contents[in_flight.popleft()].packed = self.packing.pack(features)
            yield sum(len(content.files) for content in self.contents.values()) + len(self.skipped) - len(in_flight)
        yield len(photos)

    def _loaded(self, photos: tuple[FileRecord, ...]) -> Iterator[tuple[FileRecord, LoadedImage]]:
        """Decode photos in their order, a few ahead of the consumer; more if they come over the network."""
        ahead = max(2, self.job.extractor.threads) if not any(map(is_remote, photos)) else 8
        waiting: deque[tuple[FileRecord, Any]] = deque()
        with Pool(ahead, "delf-decode") as pool:
            for photo in photos:
                waiting.append((photo, pool.submit(_load, photo, self.job.extractor.longest_side)))
                if len(waiting) > ahead:
                    yield from self._taken(*waiting.popleft())
            for item in waiting:
                yield from self._taken(*item)

    def _taken(self, photo: FileRecord, future: Any) -> Iterator[tuple[FileRecord, LoadedImage]]:
        try:
            yield photo, future.result()
        except ImageError as error:
            self.skipped.append((source_of(photo), str(error)))

    def written(self, location: Location) -> SegmentEntry | None:
        """Write the segment. Returns None if it would be empty."""
        made = [(content, content.packed) for content in self.contents.values() if content.packed is not None]
        if not made:
            return None
        name = uuid.uuid4().hex  # for this attempt alone: another attempt may be writing the same piece
        with location.writing_segment(SEGMENTS, name) as folder:
            write_segment(folder, [(_identity(content), packed) for content, packed in made],
                          fingerprint=self.job.manifest.model["fingerprint"], packing=self.packing)
            facts = [ImageFacts(content.record, tuple(content.files)) for content, _ in made]
            return written_segment(folder, name, len(made), sum(len(packed) for _, packed in made), facts)


def index_piece(job: Job, piece: Piece) -> Iterator[int | PieceReport]:
    """Do a piece. Yields how many photos are done, now and then, and at last its report, which is then in the store.

    Raises:
        UnreachableError: this machine sees none of the photos. CollectionError: the store cannot be written.
    """
    began = time.monotonic()
    location = location_of(job.store)
    _require_reachable(piece)
    with _packing(job.manifest, location) as packing:
        work = _Work(job.here(), packing)
        yield from work.images(piece.photos)
        entry = work.written(location)
    copies = sum(len(content.files) - 1 for content in work.contents.values())
    report = PieceReport(piece.id, entry, len(work.contents), copies, tuple(work.skipped), platform.node(),
                         round(time.monotonic() - began, 3))
    location.write(report.name, report.to_json())
    yield report


def described(extractor: Extractor, photos: tuple[FileRecord, ...], each: int) -> Codes:
    """The descriptors with the highest scores, at most `each` of every photo, as 8-bit codes (N, D), int8."""
    codes = [np.zeros((0, extractor.dimensions), np.int8)]
    for photo in photos:
        try:
            loaded = _load(photo, extractor.longest_side)
        except ImageError:  # reported when the photo is indexed
            continue
        features = extractor.extract(loaded.pixels, image_size=loaded.size)
        codes.append(encode(features.descriptors[:each]))
    return np.concatenate(codes)


@contextmanager
def _packing(manifest: Manifest, location: Location) -> Iterator[Packing]:
    """The packing of the store's features, with the visual words of the store if the model brings none.

    Full storage has no words, and needs no temporary folder, which a worker that is killed would leave behind.
    """
    if not manifest.storage:
        yield packing_of(manifest.about, Path())
        return
    with tempfile.TemporaryDirectory(prefix="delf-piece-") as scratch:
        for file in manifest.shared:
            Store(location, manifest).fetch_shared(file, Path(scratch))
        yield packing_of(manifest.about, Path(scratch))


def _require_reachable(piece: Piece) -> None:
    """Raise if no local photo of a piece exists: one photo may be gone, but if all are, their folder is missing."""
    local = [photo for photo in piece.photos if not is_remote(photo)]
    if local and not any(Path(source_of(photo)).exists() for photo in local):
        raise UnreachableError(f"none of the {len(local):,} photos of a piece is there, such as "
                               f"{display_path(local[0].path)}: let all machines have the folder at the same path, or "
                               "index from object storage")


def _load(photo: FileRecord, shrink_to: int | None) -> LoadedImage:
    if not is_remote(photo):
        return load(source_of(photo), shrink_to=shrink_to)
    url, most = source_of(photo), ImageOptions().max_bytes
    name = display_path(url)
    if photo.size > most:
        raise ImageError(f"{name} has more than {most} bytes, the limit for an image file: leave it out.")
    try:
        files, path = filesystem_of(url)
        data = bytes(files.cat_file(path))
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {name}: check the address.") from error
    except Exception as error:  # its clients raise errors of many classes
        raise ImageError(f"{name} cannot be read ({type(error).__name__}: {error}): check your rights there and the "
                         "network.") from error
    try:
        return load(data, shrink_to=shrink_to)
    except ImageError as error:
        raise ImageError(str(error).replace(_GIVEN, name, 1)) from error


def _identity(content: _Content) -> Identity:
    first = content.files[0]
    return Identity(content.record.sha256, first.shown, first.path)

