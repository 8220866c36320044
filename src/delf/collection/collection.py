"""A collection of photos and their features, in a folder on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from delf.collection import upkeep
from delf.collection.adding import Adding, AddReport, file_key, is_gone
from delf.collection.catalogue import Catalogue, exists
from delf.collection.conversion import converted
from delf.collection.filming import filming_options
from delf.collection.given import NewPhoto, drop_previews, from_memory, key_of_path, metadata_text
from delf.collection.lock import WriterLock
from delf.collection.made_by import Identified
from delf.collection.reading import Reading
from delf.collection.renewal import renewed
from delf.collection.snapshot import Snapshot, read_snapshot
from delf.collection.storage import Storage, chosen, require_storage
from delf.collection.writer import Writer
from delf.errors import CollectionError, OptionError
from delf.extractors import Own, as_extractor
from delf.images import ImageSource, VideoOptions, display_path, find_images, named_paths
from delf.images.frames import as_frame

IMAGES_PER_SEGMENT = 512
IMAGES_PER_MERGED_SEGMENT = 16384
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Collection(Reading):
    """Photos and their features, which can be changed. A collection answers for one `snapshot`, until it is changed or
    `refresh` is called. A snapshot never changes, and neither does the answer of an engine that searches it.

        collection = Collection.create("places.delf", Delf.load())
        collection.add(["photos/"])
    """

    def __init__(self, folder: Path, catalogue: Catalogue, extractor: Own | None) -> None:
        self.folder, self._catalogue, self._writer = folder, catalogue, Writer(folder)
        self._extractor = None if extractor is None else as_extractor(extractor)
        self._snapshot: Snapshot | None = None
        self.refresh()
        if self._extractor is not None:
            self.require(self._extractor)

    @classmethod
    def create(cls, folder: str | Path, extractor: Own, *, storage: Storage = "full") -> Collection:
        """Make a new, empty collection in a folder that does not exist or is empty.

        Args:
            storage: "full", "compact", or the options of compact storage (`delf.collection.compact.CompactOptions`).

        Raises:
            CollectionError: the folder is not empty or cannot be written, or the storage needs visual words of the
                model, and there are none.
        """
        folder, extractor = Path(folder), as_extractor(extractor)
        stored = chosen(storage, extractor.identity, extractor.model_file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not upkeep.is_unused(folder):
                raise CollectionError(f"{display_path(folder)} is not empty: give the name of a new folder")
            with WriterLock(folder):
                (folder / upkeep.SEGMENTS).mkdir(exist_ok=True)
                if exists(folder):  # made by another process just now
                    return cls.open(folder, extractor)
                stored.put(folder)
                return cls(folder, Catalogue.create(folder, {**extractor.identity, **stored.facts}), extractor)
        except OSError as error:
            raise CollectionError(f"cannot make a collection at {display_path(folder)}: {error.strerror}") from error

    @classmethod
    def open(cls, folder: str | Path, extractor: Own | None = None) -> Collection:
        """Open a collection; an extractor is only needed to add to it.

        Raises:
            CollectionError: there is no collection, it is damaged, or it was made with another model or other options
                than the extractor's.
        """
        folder = Path(folder)
        return cls(folder, Catalogue.open(folder), extractor)

    @classmethod
    def open_or_create(cls, folder: str | Path, extractor: Own, *, storage: Storage | None = None) -> Collection:
        """Open the collection in a folder, or make a new one there. A collection that is opened must have the storage,
        if one is given. Errors as for `open` and `create`.
        """
        if not cls.exists(folder):
            return cls.create(folder, extractor, storage=storage or "full")
        opened = cls.open(folder, extractor)
        require_storage(storage, opened.about, opened.folder)
        return opened

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether there is a collection in this folder."""
        return exists(Path(folder))

    def close(self) -> None:
        """Close the catalogue. The arrays are unmapped when nothing uses them any more."""
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder and the extractor; unpickling opens the state that is on the disk by then."""
        return Collection.open, (self.folder.resolve(), self._extractor)

    def refresh(self) -> None:
        """Read the newest state from the disk. Segments that are open already are not opened again."""
        while True:
            try:
                with self._catalogue.pinned():
                    before = self._catalogue.segments()
                    self._snapshot = read_snapshot(self.folder, self._catalogue, before, self._snapshot)
                    return
            except CollectionError:
                # Another process may have merged a segment into a new one, and then deleted it.
                with self._catalogue.pinned():
                    if self._catalogue.segments() == before:
                        raise

    @property
    def snapshot(self) -> Snapshot:
        """The state for which the collection answers."""
        assert self._snapshot is not None, "it is read when the collection is opened"
        return self._snapshot

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, for reading: it knows the present state of the disk, not that of `snapshot`."""
        return self._catalogue

    @contextmanager
    def writing(self) -> Iterator[Catalogue]:
        """The catalogue, for writing: the only way to change a collection.

        One process at a time may write. The leftovers of an interrupted process are removed first, and the collection
        is refreshed before and after. A change of several steps (`add`, then `build_index`) is done in one such block,
        or another process may write between them.

        Raises:
            CollectionError: another process is writing (the message says which, and since when), or the folder cannot
                be written.
        """
        with self._writer.catalogue(lambda new: upkeep.remove_leftovers(self.folder, new)) as catalogue:
            self.refresh()
            yield catalogue
            self.refresh()

    def files(self) -> int:
        """How many files the images have; each copy of an image counts."""
        return self._catalogue.counts()[1]

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes on disk by kind: the catalogue, each kind of array, the indexes, and files of search methods.

        The latter are named for the beginning of their file names: `asmk-0123.lists` counts as "asmk". The files of an
        unfinished renewal count as "renewal".
        """
        return upkeep.bytes_by_kind(self.folder)

    def add(self, photos: ImageSource | NewPhoto | Iterable[str | Path | NewPhoto], *, progress: Progress = silent,
            images_per_segment: int = IMAGES_PER_SEGMENT, prune: bool = False, exclude: Iterable[str] = (),
            key: str | None = None, name: str | None = None, metadata: Mapping[str, Any] | None = None,
            preview: int | None = None, videos: VideoOptions | bool = True) -> AddReport:
        """Add the photos in files and folders that are new or have changed, or photos from memory.

            collection.add(["photos/", "more/a.jpg"])
            collection.add(pixels, key="42", name="shop/42", metadata={"price": 12}, preview=1024)

        Each batch of photos is published as a segment by one transaction. Whatever ends the call, published photos
        stay, and the next call continues. Ctrl-C publishes the photos that are done, and returns. If there are many
        small segments, they are merged as by `compact`.

        Args:
            photos: one or several files and folders; or a photo from memory, which is added as by `add_photos`: the
                bytes of a file, a binary file object, a Pillow image, an (H, W, 3) array or a `NewPhoto`.
            progress: called with (files done, files to do) now and then.
            images_per_segment: images in a batch.
            prune: forget files at or below `photos` that are gone, even if a path itself is gone. If nothing is left of
                a folder and of its siblings, its disk may be unplugged: then only files are forgotten of which the
                collection has a copy elsewhere, and the report says so.
            exclude: patterns of names, or of paths relative to `photos`, that are passed over in addition to the files
                of photo programs (`delf.images.find_images`). Photos that the collection already has stay.
            key, name, metadata, preview: of one photo from memory, as for `NewPhoto` and `add_photos`. With them, a
                path is read once and is not remembered as a file.
            videos: which frames of videos are photos, from now on. True keeps the options of the collection, at first
                `VideoOptions()`, and False passes videos over. Reading videos needs the extra `video`.

        Raises:
            CollectionError: the collection was opened without an extractor, or the disk cannot be written.
            ImageError: a path does not exist. OptionError: a pattern is empty, or as for `add_photos`.
        """
        given = from_memory(photos, key=key, name=name, metadata=metadata, kept=preview is not None)
        if given is not None:
            return self.add_photos(given, total=len(given), preview=preview, progress=progress,
                                   images_per_segment=images_per_segment)
        paths = cast("str | Path | Iterable[str | Path]", photos)
        listed = named_paths([paths] if isinstance(paths, str | Path) else paths)
        present = [path for path in listed if not (prune and self._is_forgotten(path))]
        patterns = [exclude] if isinstance(exclude, str) else list(exclude)
        find_images(present, exclude=patterns)  # raises for a missing path before anything is done
        with self._adding(images_per_segment, videos) as (catalogue, adding):
            report = adding.run(present, progress, patterns)
            return upkeep.pruned(catalogue, listed, report) if prune and not report.interrupted else report

    def add_photos(self, photos: Iterable[NewPhoto], *, total: int = 0, preview: int | None = None,
                   progress: Progress = silent,
                   images_per_segment: int = IMAGES_PER_SEGMENT) -> AddReport:
        """Add photos from memory, which need not be files. Features are stored, and pixels only as previews.

            collection.add_photos((NewPhoto(row.pixels, key=row.id) for row in shop), total=len(shop), preview=1024)

        A photo with a known key replaces the earlier photo. `collection["42"]` returns the photo with a key, and
        `forget("42")` removes it. Such a photo cannot be read again: forget it before `renew`, and add it again.

        Args:
            photos: an iterable, from which a few photos are taken at a time. total: their number, for `progress`.
            preview: the longest side, in pixels, of reduced copies on which evidence can be drawn; None stores none.

        Raises:
            CollectionError: as `add`. OptionError: a key or metadata are not valid. Photos that cannot be read as
                images are listed in the report.
        """
        if preview is not None and (type(preview) is not int or preview < 16):
            raise OptionError(f"a preview has a longest side of 16 pixels or more, not {preview!r}")
        with self._adding(images_per_segment) as (_, adding):
            return adding.add_given(photos, total, progress, preview=preview)

    def describe(self, photos: Mapping[str | Path, Mapping[str, Any] | None]) -> None:
        """Store a JSON object as the metadata of each image, replacing earlier metadata; None removes them.

            collection.describe({"photos/a.jpg": {"album": "Rome", "tags": ["sea", "night"]}})

        Metadata belong to a content: exact copies share them, and a file whose content changes keeps them.

        Args:
            photos: metadata by the key of an image, or by the path of a file, as `[]` takes them.

        Raises:
            MissingImageError: there is no such image. OptionError: an object is not JSON, or too large. Nothing is
                stored then.
        """
        texts = {which: None if value is None else metadata_text(value) for which, value in photos.items()}
        with self.writing() as catalogue:
            catalogue.describe({bytes.fromhex(self[which].key): text for which, text in texts.items()})

    def add_files(self, files: Iterable[tuple[Path, bytes]], total: int, progress: Progress,
                  images_per_segment: int = IMAGES_PER_SEGMENT) -> AddReport:
        """As `add`, for files given as (path, the path as it is to be shown). total: how many there are."""
        with self._adding(images_per_segment) as (_, adding):
            return adding.add(files, total, progress)

    @contextmanager
    def _adding(self, images_per_segment: int,
                videos: VideoOptions | bool = False) -> Iterator[tuple[Catalogue, Adding]]:
        """The catalogue, for writing, and the run that adds photos to it."""
        if self._extractor is None:
            raise CollectionError("to add photos, open the collection with an extractor: "
                                  "Collection.open(folder, Delf.load())")
        with self._disk(), self.writing() as catalogue:
            self.require(self._extractor)  # another process may have renewed it with another one
            yield catalogue, Adding(catalogue, self.folder / upkeep.SEGMENTS, self._extractor, self.snapshot.packing,
                                    images_per_segment, published=lambda: self._merge_newest(catalogue),
                                    videos=filming_options(catalogue, videos))

    @contextmanager
    def _disk(self, comfort: str = "what was published before is safe") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = display_path(self.folder)
            raise CollectionError(f"cannot write to {place} ({error.strerror or error}); {comfort}") from error

    def renew(self, extractor: Own, *, progress: Progress = silent, images_per_segment: int = IMAGES_PER_SEGMENT,
              prune: bool = False, storage: Storage | None = None) -> AddReport:
        """Extract the features of all images again, with another model or other options.

        All files are read again; a file that has changed gets its present content. The collection answers as before
        until all files are done, and then changes in one step; whoever has it open keeps the old state until `refresh`.
        Whatever ends the call, the next one with the same extractor continues; after Ctrl-C, `interrupted` is true. The
        work takes about as much disk space as the collection. Build the index afterwards (`build_index`). If the
        collection already has the model and the options, nothing happens.

        Args:
            extractor: used from now on, also to add photos. progress, images_per_segment: as for `add`.
            prune: forget images whose files are gone, unless their whole folder is gone, as with an unplugged disk.
            storage: a new storage, as for `create`; by default the collection keeps its own.

        Returns:
            the report, in numbers of files: `added` were read by this call, and `unchanged` by an earlier one.

        Raises:
            CollectionError: the files of some images are gone or cannot be read (the message says which, and what to
                do), or the disk cannot be written. Features that were extracted are kept.
        """
        with self._disk(), self.writing() as catalogue:
            report = renewed(self, catalogue, whole := as_extractor(extractor), progress, images_per_segment, prune,
                             storage)
            if not report.interrupted:
                self._extractor = whole
            return report

    def _is_forgotten(self, root: Path) -> bool:
        """Whether a root is gone below which the collection has files: nothing to add, but something to prune."""
        return is_gone(file_key(root)) and self._catalogue.has_below(file_key(root))

    def _merge_newest(self, catalogue: Catalogue) -> None:
        """Merge the newest segments if there are many small ones."""
        count = upkeep.crowd(catalogue.segment_sizes(), IMAGES_PER_MERGED_SEGMENT)
        if count:
            self.refresh()
            upkeep.merge_newest(self.snapshot, catalogue, count)

    def remove(self, paths: str | Path | Iterable[str | Path]) -> int:
        """Forget files, and all files below folders, whether they still exist or not. Returns how many they were.

        Their features stay on the disk until `compact`, and an image that has another file stays in the collection.

        Raises:
            CollectionError: the collection has no file at or below one of the paths; nothing is removed then.
            ImageError: a path is empty.
        """
        with self.writing() as catalogue:
            files: dict[bytes, None] = {}
            for path in named_paths([paths] if isinstance(paths, str | Path) else paths):
                below = catalogue.files_below(file_key(path))
                if not below:
                    raise CollectionError(f"{display_path(self.folder)} has no photo at or below {display_path(path)}; "
                                          "nothing was removed")
                files |= dict.fromkeys(below)
            catalogue.remove(files)
        return len(files)

    def forget(self, keys: str | Iterable[str]) -> list[Path]:
        """Remove images by their keys, with all of their files. Returns these files, which are not touched.

        A caller's own key removes the photo that was added under it; the image stays if it has another key or file.

        Raises:
            CollectionError: the collection has no image with one of the keys; nothing is removed then.
        """
        with self.writing() as catalogue:
            files: dict[bytes, None] = {}
            for key in [keys] if isinstance(keys, str) else keys:
                paths = self.snapshot.paths_of(key)
                if not paths:
                    raise CollectionError(f"{display_path(self.folder)} has no image {key}; nothing was removed")
                files |= dict.fromkeys(paths)
            catalogue.remove(files)
        return [Path(os.fsdecode(path)) for path in files if key_of_path(path) is None and as_frame(path) is None]

    def compact(self, *, progress: Progress = silent,
                images_per_segment: int = IMAGES_PER_MERGED_SEGMENT) -> tuple[int, int]:
        """Merge small segments, and drop removed images. Returns (images dropped, segments less).

        It may be interrupted at any time: each merged segment replaces its parts in one transaction. Build the index
        afterwards (`build_index`), since merged segments have none.
        """
        with self.writing() as catalogue:
            before = self.snapshot
            with self._disk("nothing was lost"):
                upkeep.compact_segments(before, catalogue, images_per_segment, progress)
        drop_previews(self.folder, lambda key: self.snapshot.ordinal_of_key(key) is not None)
        return len(before.alive) - len(self.alive), len(before.segments) - len(self.segments)

    def convert(self, storage: Storage = "compact", *, model_file: Path | None = None,
                progress: Progress = silent) -> int:
        """Convert the features to another storage (`delf.collection.conversion`). Returns how many images it converted.

        It may be interrupted at any time, and the next call, or `compact`, continues. Searches work meanwhile. Build
        the index afterwards.

        Args:
            storage: as for `create`. model_file: the file of the model, if its visual words lie beside it; packaged and
                learnt words are found without it. progress: called with (images done, images to do).

        Raises:
            CollectionError: the model has no visual words, or a compact collection cannot become full.
        """
        with self.writing() as catalogue, self._disk("nothing was lost"):
            own = getattr(self._extractor, "model_file", None)
            return converted(self, catalogue, storage, model_file or own, progress)

    def require(self, extractor: Identified) -> None:
        """Make sure that an extractor is the one that the collection was made with; as `Snapshot.require`."""
        self.snapshot.require(extractor)
