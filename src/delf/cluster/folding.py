"""Putting finished pieces into the manifest, each content once and each file with the content that it has now.

What is known is held as 64-bit hashes, some 40 bytes for each file of the store; where two are equal, the facts of the
segments are looked at themselves.
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
_NOWHERE = 2**62  # a place behind all segments


def hash_of(*parts: bytes) -> int:
    """64 bits, by which things are first told apart."""
    return int.from_bytes(hashlib.sha256(b"\0".join(parts)).digest()[:8], "little")


def state_of(file: FileRecord) -> int:
    """The hash of a file as it is: another one when it changes."""
    return hash_of(file.path, f"{file.size} {file.mtime_ns}".encode())


@dataclass(frozen=True, eq=False)
class Known:
    """The files and contents of some segments, each rising. Positions are numbers of segments, in their order.

    states: of files as they were read. paths, path_places: of files, and the segment of each. keys, key_places: of
    images that have files.
    """

    states: _Hashes
    paths: _Hashes
    path_places: NDArray[np.int64]
    keys: _Hashes
    key_places: NDArray[np.int64]

    @classmethod
    def of(cls, facts: Iterable[Sequence[ImageFacts]]) -> Known:
        """What is known of segments, which are looked at one after the other."""
        states, paths, keys = list[_Hashes](), list[_Hashes](), list[_Hashes]()
        for images in facts:
            files = [file for one in images for file in one.files]
            states.append(_hashes(map(state_of, files)))
            paths.append(_hashes(hash_of(file.path) for file in files))
            keys.append(_hashes(_key(one) for one in images if one.files))
        return cls(np.sort(_joined(states)), *_sorted(paths), *_sorted(keys))

    def has(self, file: FileRecord) -> bool:
        """Whether a file was read as it is now."""
        return len(self.states[_found(self.states, state_of(file))]) > 0

    def may_have(self, images: Sequence[ImageFacts], before: int | None = None) -> NDArray[np.bool_]:
        """Of which images the content, or a file by its path, may be in a segment; in one of the first `before`."""
        last = _NOWHERE if before is None else before
        owners = np.repeat(np.arange(len(images)), [len(one.files) for one in images])
        paths = _hashes(hash_of(file.path) for one in images for file in one.files)
        found = _first_places(self.keys, self.key_places, _hashes(map(_key, images))) < last
        found[owners[_first_places(self.paths, self.path_places, paths) < last]] = True
        return found

    def segments_with_path(self, path: bytes) -> list[int]:
        """The segments in which the file may be that has a path."""
        return self.path_places[_found(self.paths, hash_of(path))].tolist()

    def segments_with_key(self, key: bytes) -> list[int]:
        """The segments in which the image may be that has a content."""
        return self.key_places[_found(self.keys, int.from_bytes(key[:8], "little"))].tolist()


@dataclass
class _Changes:
    """What becomes of facts that are in the store: the images that get other files, by segment and position."""

    store: Store
    edits: dict[str, dict[int, tuple[FileRecord, ...]]] = field(default_factory=dict)
    _last: tuple[str, list[ImageFacts]] = ("", [])

    def facts(self, entry: SegmentEntry) -> list[ImageFacts]:
        """Of a segment, with the changes so far. The last one that was asked for is remembered."""
        if self._last[0] != entry.name:
            facts = self.store.facts(entry)
            for position, files in self.edits.get(entry.name, {}).items():
                facts[position] = replace(facts[position], files=files)
            self._last = entry.name, facts
        return self._last[1]

    def have(self, entry: SegmentEntry, position: int, files: tuple[FileRecord, ...]) -> None:
        """Have other files for an image."""
        self.edits.setdefault(entry.name, {})[position] = files
        if self._last[0] == entry.name:
            self._last[1][position] = replace(self._last[1][position], files=files)


def folded(store: Store, known: Known, new: Sequence[SegmentEntry],
           progress: Callable[[int, int], None] = lambda done, total: None) -> tuple[Manifest, int]:
    """The next manifest: that of the store with new segments, and how many of their images are copies of others.

    An image whose content is in an earlier segment, or earlier among the new ones, gives its files to that one, and
    counts as removed. A file that had another content leaves the image that it had. The facts of segments that this
    concerns are written anew; the manifest, which nothing publishes here, names the new ones.

    Args:
        known: of the segments of the store's manifest. new: whose facts are in the store. progress: called with
            (new segments done, new segments to do).
    """
    old, changes = store.manifest.segments, _Changes(store)
    fresh = Known.of(changes.facts(entry) for entry in new)
    copies = 0
    for number, entry in enumerate(new):
        progress(number, len(new))
        facts = changes.facts(entry)
        for position in np.flatnonzero(known.may_have(facts) | fresh.may_have(facts, before=number)).tolist():
            one = facts[position]
            for file in one.files:
                had = [old[place] for place in known.segments_with_path(file.path)]
                had += [new[place] for place in fresh.segments_with_path(file.path) if place < number]
                _leave(changes, file, one.image.sha256, had)
            before = [old[place] for place in known.segments_with_key(one.image.sha256)]
            before += [new[place] for place in fresh.segments_with_key(one.image.sha256) if place < number]
            home = _home(changes, one, before)
            if home is not None and one.files:
                first, its_place, kept = home
                changes.have(first, its_place, _united(kept, one.files))
                changes.have(entry, position, ())
                copies += 1
    progress(len(new), len(new))
    return _next((*old, *new), changes), copies


def without_files(store: Store, is_meant: Callable[[FileRecord], bool],
                  progress: Callable[[int, int], None]) -> tuple[Manifest, int]:
    """The next manifest without some files, and how many these are; published by the caller."""
    changes, found = _Changes(store), 0
    for done, entry in enumerate(store.manifest.segments):
        progress(done, len(store.manifest.segments))
        for position, one in enumerate(changes.facts(entry)):
            kept = tuple(file for file in one.files if not is_meant(file))
            if len(kept) < len(one.files):
                found += len(one.files) - len(kept)
                changes.have(entry, position, kept)
    return _next(store.manifest.segments, changes), found


def _leave(changes: _Changes, file: FileRecord, key: bytes, entries: Iterable[SegmentEntry]) -> None:
    """Have a file that was read anew leave the image that it had, if that was of another content."""
    for entry in entries:
        for position, one in enumerate(changes.facts(entry)):
            kept = tuple(other for other in one.files if other.path != file.path)
            if len(kept) < len(one.files) and one.image.sha256 != key:
                changes.have(entry, position, kept)


def _home(changes: _Changes, image: ImageFacts,
          entries: Iterable[SegmentEntry]) -> tuple[SegmentEntry, int, tuple[FileRecord, ...]] | None:
    """The first image with the same content that has files: its segment, its position, its files."""
    for entry in entries:
        for position, one in enumerate(changes.facts(entry)):
            if one.files and one.image.sha256 == image.image.sha256:
                return entry, position, one.files
    return None


def _united(files: tuple[FileRecord, ...], more: tuple[FileRecord, ...]) -> tuple[FileRecord, ...]:
    there = {file.path for file in more}
    return (*(file for file in files if file.path not in there), *more)


def _next(entries: Sequence[SegmentEntry], changes: _Changes) -> Manifest:
    """The manifest with other facts, whose files are written now; those before them may go when their time has come."""
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
        else:  # nothing in it can be found any more
            dropped.append(Dropped(f"{SEGMENTS}/{entry.name}", now))
    named = {f"{SEGMENTS}/{entry.name}/{entry.facts.name}" for entry in segments}
    return store.manifest.next(segments=tuple(segments),
                               dropped=tuple(one for one in dropped if one.path not in named))


def _key(one: ImageFacts) -> int:
    return int.from_bytes(one.image.sha256[:8], "little")


def _hashes(numbers: Iterable[int]) -> _Hashes:
    return np.fromiter(numbers, np.uint64)


def _joined(parts: Sequence[_Hashes]) -> _Hashes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _sorted(parts: Sequence[_Hashes]) -> tuple[_Hashes, NDArray[np.int64]]:
    """The hashes of several segments in order, and the number of the segment of each; equal ones by that."""
    hashes = _joined(parts)
    places = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
    order = np.argsort(hashes, kind="stable")
    return hashes[order], places[order]


def _first_places(hashes: _Hashes, places: NDArray[np.int64], wanted: _Hashes) -> NDArray[np.int64]:
    """The first place of each wanted hash among others that rise; `_NOWHERE` of those that are not there."""
    if not len(hashes):
        return np.full(len(wanted), _NOWHERE)
    start = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    return np.where(hashes[start] == wanted, places[start], _NOWHERE)


def _found(hashes: _Hashes, wanted: int) -> slice:
    """Where a hash is among others that rise."""
    number = np.uint64(wanted)
    return slice(int(np.searchsorted(hashes, number, "left")), int(np.searchsorted(hashes, number, "right")))
