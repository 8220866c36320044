"""A store: segments with one published manifest, in a folder or in object storage.

Features are never read from a store in place: `Store.place` fetches a part of it, or all of it, into a local folder,
which is an ordinary collection. So everything that works on a collection works on a part of a store.

    store = Store.open("s3://photos/places.store")
    with store.as_collection("cache/places.delf") as collection:
        SearchEngine(collection, Delf.load()).search("query.jpg")
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from delf.cluster.facts import ImageFacts, facts_from_bytes, facts_to_bytes
from delf.cluster.locations import Location, local_path, location_of
from delf.cluster.manifest import NAME, SEGMENTS, SHARED, Manifest, SegmentEntry, StoredFile
from delf.collection import Collection
from delf.collection.catalogue import Catalogue
from delf.collection.catalogue import exists as has_catalogue
from delf.collection.collection import Progress, silent
from delf.collection.lock import WriterLock
from delf.collection.records import FileRecord, ImageRecord
from delf.collection.segment import new_segment
from delf.collection.upkeep import is_unused, remove_leftovers
from delf.errors import CollectionError
from delf.files import flush_file, whole_file
from delf.images import display_path
from delf.pools import Pool

_FETCHED_AT_ONCE = 8
_BUILDING = ".placing-"  # begins the name of a hidden folder in which the catalogue of a new state is made
_KNOWN_BY = "store"  # the entry of a part's catalogue that says from which store and state it came


class Store:
    """An open store. It works with one `manifest`, until `refresh` or `publish`."""

    def __init__(self, location: Location, manifest: Manifest) -> None:
        self.location, self._manifest = location, manifest

    @classmethod
    def open(cls, place: str | os.PathLike[str]) -> Store:
        """Open the store at a path or an address.

        Raises:
            CollectionError: there is no store, it is damaged or of a newer format, or its place does not answer.
        """
        location = location_of(place)
        return cls(location, _read(location))

    @classmethod
    def create(cls, place: str | os.PathLike[str], about: Mapping[str, Any]) -> Store:
        """Make a store without photos. about: model, options and storage, as in the catalogue of a collection.

        Raises:
            CollectionError: something is at the place already, or it cannot be written.
        """
        location, path = location_of(place), local_path(place)
        manifest = Manifest(about["model"], about["options"], about.get("storage"))
        if path is not None:
            _make(path)
        with location.alone():  # two that make one at once do not overwrite each other's
            _require_nothing(location, path)
            location.write(NAME, manifest.to_json())
        return cls(location, manifest)

    @staticmethod
    def exists(place: str | os.PathLike[str]) -> bool:
        """Whether there is a store at a path or an address."""
        path = local_path(place)
        if path is not None:
            try:
                return (path / NAME).is_file()
            except OSError:
                return False
        return location_of(place).read(NAME) is not None

    @property
    def url(self) -> str:
        """Its path or address."""
        return self.location.url

    @property
    def manifest(self) -> Manifest:
        """The state that it works with."""
        return self._manifest

    def refresh(self) -> Manifest:
        """Read the newest manifest."""
        self._manifest = _read(self.location)
        return self._manifest

    def publish(self, manifest: Manifest) -> None:
        """Make a manifest the state of the store, in one write. All files that it names must exist.

        Raises:
            CollectionError: another process has published meanwhile; its manifest stays.
        """
        with self.location.alone():
            self.require_newest(manifest.version - 1)
            self.location.write(NAME, manifest.to_json())
        self._manifest = manifest

    def require_newest(self, version: int | None = None) -> None:
        """Make sure that nobody has published since a version, by default that of the `manifest`.

        Raises:
            CollectionError: another process has.
        """
        newest = _read(self.location).version
        if newest != (self.manifest.version if version is None else version):
            raise CollectionError(f"another process has changed the store {display_path(self.url)} meanwhile "
                                  f"(version {newest}); run the same command again, which goes on from there")

    def holds(self, entry: SegmentEntry) -> bool:
        """Whether all files of a segment that no manifest names yet are there."""
        there = set(self.location.names(f"{SEGMENTS}/{entry.name}"))
        return all(file.name in there for file in (*entry.files, entry.facts))

    def facts(self, entry: SegmentEntry) -> list[ImageFacts]:
        """The facts of the images of a segment, in the order of their positions.

        Raises:
            CollectionError: their file is gone or damaged.
        """
        name = f"{SEGMENTS}/{entry.name}/{entry.facts.name}"
        where = f"{name} of the store {display_path(self.url)}"
        data = self.location.read(name)
        if data is None or hashlib.sha256(data).hexdigest() != entry.facts.sha256:
            raise CollectionError(f"{where} is {'not there' if data is None else 'not what was written'}; put it back "
                                  "from a copy, or index the photos again into a new store")
        facts = facts_from_bytes(data, where)
        if len(facts) != entry.images:
            raise CollectionError(f"{where} is of {len(facts):,} images, and the manifest says {entry.images:,}; put "
                                  "it back from a copy")
        return facts

    def write_facts(self, segment: str, images: Iterable[ImageFacts]) -> StoredFile:
        """Write the facts of the images of a segment to a new file, which a manifest may then name."""
        file, data = facts_file(images)
        self.location.write(f"{SEGMENTS}/{segment}/{file.name}", data)
        return file

    def share(self, path: Path, name: str) -> StoredFile:
        """Copy a local file into the store, which a manifest may then name in `shared`."""
        data = path.read_bytes()
        self.location.write(f"{SHARED}/{name}", data)
        return StoredFile(name, hashlib.sha256(data).hexdigest(), len(data))

    def fetch_shared(self, file: StoredFile, folder: Path) -> Path:
        """Fetch a shared file into a local folder, and compare it with its digest. Raises as `place`."""
        path = folder / file.name
        if not path.is_file() or stored_file(path) != file:
            with whole_file(path, locked=False) as temporary:
                temporary.unlink()
                self._fetch(f"{SHARED}/{file.name}", file, temporary)
        return path

    def as_collection(self, folder: str | Path, *, progress: Progress = silent) -> Collection:
        """Fetch all segments into a local folder, as a collection. Arguments and errors as for `place`."""
        return self.place([entry.name for entry in self.manifest.segments], folder, progress=progress)

    def place(self, names: Iterable[str], folder: str | Path, *, progress: Progress = silent) -> Collection:
        """Fetch segments into a local folder, which is then a collection of them, and open it for reading.

        Segments that the folder already has are kept, and segments that were not asked for are deleted. Each file is
        compared with its digest when it arrives. An interrupted call continues at the segment where it was. Processes
        that have the collection open read the old state until `refresh`.

        Args:
            names: names of segments of the `manifest`. folder: new, empty, or from an earlier call.
            progress: called with (segments fetched, segments asked for).

        Raises:
            CollectionError: there is no such segment, something is damaged or cannot be fetched, or the folder holds
                something else.
        """
        folder, wanted = Path(folder), [self._entry(name) for name in dict.fromkeys(names)]
        state = _state(self.manifest, wanted)
        if has_catalogue(folder) and _placed_state(folder) == state and all(
                _is_complete(folder / SEGMENTS / entry.name, entry) for entry in wanted):
            progress(len(wanted), len(wanted))
            return Collection.open(folder)
        try:
            self._place(wanted, folder, state, progress)
        except OSError as error:
            raise CollectionError(f"cannot put segments into {display_path(folder)} ({error.strerror or error}); check "
                                  "its permissions and the disk") from error
        return Collection.open(folder)

    def _place(self, wanted: list[SegmentEntry], folder: Path, state: str, progress: Progress) -> None:
        (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
        if not has_catalogue(folder) and not _is_ours(folder):
            raise CollectionError(f"{display_path(folder)} is not empty: give the name of a new folder")
        with WriterLock(folder):
            for file in self.manifest.shared:
                self.fetch_shared(file, folder)
            with Pool(_FETCHED_AT_ONCE, "delf-fetch") as pool:
                for done, _ in enumerate(pool.map(lambda entry: self._fetch_segment(entry, folder), wanted)):
                    progress(done + 1, len(wanted))
            known_by = {"url": self.url, "version": self.manifest.version, "state": state}
            if not has_catalogue(folder):  # of no state yet, so that work that is cut short from now on goes on
                Catalogue.create(folder, {**self.manifest.about, _KNOWN_BY: {**known_by, "state": ""}}).close()
            for old in folder.glob(f"{_BUILDING}*"):
                shutil.rmtree(old, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder) as scratch, \
                    Catalogue.create(Path(scratch), self.manifest.about) as new, Catalogue.open(folder) as catalogue:
                for entry in wanted:
                    facts = self.facts(entry)
                    _publish_entry(new, entry, facts)
                    # Metadata belong to contents and outlive a change of segments: `take_over` leaves them alone.
                    catalogue.describe({known.image.sha256: known.metadata for known in facts if known.files})
                catalogue.take_over(new)
                catalogue.say({_KNOWN_BY: known_by})
                remove_leftovers(folder, catalogue)
            self._forget_words(folder)

    def _forget_words(self, folder: Path) -> None:
        """Delete words that an earlier state has learnt, or the collection could use them instead of the new ones."""
        named = {file.name for file in self.manifest.shared}
        for path in folder.glob("words-*.words") if self.manifest.words else ():
            if path.name not in named:
                path.unlink()

    def _entry(self, name: str) -> SegmentEntry:
        entry = self.manifest.entry(name)
        if entry is None:
            raise CollectionError(f"the store {display_path(self.url)} has no segment {display_path(name)} in its "
                                  f"version {self.manifest.version}; look at its manifest anew")
        return entry

    def _fetch_segment(self, entry: SegmentEntry, folder: Path) -> None:
        if _is_complete(place := folder / SEGMENTS / entry.name, entry):
            return
        for torn in (place, place.with_name(f".{entry.name}")):
            shutil.rmtree(torn, ignore_errors=True)
        with new_segment(folder / SEGMENTS, entry.name) as temporary:
            for file in entry.files:
                self._fetch(f"{SEGMENTS}/{entry.name}/{file.name}", file, temporary / file.name)

    def _fetch(self, name: str, file: StoredFile, temporary: Path) -> None:
        """Fetch a file, compare it with its digest, and flush it to the disk."""
        self.location.fetch(name, temporary)
        if replace(stored_file(temporary), name=file.name) != file:
            raise CollectionError(f"{name} of the store {display_path(self.url)} is not what was written; put it back "
                                  "from a copy, or index the photos again into a new store")
        flush_file(temporary)


def stored_file(path: Path) -> StoredFile:
    """The entry of a local file in a manifest."""
    with path.open("rb") as file:
        return StoredFile(path.name.lstrip("."), hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def facts_file(images: Iterable[ImageFacts]) -> tuple[StoredFile, bytes]:
    """The file of the facts of some images, named for the digest of its content, and that content."""
    data = facts_to_bytes(images)
    digest = hashlib.sha256(data).hexdigest()
    return StoredFile(f"facts-{digest[:16]}.jsonl", digest, len(data)), data


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CollectionError(f"{display_path(folder)} is there already: give the name of a new store") from None
    except (OSError, ValueError) as error:
        raise CollectionError(f"{display_path(folder)} cannot be made ({getattr(error, 'strerror', None) or error}); "
                              "give another name, or check the permissions and the disk") from error


def _require_nothing(location: Location, path: Path | None) -> None:
    """Make sure that no store, and nothing else, is at a place."""
    url = display_path(location.url)
    if path is not None and has_catalogue(path):
        raise CollectionError(f"{url} is a collection, and no store: leave --ray out to add to it, or give the name of "
                              "a new store")
    if location.read(NAME) is None and location.names(SEGMENTS):
        raise CollectionError(f"{url} has the segments of a store, and no {NAME}: put a copy of that back, or give the "
                              "name of a new store")
    if location.read(NAME) is not None or (path is not None and not is_unused(path)):
        raise CollectionError(f"{url} is there already: give the name of a new store")


def _read(location: Location) -> Manifest:
    data = location.read(NAME)
    if data is None:
        raise CollectionError(f"there is no store at {display_path(location.url)}: it has no {NAME}; make one with "
                              f"'delf index PHOTOS -o {display_path(location.url)} --ray local'")
    return Manifest.from_json(data, display_path(location.url))


def _state(manifest: Manifest, entries: list[SegmentEntry]) -> str:
    """A digest of all that a part of the store is made of."""
    content = repr((manifest.model, manifest.options, manifest.storage, manifest.shared, entries))
    return hashlib.sha256(content.encode()).hexdigest()


def _placed_state(folder: Path) -> str | None:
    with Catalogue.open(folder) as catalogue:
        origin = catalogue.about().get(_KNOWN_BY)
    if not isinstance(origin, dict):
        raise CollectionError(f"{display_path(folder)} is a collection of its own, which no store has put there: give "
                              "the name of a new folder")
    return str(origin.get("state"))


def _is_ours(folder: Path) -> bool:
    """Whether a folder without a catalogue has only what an interrupted call has left."""
    return all(entry.name in (SEGMENTS, "writer.lock") or entry.name.startswith(".") or entry.suffix == ".words"
               for entry in folder.iterdir())


def _is_complete(folder: Path, entry: SegmentEntry) -> bool:
    """Whether a segment has been fetched: its folder gets its name when all files have arrived."""
    try:
        return all((folder / file.name).stat().st_size == file.bytes for file in entry.files)
    except OSError:
        return False


def _publish_entry(catalogue: Catalogue, entry: SegmentEntry, facts: list[ImageFacts]) -> None:
    """Add a segment to the catalogue of a part. Images without files are added as removed images."""
    images, gone = list[tuple[ImageRecord, list[FileRecord]]](), list[bytes]()
    for position, known in enumerate(facts):
        if known.files:
            images.append((known.image, list(known.files)))
            continue
        # A catalogue has each content once, and another segment may have this one: so the image gets a digest of its
        # own. It also gets a file, which is then removed, since a catalogue counts only such images as removed.
        path = f"gone:{entry.name}:{position}".encode()
        digest = hashlib.sha256(path).digest()
        images.append((ImageRecord(digest, known.image.width, known.image.height, None, None, None),
                       [FileRecord(path, path, 0, 0)]))
        gone.append(path)
    catalogue.publish(entry.name, entry.features, images)
    if gone:
        catalogue.remove(gone)
