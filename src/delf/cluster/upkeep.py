"""Keeps a store in order: removes photos, merges small segments, and deletes files that no manifest names.

Files that only an earlier manifest names may still be in use by its readers, and files that no manifest has named may
belong to a piece that is being written. So both are deleted only after a grace period.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from delf.cluster.facts import ImageFacts
from delf.cluster.folding import without_files
from delf.cluster.locations import local_path
from delf.cluster.manifest import PIECES, SEGMENTS, Dropped, Manifest, SegmentEntry
from delf.cluster.pieces import PieceReport, piece_of
from delf.cluster.publishing import publish_segment
from delf.cluster.store import Store
from delf.collection.adding import file_key
from delf.collection.collection import IMAGES_PER_MERGED_SEGMENT, Progress, silent
from delf.collection.records import FileRecord
from delf.errors import CollectionError
from delf.files import TEMPORARY
from delf.images import display_path

_SEGMENT = re.compile(r"\.?[0-9a-f]{32}")  # also while it is written
GRACE = 24 * 3600.0  # seconds: longer than a piece takes, and than a service uses an old manifest


@dataclass(frozen=True)
class CompactReport:
    """What `compact` did.

    images: removed images that were dropped. segments: by how many there are fewer. deleted: files and folders that no
    manifest had named for the grace period. waiting: those whose grace period is not over.
    """

    images: int
    segments: int
    deleted: int
    waiting: int


def remove(store: Store, paths: Iterable[str | os.PathLike[str]], *, progress: Progress = silent) -> int:
    """Forget files, and all files below folders and addresses, whether they still exist or not. Returns their number.

    Their features stay in the store until `compact`. progress: called with (segments done, segments to do).

    Raises:
        CollectionError: the store has no file at or below one of the paths; nothing is removed then.
    """
    wanted = {_key_of(path): path for path in paths}
    met = set[bytes]()

    def is_meant(file: FileRecord) -> bool:
        roots = [root for root in wanted if file.path == root or file.path.startswith(root.rstrip(b"/") + b"/")]
        met.update(roots)
        return bool(roots)

    manifest, count = without_files(store, is_meant, progress)
    for root, path in wanted.items():
        if root not in met:
            raise CollectionError(f"{display_path(store.url)} has no photo at or below {display_path(path)}; nothing "
                                  "was removed")
    store.publish(manifest)
    return count


def _key_of(path: str | os.PathLike[str]) -> bytes:
    """The key of a file in the facts: its absolute path, or its address in object storage."""
    local = local_path(path)
    return os.fsencode(path).rstrip(b"/") if local is None else file_key(local)


def compact(store: Store, *, grace: float = GRACE, images_per_segment: int = IMAGES_PER_MERGED_SEGMENT,
            progress: Progress = silent) -> CompactReport:
    """Merge small segments, drop their removed images, and delete what no manifest has named for the grace period.

    It may be interrupted at any time: each merged segment is published as a whole. It needs local disk space for the
    segments that become one.

    Args:
        grace: in seconds. progress: called with (segments done, segments to do).

    Raises:
        CollectionError: something is damaged, the store cannot be written, or another process has changed it.
    """
    before, done = store.manifest, 0
    for group in list(_groups(before.segments, images_per_segment)):
        if len(group) > 1 or group[0].alive < group[0].images:
            _merge(store, group, images_per_segment)
        done += len(group)
        progress(done, len(before.segments))
    deleted = _delete(store, time.time() - grace)
    now = store.manifest
    return CompactReport(sum(one.images - one.alive for one in before.segments),
                         len(before.segments) - len(now.segments), deleted, len(now.dropped))


def _groups(entries: Sequence[SegmentEntry], images: int) -> Iterator[list[SegmentEntry]]:
    group: list[SegmentEntry] = []
    for entry in entries:
        if group and sum(one.alive for one in group) + entry.alive > images:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _merge(store: Store, group: Sequence[SegmentEntry], images: int) -> None:
    """Replace a group of segments by one: they are fetched as a collection, which is compacted."""
    with tempfile.TemporaryDirectory(prefix="delf-compact-") as scratch, \
            store.place([entry.name for entry in group], Path(scratch, "part")) as part:
        part.compact(images_per_segment=images)
        merged = [publish_segment(store, segment, [ImageFacts(image, tuple(files), metadata) for image, metadata, files
                                                   in part.catalogue.contents(number)])
                  for number, segment in zip(part.segment_ids, part.segments, strict=True)]
    old = {entry.name for entry in group}
    place = next(number for number, entry in enumerate(store.manifest.segments) if entry.name in old)
    kept = [entry for entry in store.manifest.segments if entry.name not in old]
    store.publish(_without(store.manifest, old - {entry.name for entry in merged},
                           (*kept[:place], *merged, *kept[place:])))


def _without(manifest: Manifest, gone: Iterable[str], segments: tuple[SegmentEntry, ...]) -> Manifest:
    now = round(time.time(), 3)
    return manifest.next(segments=segments, dropped=(
        *manifest.dropped, *(Dropped(f"{SEGMENTS}/{name}", now) for name in sorted(gone))))


def _delete(store: Store, until: float) -> int:
    """Delete files and folders that no manifest has named since a time. Returns how many."""
    manifest, location = store.refresh(), store.location  # another process may have published meanwhile
    named = manifest.paths  # words that were learnt again, or what somebody has changed by hand
    due = [one for one in manifest.dropped if one.since <= until and one.path not in named]
    for one in due:
        location.delete(one.path)
    count, begun = len(due), set[str]()
    # By the names that we give: what somebody else has put there is left alone.
    pieces = [f"{PIECES}/{name}" for name in location.names(PIECES) if piece_of(name) or TEMPORARY.fullmatch(name)]
    # A job may take longer than the grace period: its first pieces are not left over as long as it writes new ones.
    left_over = location.changed(PIECES) <= until
    if left_over:
        location.delete_files(pieces)
        count += len(pieces)
    for path in pieces if not left_over else ():
        if piece_of(path.rpartition("/")[2]) and (data := location.read(path)) is not None:
            entry = PieceReport.from_json(data, f"{path} of {display_path(store.url)}").entry
            begun |= set() if entry is None else {entry.name}
    known = {entry.name for entry in manifest.segments} | begun
    known |= {one.path.split("/")[1] for one in manifest.dropped if one.since > until}
    for name in location.names(SEGMENTS):
        if _SEGMENT.fullmatch(name) and name not in known and location.changed(f"{SEGMENTS}/{name}") <= until:
            location.delete(f"{SEGMENTS}/{name}")
            count += 1
    left = tuple(one for one in manifest.dropped if one.since > until and one.path not in named)
    if left != manifest.dropped:
        store.publish(manifest.next(dropped=left))
    return count
