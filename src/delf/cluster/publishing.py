"""An ordinary collection as a store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from delf.cluster.facts import ImageFacts
from delf.cluster.manifest import SEGMENTS, SegmentEntry
from delf.cluster.store import Store, facts_file, stored_file
from delf.collection import Collection
from delf.collection.collection import Progress, silent
from delf.collection.segment import MANIFEST, WHOLE, Segment
from delf.collection.storage import words_of
from delf.errors import CollectionError
from delf.files import flush_file
from delf.images import display_path
from delf.models import PACKAGED


def publish(collection: Collection, place: str | os.PathLike[str], *, progress: Progress = silent) -> Store:
    """Make a store of a collection, at a path or an address where there is none: its images, features and words.

    The collection is left as it is. Removed images go along, as removed ones, until `delf compact`. Indexes and lists,
    which are made from the features, do not.

    Args:
        progress: called with (segments done, segments to do).

    Raises:
        CollectionError: there is a store already, the collection is half converted or of an old format, or the place
            cannot be written.
    """
    snapshot = collection.snapshot
    for segment in snapshot.segments:
        if segment.packing.name != snapshot.packing.name or not _has_identities(segment):
            raise CollectionError(f"{display_path(collection.folder)} has segments of two storages or of an old "
                                  "format; run 'delf compact' on it first")
    store = Store.create(place, snapshot.about)
    entries = []
    for done, (number, segment) in enumerate(zip(snapshot.segment_ids, snapshot.segments, strict=True)):
        progress(done, len(snapshot.segments))
        facts = [ImageFacts(image, tuple(files), metadata)
                 for image, metadata, files in collection.catalogue.contents(number)]
        entries.append(publish_segment(store, segment, facts))
    shared = tuple(store.share(path, path.name) for path in _words(collection))
    store.publish(store.manifest.next(segments=tuple(entries), shared=shared))
    progress(len(entries), len(entries))
    return store


def publish_segment(store: Store, segment: Segment, facts: list[ImageFacts]) -> SegmentEntry:
    """Copy a segment of a collection into a store; a manifest may name it then."""
    name = segment.folder.name
    with store.location.writing_segment(SEGMENTS, name) as folder:
        for path in arrays_of(segment.folder):
            shutil.copyfile(path, folder / path.name)
            flush_file(folder / path.name)
        return written_segment(folder, name, segment.images, len(segment.scores), facts)


def written_segment(folder: Path, name: str, images: int, features: int, facts: list[ImageFacts]) -> SegmentEntry:
    """What a manifest is to say of a segment whose arrays lie in a folder. The file of its facts is put beside them."""
    file, data = facts_file(facts)
    files = tuple(stored_file(path) for path in arrays_of(folder))
    temporary = folder / file.name  # of a folder that is published whole
    temporary.write_bytes(data)
    flush_file(temporary)
    return SegmentEntry(name, images, sum(bool(one.files) for one in facts), features, files, file)


def arrays_of(segment: Path) -> list[Path]:
    """The files of a segment that are its content: not those that indexes and searches have put beside them."""
    return sorted(path for path in segment.iterdir() if path.suffix == ".npy" or path.name in (MANIFEST, WHOLE))


def _has_identities(segment: Segment) -> bool:
    return (segment.folder / WHOLE).exists() or (segment.folder / "keys.npy").exists()


def _words(collection: Collection) -> list[Path]:
    """The words that the collection is stored by, unless they are packaged, and those that it has learnt."""
    said, model = collection.about.get("storage"), str(collection.about["model"]["name"])
    stored = [words_of(said, collection.folder, model)[0]] if said else []
    return [path for path in stored if path.parent != PACKAGED] + sorted(collection.folder.glob("words-*.words"))
