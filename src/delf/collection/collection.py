"""A collection of photos and their features, in a folder on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection.adding import Adding, AddReport, Extractor, file_key
from delf.collection.catalogue import NAME, Catalogue, exists
from delf.collection.lock import WriterLock
from delf.collection.segment import Segment, open_segment
from delf.collection.upkeep import (
    SEGMENTS,
    compact_segments,
    crowd,
    is_unused,
    merge_newest,
    pruned,
    remove_leftovers,
    segment_folder,
)
from delf.errors import CollectionError
from delf.images import display_path, find_images
from delf.types import Features, FloatArray, IntArray

IMAGES_PER_SEGMENT = 512
IMAGES_PER_MERGED_SEGMENT = 16384
_NO_DATA = (".json", ".lock", ".partial", ".spill")  # manifests, the lock, and what is half written


@dataclass(frozen=True)
class StoredImage:
    """An image of a collection. path: as it was indexed; file: absolute; the rest from the photo's EXIF data."""

    path: str
    file: Path
    captured_at: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """The state of a collection at one instant.

    bases: (S + 1,) ordinal of the first image of each segment, and the number of all.
    starts: (n + 1,) first row of each image among the features of all segments, and the number of all.
    alive: (n,) whether the image still has a file.
    """

    ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    bases: IntArray
    starts: IntArray
    alive: NDArray[np.bool_]


class Collection:
    """Photos and their features. It answers for the state it opened until `refresh` is called.

        collection = Collection.create("places.delf", Delf.load())
        collection.add(["photos/"])

    Images are numbered by ordinals 0 to n - 1 in the order in which they were added, removed ones included; features
    by rows, image after image.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, extractor: Extractor | None) -> None:
        self.folder = folder
        self._catalogue = catalogue
        self._extractor = extractor
        self.refresh()
        if extractor is not None:
            self.require(extractor)

    @classmethod
    def create(cls, folder: str | Path, extractor: Extractor) -> Collection:
        """Make a new, empty collection in a folder that does not exist or is empty.

        Raises:
            CollectionError: there is something in the folder already, or it cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not is_unused(folder):
                raise CollectionError(f"{display_path(folder)} is not empty: give the name of a new folder")
            with WriterLock(folder):
                (folder / SEGMENTS).mkdir(exist_ok=True)
                if exists(folder):  # made by another process just now
                    return cls.open(folder, extractor)
                return cls(folder, Catalogue.create(folder, extractor.identity), extractor)
        except OSError as error:
            raise CollectionError(f"cannot make a collection at {display_path(folder)}: {error.strerror}") from error

    @classmethod
    def open(cls, folder: str | Path, extractor: Extractor | None = None) -> Collection:
        """Open a collection; an extractor is only needed to add to it.

        Raises:
            CollectionError: there is none, it is damaged, or it was made with another model or other options than
                the extractor's.
        """
        folder = Path(folder)
        return cls(folder, Catalogue.open(folder), extractor)

    @classmethod
    def open_or_create(cls, folder: str | Path, extractor: Extractor) -> Collection:
        """Open the collection in a folder, or make a new one there."""
        return cls.open(folder, extractor) if cls.exists(folder) else cls.create(folder, extractor)

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether there is a collection in this folder."""
        return exists(Path(folder))

    def close(self) -> None:
        """Let go of the catalogue. The arrays are unmapped when nothing uses them any more."""
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Look at the state on disk anew."""
        while True:
            self._catalogue.pin()
            try:
                self.about, self._snapshot = self._read()
                return
            except CollectionError:
                # A segment that another process merged into a new one goes when that one is there.
                before = self._catalogue.segments()
                self._catalogue.pin()
                if self._catalogue.segments() == before:
                    raise

    def _read(self) -> tuple[dict[str, Any], _Snapshot]:
        about, rows = self._catalogue.about(), self._catalogue.segments()
        segments = tuple(open_segment(segment_folder(self.folder, name), dimensions=about["options"]["dimensions"],
                                      fingerprint=about["model"]["fingerprint"]) for _, name in rows)
        ids = tuple(number for number, _ in rows)
        bases = np.cumsum([0, *(segment.images for segment in segments)])
        row_bases = np.cumsum([0, *(segment.rows for segment in segments)])
        starts = [segment.offsets[:-1] + base for segment, base in zip(segments, row_bases, strict=False)]
        alive = np.ones(bases[-1], dtype=bool)
        ordinals = {number: range(start, stop) for number, start, stop in zip(ids, bases, bases[1:], strict=False)}
        for segment, position in self._catalogue.removed():
            known = ordinals.get(segment, range(0))  # none where it was published a moment ago
            if 0 <= position < len(known):
                alive[known[position]] = False
        return about, _Snapshot(ids, segments, bases, np.concatenate([*starts, row_bases[-1:]]), alive)

    def __len__(self) -> int:
        """How many images there are, removed ones left out."""
        return int(self._snapshot.alive.sum())

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in the order of their rows."""
        return self._snapshot.segments

    @property
    def segment_ids(self) -> tuple[int, ...]:
        """The number of each segment in the catalogue."""
        return self._snapshot.ids

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue as it was when this state was opened, to be read."""
        return self._catalogue

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """The catalogue, to be written: the only way to change a collection.

        One process at a time has it. What a torn run left behind is removed first, and the state on disk is looked at
        anew before and after.

        Raises:
            CollectionError: another process is writing, and the text says which and since when; or the folder cannot
                be written.
        """
        with WriterLock(self.folder), Catalogue.open(self.folder) as catalogue:
            remove_leftovers(self.folder, catalogue)
            self.refresh()
            yield catalogue
            self.refresh()

    @property
    def rows(self) -> int:
        """How many features are stored, those of removed images included."""
        return int(self._snapshot.starts[-1])

    @property
    def dimensions(self) -> int:
        """Of the stored descriptors."""
        return int(self.about["options"]["dimensions"])

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(n,) whether each image is still there."""
        return self._snapshot.alive

    @property
    def starts(self) -> IntArray:
        """(n + 1,) first row of each image, and the number of rows."""
        return self._snapshot.starts

    def images_of(self, rows: IntArray) -> IntArray:
        """The ordinals of the images that features belong to."""
        return np.searchsorted(self._snapshot.starts, rows, side="right") - 1

    def image(self, ordinal: int) -> StoredImage:
        """What is known of an image.

        Raises:
            CollectionError: it was removed after this state was opened.
        """
        segment, position = self._place(ordinal)
        row = self._catalogue.image_at(self._snapshot.ids[segment], position)
        if row is None:
            raise CollectionError(f"image {ordinal} is not in {self.folder} any more; refresh the collection")
        shown, path, captured_at, latitude, longitude = row
        return StoredImage(os.fsdecode(shown), Path(os.fsdecode(path)), captured_at, latitude, longitude)

    def features(self, ordinal: int) -> Features:
        """The stored features of an image."""
        segment, position = self._place(ordinal)
        return self._snapshot.segments[segment].features(position)

    def ordinal_of(self, path: str | Path) -> int | None:
        """The ordinal of the image in a file, or None where the file is not in the collection."""
        place = self._catalogue.place_of(file_key(Path(path)))
        if place is None or place[0] not in self._snapshot.ids:
            return None
        return int(self._snapshot.bases[self._snapshot.ids.index(place[0])]) + place[1]

    def global_descriptors(self) -> FloatArray:
        """(n, G) float32 unit vectors of all images."""
        if not self.segments:
            return np.zeros((0, 0), np.float32)
        return np.concatenate([segment.global_descriptors() for segment in self.segments])

    def files(self) -> int:
        """How many files the images have; copies of one image count each."""
        return self._catalogue.counts()[1]

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes on disk: the catalogue, each kind of array, the indexes, and what else searches were prepared with.

        The last go by what the names of their files begin with: `asmk-0123.lists` counts as "asmk".
        """
        sizes = {"catalogue": (self.folder / NAME).stat().st_size}
        for path in sorted(self.folder.rglob("*")):
            kind = _kind_of(path)
            if kind and path.is_file():
                sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
        return sizes

    def add(self, paths: str | Path | Iterable[str | Path], *,
            progress: Callable[[int, int], None] = lambda done, total: None,
            images_per_segment: int = IMAGES_PER_SEGMENT, prune: bool = False,
            exclude: Iterable[str] = ()) -> AddReport:
        """Add the photos in files and folders: what is new or changed; the rest is left as it is.

        Each batch of photos is published as a segment by one transaction, so that whatever ends the work, what was
        published stays, and the next call goes on from there. Ctrl-C publishes what is done and returns. Where small
        segments have become many, they are merged, without their removed images, as by `compact`.

        Args:
            paths: files and folders, or one of them.
            progress: called with (files done, files to do) now and then.
            prune: forget the files at or below `paths` that are gone. Those of a folder that has no photo left at all
                are kept, and that is told: its disk may not be there.
            exclude: patterns of names, or of paths relative to those of `paths`, that are passed over beside what
                programs keep among photos (`delf.images.find_images`). What the collection has of them stays.

        Raises:
            CollectionError: the collection was opened without an extractor, or the disk cannot be written.
            ImageError: a path does not exist. OptionError: a pattern is empty.
        """
        if self._extractor is None:
            raise CollectionError("to add photos, open the collection with an extractor: "
                                  "Collection.open(folder, Delf.load())")
        listed = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        patterns = [exclude] if isinstance(exclude, str) else list(exclude)
        find_images(listed, exclude=patterns)  # a missing one is told before anything is done
        try:
            with self.writing() as catalogue:
                report = Adding(catalogue, self.folder / SEGMENTS, self._extractor, images_per_segment,
                                published=lambda: self._merge_newest(catalogue)).run(listed, progress, patterns)
                return pruned(catalogue, listed, report) if prune and not report.interrupted else report
        except OSError as error:
            raise CollectionError(f"cannot write to {display_path(self.folder)} ({error.strerror}); "
                                  "what was published before is safe") from error

    def _merge_newest(self, catalogue: Catalogue) -> None:
        """Merge the newest segments where there are many small ones."""
        count = crowd(catalogue.segment_sizes(), IMAGES_PER_MERGED_SEGMENT)
        if count:
            self.refresh()
            now = self._snapshot
            merge_newest(self.folder / SEGMENTS, catalogue, now.ids, now.segments, now.alive, count=count,
                         fingerprint=self.about["model"]["fingerprint"])

    def remove(self, paths: str | Path | Iterable[str | Path]) -> int:
        """Forget files, and all files below folders, whether they still exist or not; how many there were.

        Their features stay on the disk until `compact`, and an image that has another file stays in the collection.

        Raises:
            CollectionError: the collection has no file at or below one of the paths; nothing is removed then.
        """
        with self.writing() as catalogue:
            found: dict[bytes, None] = {}
            for path in [paths] if isinstance(paths, str | Path) else paths:
                below = catalogue.files_below(file_key(Path(path)))
                if not below:
                    raise CollectionError(f"{display_path(self.folder)} has no photo at or below {display_path(path)}; "
                                          "nothing was removed")
                found |= dict.fromkeys(below)
            catalogue.remove(found)
        return len(found)

    def compact(self, *, progress: Callable[[int, int], None] = lambda done, total: None,
                images_per_segment: int = IMAGES_PER_MERGED_SEGMENT) -> tuple[int, int]:
        """Merge small segments and drop what belongs to removed images; (images dropped, segments less).

        It may be interrupted at any instant: each merged segment takes the place of its parts in one transaction.
        Indexes of merged segments are to be built anew (`build_index`).
        """
        with self.writing() as catalogue:
            before = self._snapshot
            try:
                compact_segments(self.folder / SEGMENTS, catalogue, before.ids, before.segments, before.alive,
                                 fingerprint=self.about["model"]["fingerprint"], images_per_segment=images_per_segment,
                                 progress=progress)
            except OSError as error:
                raise CollectionError(f"cannot write to {display_path(self.folder)} ({error.strerror}); "
                                      "nothing was lost") from error
        return len(before.alive) - len(self._snapshot.alive), len(before.ids) - len(self._snapshot.ids)

    def require(self, extractor: Extractor) -> None:
        """Make sure that an extractor is the one that the collection was made with.

        Raises:
            CollectionError: its model or its options differ; the text says both.
        """
        wanted, stored = extractor.identity, self.about
        if wanted["model"] != stored["model"]:
            raise CollectionError(f"{display_path(self.folder)} was made with the model {stored['model']['name']} "
                                  f"({stored['model']['fingerprint'][:8]}), not {wanted['model']['name']} "
                                  f"({wanted['model']['fingerprint'][:8]}); use that model or a new collection")
        different = [f"{key} {stored['options'].get(key, 'unset')} (now {value})"
                     for key, value in wanted["options"].items() if stored["options"].get(key) != value]
        if different:
            raise CollectionError(f"{display_path(self.folder)} was made with other options: {', '.join(different)}; "
                                  "use those or a new collection")

    def _place(self, ordinal: int) -> tuple[int, int]:
        segment = int(np.searchsorted(self._snapshot.bases, ordinal, side="right")) - 1
        return segment, int(ordinal - self._snapshot.bases[segment])


def _kind_of(path: Path) -> str:
    """What a file of a collection counts as in `bytes_by_kind`; nothing for what is no data."""
    if path.name.startswith((".", NAME)) or path.suffix in _NO_DATA:
        return ""
    return {".npy": path.stem, ".faiss": "index"}.get(path.suffix, path.stem.partition("-")[0])
