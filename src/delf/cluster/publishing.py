"""Makes a store of an ordinary collection."""

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
    """Make a new store of a collection, at a path or an address, with its images, features and visual words.

    The collection does not change. Removed images are copied as removed images, until `delf compact`. Indexes and lists
    are not copied, since they are made from the features.

    Args:
        progress: called with (segments done, segments to do).

    Raises:
        CollectionError: there is a store already, the collection is half converted or has an old format, or the place
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
    """Copy a segment of a collection into a store, which a manifest may then name."""
    name = segment.folder.name
    with store.location.writing_segment(SEGMENTS, name) as folder:
        for path in arrays_of(segment.folder):
            shutil.copyfile(path, folder / path.name)
            flush_file(folder / path.name)
        return written_segment(folder, name, segment.images, len(segment.scores), facts)


def written_segment(folder: Path, name: str, images: int, features: int, facts: list[ImageFacts]) -> SegmentEntry:
    """Write the facts of a segment beside its arrays. Returns the entry of the segment for a manifest."""
    file, data = facts_file(facts)
    files = tuple(stored_file(path) for path in arrays_of(folder))
    temporary = folder / file.name  # of a folder that is published whole
    temporary.write_bytes(data)
    flush_file(temporary)
    return SegmentEntry(name, images, sum(bool(one.files) for one in facts), features, files, file)


def arrays_of(segment: Path) -> list[Path]:
    """The files with the content of a segment, without those that indexes and searches have put beside them."""
    return sorted(path for path in segment.iterdir() if path.suffix == ".npy" or path.name in (MANIFEST, WHOLE))


def _has_identities(segment: Segment) -> bool:
    return (segment.folder / WHOLE).exists() or (segment.folder / "keys.npy").exists()


def _words(collection: Collection) -> list[Path]:
    """The words by which the collection is stored, unless they are packaged, and the words that it has learnt."""
    storage, model = collection.about.get("storage"), str(collection.about["model"]["name"])
    stored = [words_of(storage, collection.folder, model)[0]] if storage else []
    return [path for path in stored if path.parent != PACKAGED] + sorted(collection.folder.glob("words-*.words"))
