"""Adds finished pieces to the manifest, so that it has each content once and each file with its present content.

The files and contents of a store are held in memory as 64-bit hashes, some 40 bytes for each file. Where two hashes are
equal, the facts of the segments decide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from delf.cluster.facts import ImageFacts
from delf.cluster.manifest import SEGMENTS, Dropped, Manifest, SegmentEntry
from delf.cluster.store import Store
from delf.collection.records import FileRecord

_Hashes = NDArray[np.uint64]
_NOWHERE = 2**62  # greater than the number of any segment


def hash_of(*parts: bytes) -> int:
    """A hash of 64 bits; different things may share it, if rarely."""
    return int.from_bytes(hashlib.sha256(b"\0".join(parts)).digest()[:8], "little")


def state_of(file: FileRecord) -> int:
    """The hash of a file's path, size and time, which changes when the file does."""
    return hash_of(file.path, f"{file.size} {file.mtime_ns}".encode())


@dataclass(frozen=True, eq=False)
class Known:
    """The files and contents of some segments, as sorted hashes.

    states: hashes of files as they were read (`state_of`). paths, path_places: hashes of their paths, and the number of
    the segment of each, in the order of the segments. keys, key_places: the same of the contents of images with files.
    """

    states: _Hashes
    paths: _Hashes
    path_places: NDArray[np.int64]
    keys: _Hashes
    key_places: NDArray[np.int64]

    @classmethod
    def of(cls, facts: Iterable[Sequence[ImageFacts]]) -> Known:
        """Read the facts of segments, one segment after the other."""
        states, paths, keys = list[_Hashes](), list[_Hashes](), list[_Hashes]()
        for images in facts:
            files = [file for image in images for file in image.files]
            states.append(_hashes(map(state_of, files)))
            paths.append(_hashes(hash_of(file.path) for file in files))
            keys.append(_hashes(_key(image) for image in images if image.files))
        return cls(np.sort(_joined(states)), *_sorted(paths), *_sorted(keys))

    def has(self, file: FileRecord) -> bool:
        """Whether a file is known and has not changed since it was read."""
        return len(self.states[_equal(self.states, state_of(file))]) > 0

    def may_have(self, images: Sequence[ImageFacts], before: int | None = None) -> NDArray[np.bool_]:
        """Which images may share their content, or the path of a file, with a segment; with `before`, with one of the
        first `before` segments. (N,) bool.
        """
        last = _NOWHERE if before is None else before
        owners = np.repeat(np.arange(len(images)), [len(image.files) for image in images])
        paths = _hashes(hash_of(file.path) for image in images for file in image.files)
        shared = _first_places(self.keys, self.key_places, _hashes(map(_key, images))) < last
        shared[owners[_first_places(self.paths, self.path_places, paths) < last]] = True
        return shared

    def segments_with_path(self, path: bytes) -> list[int]:
        """The numbers of the segments that may have the file with a path."""
        return self.path_places[_equal(self.paths, hash_of(path))].tolist()

    def segments_with_key(self, key: bytes) -> list[int]:
        """The numbers of the segments that may have the image with a key."""
        return self.key_places[_equal(self.keys, int.from_bytes(key[:8], "little"))].tolist()


@dataclass
class _Changes:
    """Changes to the facts of a store. edits: the new files of images, by segment and position."""

    store: Store
    edits: dict[str, dict[int, tuple[FileRecord, ...]]] = field(default_factory=dict)
    _last: tuple[str, list[ImageFacts]] = ("", [])

    def facts(self, entry: SegmentEntry) -> list[ImageFacts]:
        """The facts of a segment with the changes so far. Those of the last segment are remembered."""
        if self._last[0] != entry.name:
            facts = self.store.facts(entry)
            for position, files in self.edits.get(entry.name, {}).items():
                facts[position] = replace(facts[position], files=files)
            self._last = entry.name, facts
        return self._last[1]

    def have(self, entry: SegmentEntry, position: int, files: tuple[FileRecord, ...]) -> None:
        """Give an image other files."""
        self.edits.setdefault(entry.name, {})[position] = files
        if self._last[0] == entry.name:
            self._last[1][position] = replace(self._last[1][position], files=files)


def folded(store: Store, known: Known, new: Sequence[SegmentEntry],
           progress: Callable[[int, int], None] = lambda done, total: None) -> tuple[Manifest, int]:
    """The next manifest, with new segments added, and how many of their images are copies of others.

    If an earlier segment has the content of a new image, the new image gives its files to the earlier one and counts as
    removed. If a file had another content before, it leaves its earlier image. New facts are written for the segments
    that change. The caller publishes the manifest.

    Args:
        known: the files and contents of the store's manifest. new: segments whose facts are in the store. progress:
            called with (new segments done, new segments to do).
    """
    old, changes = store.manifest.segments, _Changes(store)
    fresh = Known.of(changes.facts(entry) for entry in new)
    copies = 0
    for number, entry in enumerate(new):
        progress(number, len(new))
        facts = changes.facts(entry)
        for position in np.flatnonzero(known.may_have(facts) | fresh.may_have(facts, before=number)).tolist():
            image = facts[position]
            for file in image.files:
                owners = [old[place] for place in known.segments_with_path(file.path)]
                owners += [new[place] for place in fresh.segments_with_path(file.path) if place < number]
                _leave(changes, file, image.image.sha256, owners)
            before = [old[place] for place in known.segments_with_key(image.image.sha256)]
            before += [new[place] for place in fresh.segments_with_key(image.image.sha256) if place < number]
            home = _home(changes, image, before)
            if home is not None and image.files:
                first, its_place, kept = home
                changes.have(first, its_place, _united(kept, image.files))
                changes.have(entry, position, ())
                copies += 1
    progress(len(new), len(new))
    return _next((*old, *new), changes), copies


def without_files(store: Store, is_meant: Callable[[FileRecord], bool],
                  progress: Callable[[int, int], None]) -> tuple[Manifest, int]:
    """The next manifest without some files, and the number of these files. The caller publishes it."""
    changes, removed = _Changes(store), 0
    for done, entry in enumerate(store.manifest.segments):
        progress(done, len(store.manifest.segments))
        for position, image in enumerate(changes.facts(entry)):
            kept = tuple(file for file in image.files if not is_meant(file))
            if len(kept) < len(image.files):
                removed += len(image.files) - len(kept)
                changes.have(entry, position, kept)
    return _next(store.manifest.segments, changes), removed


def _leave(changes: _Changes, file: FileRecord, key: bytes, entries: Iterable[SegmentEntry]) -> None:
    """Take a file that now has the content `key` away from images of other contents."""
    for entry in entries:
        for position, image in enumerate(changes.facts(entry)):
            kept = tuple(other for other in image.files if other.path != file.path)
            if len(kept) < len(image.files) and image.image.sha256 != key:
                changes.have(entry, position, kept)


def _home(changes: _Changes, image: ImageFacts,
          entries: Iterable[SegmentEntry]) -> tuple[SegmentEntry, int, tuple[FileRecord, ...]] | None:
    """The first image with the same content that has files: its segment, its position, its files."""
    for entry in entries:
        for position, other in enumerate(changes.facts(entry)):
            if other.files and other.image.sha256 == image.image.sha256:
                return entry, position, other.files
    return None


def _united(files: tuple[FileRecord, ...], more: tuple[FileRecord, ...]) -> tuple[FileRecord, ...]:
    replaced = {file.path for file in more}
    return (*(file for file in files if file.path not in replaced), *more)


def _next(entries: Sequence[SegmentEntry], changes: _Changes) -> Manifest:
    """The next manifest with changed facts, whose files are written here. The old files are noted as dropped."""
    store, now, segments = changes.store, round(time.time(), 3), list[SegmentEntry]()
    dropped = list(store.manifest.dropped)
    for entry in entries:
        if entry.name in changes.edits:
            facts = changes.facts(entry)
            file = store.write_facts(entry.name, facts)
            if file != entry.facts:
                dropped.append(Dropped(f"{SEGMENTS}/{entry.name}/{entry.facts.name}", now))
            entry = replace(entry, facts=file, alive=sum(bool(one.files) for one in facts))
        if entry.alive:
            segments.append(entry)
        else:  # a search can find none of its images any more
            dropped.append(Dropped(f"{SEGMENTS}/{entry.name}", now))
    named = {f"{SEGMENTS}/{entry.name}/{entry.facts.name}" for entry in segments}
    return store.manifest.next(segments=tuple(segments),
                               dropped=tuple(path for path in dropped if path.path not in named))


def _key(facts: ImageFacts) -> int:
    return int.from_bytes(facts.image.sha256[:8], "little")


def _hashes(numbers: Iterable[int]) -> _Hashes:
    return np.fromiter(numbers, np.uint64)


def _joined(parts: Sequence[_Hashes]) -> _Hashes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _sorted(parts: Sequence[_Hashes]) -> tuple[_Hashes, NDArray[np.int64]]:
    """The hashes of several segments, sorted, and the number of the segment of each; equal hashes by that number."""
    hashes = _joined(parts)
    places = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], places[order]


def _first_places(hashes: _Hashes, places: NDArray[np.int64], wanted: _Hashes) -> NDArray[np.int64]:
    """The number of the first segment with each wanted hash, among sorted hashes; `_NOWHERE` for those without."""
    if not len(hashes):
        return np.full(len(wanted), _NOWHERE)
    start = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    return np.where(hashes[start] == wanted, places[start], _NOWHERE)


def _equal(hashes: _Hashes, wanted: int) -> slice:
    """The stretch of sorted hashes that equal a hash."""
    number = np.uint64(wanted)
    return slice(int(np.searchsorted(hashes, number, "left")), int(np.searchsorted(hashes, number, "right")))
