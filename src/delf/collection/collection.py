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
from delf.errors import CollectionError, OptionError
from delf.extractors import Own, as_extractor
from delf.images import ImageSource, VideoOptions, display_path, find_images, named_paths
from delf.images.frames import as_frame

IMAGES_PER_SEGMENT = 512
IMAGES_PER_MERGED_SEGMENT = 16384
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """The progress that nobody looks at."""


class Collection(Reading):
    """Photos and their features, which can be changed. What it says is of one `snapshot`, until it is changed or
    `refresh` is called; a snapshot itself, and an engine that searches it, stay as they are.

        collection = Collection.create("places.delf", Delf.load())
        collection.add(["photos/"])
    """

    def __init__(self, folder: Path, catalogue: Catalogue, extractor: Own | None) -> None:
        self.folder, self._catalogue = folder, catalogue
        self._extractor = None if extractor is None else as_extractor(extractor)
        self._snapshot: Snapshot | None = None
        self.refresh()
        if self._extractor is not None:
            self.require(self._extractor)

    @classmethod
    def create(cls, folder: str | Path, extractor: Own, *, storage: Storage = "full") -> Collection:
        """Make a new, empty collection in a folder that does not exist or is empty.

        Args:
            storage: "full", or "compact" (`delf.collection.compact`), which may be given by its options.

        Raises:
            CollectionError: there is something in the folder already, or it cannot be written; or the storage needs
                visual words of the model, and there are none.
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
            CollectionError: there is none, it is damaged, or it was made with another model or other options than
                the extractor's.
        """
        folder = Path(folder)
        return cls(folder, Catalogue.open(folder), extractor)

    @classmethod
    def open_or_create(cls, folder: str | Path, extractor: Own, *, storage: Storage | None = None) -> Collection:
        """Open the collection in a folder, which must have a storage that is given, or make a new one there."""
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
        """Let go of the catalogue. The arrays are unmapped when nothing uses them any more."""
        self._catalogue.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """By its folder and its extractor; the other one opens the state that is there then."""
        return Collection.open, (self.folder.resolve(), self._extractor)

    def refresh(self) -> None:
        """Look at the state on disk anew. Segments that were open already are not opened again."""
        while True:
            try:
                with self._catalogue.pinned():
                    before = self._catalogue.segments()
                    self._snapshot = read_snapshot(self.folder, self._catalogue, before, self._snapshot)
                    return
            except CollectionError:
                # A segment that another process merged into a new one goes when that one is there.
                with self._catalogue.pinned():
                    if self._catalogue.segments() == before:
                        raise

    @property
    def snapshot(self) -> Snapshot:
        """The state that it answers for."""
        assert self._snapshot is not None, "it is read when the collection is opened"
        return self._snapshot

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue, to be read: it answers for what is there now."""
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
            upkeep.remove_leftovers(self.folder, catalogue)
            self.refresh()
            yield catalogue
            self.refresh()

    def files(self) -> int:
        """How many files the images have; copies of one image count each."""
        return self._catalogue.counts()[1]

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes on disk: the catalogue, each kind of array, the indexes, and what else searches were prepared with.

        The last go by what the names of their files begin with: `asmk-0123.lists` counts as "asmk". What a renewal has
        by now counts as "renewal".
        """
        return upkeep.bytes_by_kind(self.folder)

    def add(self, photos: ImageSource | NewPhoto | Iterable[str | Path | NewPhoto], *, progress: Progress = silent,
            images_per_segment: int = IMAGES_PER_SEGMENT, prune: bool = False, exclude: Iterable[str] = (),
            key: str | None = None, name: str | None = None, metadata: Mapping[str, Any] | None = None,
            preview: int | None = None, videos: VideoOptions | bool = True) -> AddReport:
        """Add the photos in files and folders, what is new or changed of them; or photos from memory.

            collection.add(["photos/", "more/a.jpg"])
            collection.add(pixels, key="42", name="shop/42", metadata={"price": 12}, preview=1024)

        Each batch of photos is published as a segment by one transaction, so that whatever ends the work, what was
        published stays, and the next call goes on from there. Ctrl-C publishes what is done and returns. Where small
        segments have become many, they are merged, without their removed images, as by `compact`.

        Args:
            photos: files and folders, or one of them; or the bytes of a file, a binary file object, a Pillow image, an
                (H, W, 3) array or a `NewPhoto`, which are added as by `add_photos`.
            progress: called with (files done, files to do) now and then.
            prune: forget the files at or below `photos` that are gone, also where a path itself is gone. Where nothing
                is left of a folder and of what is beside it, its disk may not be there: then only those files are
                forgotten of which the collection has a copy elsewhere, and that is told.
            exclude: patterns of names, or of paths relative to those of `photos`, that are passed over beside what
                programs keep among photos (`delf.images.find_images`). What the collection has of them stays.
            key, name, metadata, preview: of one photo from memory (also of a path, which is then read once, and is not
                known as a file): as for `NewPhoto` and `add_photos`.
            videos: which of their frames are photos of the collection, from now on; True asks for them as before, which
                is `VideoOptions()` at first, and False passes videos over. The extra `video` reads them.

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
        find_images(present, exclude=patterns)  # a missing one is told before anything is done
        with self._adding(images_per_segment, videos) as (catalogue, adding):
            report = adding.run(present, progress, patterns)
            return upkeep.pruned(catalogue, listed, report) if prune and not report.interrupted else report

    def add_photos(self, photos: Iterable[NewPhoto], *, total: int = 0, preview: int | None = None,
                   progress: Progress = silent,
                   images_per_segment: int = IMAGES_PER_SEGMENT) -> AddReport:
        """Add photos from memory, which need not be files; features are kept, and pixels only as previews.

            collection.add_photos((NewPhoto(row.pixels, key=row.id) for row in shop), total=len(shop), preview=1024)

        A photo under a key that is there takes the place of the one before. It is known by that key from then on
        (`collection["42"]`), stays until it is forgotten (`forget("42")`), and cannot be read again: `renew` needs it
        to be added anew.

        Args:
            photos: of which a few at a time are asked for. total: how many, for `progress`.
            preview: the longest side, in pixels, of a reduced copy that is kept, so that the evidence can be drawn;
                None keeps none.

        Raises:
            CollectionError: as `add`. OptionError: a key or metadata are not what they should be. What cannot be read
                as an image is listed in the report.
        """
        if preview is not None and (type(preview) is not int or preview < 16):
            raise OptionError(f"a preview has a longest side of 16 pixels or more, not {preview!r}")
        with self._adding(images_per_segment) as (_, adding):
            return adding.add_given(photos, total, progress, preview=preview)

    def describe(self, photos: Mapping[str | Path, Mapping[str, Any] | None]) -> None:
        """Keep a JSON object with each of some images, in the place of what was kept before; None forgets it.

            collection.describe({"photos/a.jpg": {"album": "Rome", "tags": ["sea", "night"]}})

        It belongs to the content: copies have it too, and a file whose content changes takes it along.

        Args:
            photos: by the key of an image, or the path of a file (what `[]` takes).

        Raises:
            MissingImageError: an image is not there. OptionError: an object is not JSON, or too large. Nothing is kept
                then.
        """
        said = {which: None if value is None else metadata_text(value) for which, value in photos.items()}
        with self.writing() as catalogue:
            catalogue.describe({bytes.fromhex(self[which].key): text for which, text in said.items()})

    def add_files(self, files: Iterable[tuple[Path, bytes]], total: int, progress: Progress,
                  images_per_segment: int = IMAGES_PER_SEGMENT) -> AddReport:
        """As `add`, for photos whose paths come with how they are shown. total: how many there are."""
        with self._adding(images_per_segment) as (_, adding):
            return adding.add(files, total, progress)

    @contextmanager
    def _adding(self, images_per_segment: int,
                videos: VideoOptions | bool = False) -> Iterator[tuple[Catalogue, Adding]]:
        """The catalogue, to be written, and what adds photos to it."""
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
        """Extract all images anew, with another model or other options, in the place of the features that there are.

        All files are read again; one that has changed counts as what it is now. The collection answers as before until
        all is done, and then changes in one step: who has it open goes on with the old state until `refresh`. Whatever
        ends the work, the next call with the same extractor goes on from there; after Ctrl-C, `interrupted` says so.
        About twice the room is needed meanwhile. Indexes are to be built anew (`build_index`). Where the collection has
        that model and those options already, nothing is done.

        Args:
            extractor: by which photos are added from now on, too. progress: as for `add`.
            prune: forget images whose files are gone, except where nothing is left of their folder (a disk not there).
            storage: another one than the collection has, as for `create`.

        Returns:
            what was done now, in numbers of files: `added` were read now, and `unchanged` by a call before.

        Raises:
            CollectionError: the files of some images are gone or cannot be read, and the text says which and what to
                do; or the disk cannot be written. What was extracted is kept.
        """
        with self._disk(), self.writing() as catalogue:
            report = renewed(self, catalogue, whole := as_extractor(extractor), progress, images_per_segment, prune,
                             storage)
            if not report.interrupted:
                self._extractor = whole
            return report

    def _is_forgotten(self, root: Path) -> bool:
        """Whether a root is gone of which the collection has files: there is nothing to add, and something to prune."""
        return is_gone(file_key(root)) and self._catalogue.has_below(file_key(root))

    def _merge_newest(self, catalogue: Catalogue) -> None:
        """Merge the newest segments where there are many small ones."""
        count = upkeep.crowd(catalogue.segment_sizes(), IMAGES_PER_MERGED_SEGMENT)
        if count:
            self.refresh()
            upkeep.merge_newest(self.snapshot, catalogue, count)

    def remove(self, paths: str | Path | Iterable[str | Path]) -> int:
        """Forget files, and all files below folders, whether they still exist or not; how many there were.

        Their features stay on the disk until `compact`, and an image that has another file stays in the collection.

        Raises:
            CollectionError: the collection has no file at or below one of the paths; nothing is removed then.
            ImageError: a path is empty.
        """
        with self.writing() as catalogue:
            found: dict[bytes, None] = {}
            for path in named_paths([paths] if isinstance(paths, str | Path) else paths):
                below = catalogue.files_below(file_key(path))
                if not below:
                    raise CollectionError(f"{display_path(self.folder)} has no photo at or below {display_path(path)}; "
                                          "nothing was removed")
                found |= dict.fromkeys(below)
            catalogue.remove(found)
        return len(found)

    def forget(self, keys: str | Iterable[str]) -> list[Path]:
        """Remove images by their keys, with all files that they have; the files, which themselves stay as they are.

        By a key that a caller gave, what was added under that key is forgotten, and the image with it unless it is
        there by another key or file.

        Raises:
            CollectionError: the collection has no image with one of the keys; nothing is removed then.
        """
        with self.writing() as catalogue:
            found: dict[bytes, None] = {}
            for key in [keys] if isinstance(keys, str) else keys:
                paths = self.snapshot.paths_of(key)
                if not paths:
                    raise CollectionError(f"{display_path(self.folder)} has no image {key}; nothing was removed")
                found |= dict.fromkeys(paths)
            catalogue.remove(found)
        return [Path(os.fsdecode(path)) for path in found if key_of_path(path) is None and as_frame(path) is None]

    def compact(self, *, progress: Progress = silent,
                images_per_segment: int = IMAGES_PER_MERGED_SEGMENT) -> tuple[int, int]:
        """Merge small segments and drop what belongs to removed images; (images dropped, segments less).

        It may be interrupted at any instant: each merged segment takes the place of its parts in one transaction.
        Indexes of merged segments are to be built anew (`build_index`).
        """
        with self.writing() as catalogue:
            before = self.snapshot
            with self._disk("nothing was lost"):
                upkeep.compact_segments(before, catalogue, images_per_segment, progress)
        drop_previews(self.folder, lambda key: self.snapshot.ordinal_of_key(key) is not None)
        return len(before.alive) - len(self.alive), len(before.segments) - len(self.segments)

    def convert(self, storage: Storage = "compact", *, model_file: Path | None = None,
                progress: Progress = silent) -> int:
        """Store the features that there are in another way (`delf.collection.conversion`); how many images that were.

        It may be interrupted at any instant, and the next call, or `compact`, goes on from there. Searches work
        meanwhile. Indexes are to be built anew.

        Args:
            storage: as for `create`. model_file: of the collection's model, beside which its words may lie; packaged
                or learnt ones are found without. progress: called with (images done, images to do).

        Raises:
            CollectionError: there are no words of the model; or the collection is compact, and is to become full.
        """
        with self.writing() as catalogue, self._disk("nothing was lost"):
            own = getattr(self._extractor, "model_file", None)
            return converted(self, catalogue, storage, model_file or own, progress)

    def require(self, extractor: Identified) -> None:
        """Make sure that an extractor is the one that the collection was made with; as `Snapshot.require`."""
        self.snapshot.require(extractor)
