"""The state of a collection at one instant: what searches work with, whatever is added, removed or merged meanwhile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pickle import PicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection.catalogue import Catalogue
from delf.collection.container import Container
from delf.collection.given import key_of_path, path_of_key, preview_path
from delf.collection.made_by import MadeBy
from delf.collection.packing import Packing
from delf.collection.records import Identity, StoredFacts
from delf.collection.segment import Segment, open_segment
from delf.collection.storage import packing_of
from delf.collection.upkeep import segment_folder
from delf.collection.where import parse_where
from delf.errors import CollectionError
from delf.images.frames import as_frame, containing_file
from delf.places import source_of
from delf.types import Features, FloatArray, IntArray

_MASKS = 8  # conditions whose images a snapshot keeps


@dataclass(frozen=True)
class StoredImage:
    """An image of a collection.

    key: the SHA-256 of its content, 64 hexadecimal digits, which never changes.
    path: the path from which it was indexed, to be shown.
    file: an absolute path; a file that exists, if the image has one.
    files: absolute paths of all existing files with exactly this content; if none exists, those that the collection
        knows; empty if the image was removed meanwhile.
    captured_at, latitude, longitude, camera: from the metadata of the file.
    size: (width, height), upright.
    keys: the keys under which callers have added it from memory. If it has no other file, `file` is the path of its
        preview, whether a preview is stored or not.
    metadata: the JSON object that callers have stored.
    second: of a frame, its time in the video; `file` and `files` are then the video.
    """

    key: str
    path: str
    file: Path
    files: tuple[Path, ...]
    captured_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None = None
    size: tuple[int, int] = (0, 0)
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    second: float | None = None

    @property
    def source(self) -> str:
        """The name by which it can be read: its file, or the name of the frame."""
        return source_of(self.file, self.second)


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot(MadeBy, Container):
    """A collection as it was at one instant. It never changes, and its arrays stay readable as long as it lives.

    Images have ordinals 0 to n - 1 in the order in which they were added, including removed images. Features have rows,
    image after image. An ordinal means nothing outside of its snapshot; the key of an image is permanent.

    about: the model, the options, the storage and the index, as the catalogue has them.
    segment_ids: the number of each segment in the catalogue.
    bases: (S + 1,) the ordinal of the first image of each segment, and the number of all images.
    starts: (n + 1,) the first row of each image, and the number of all rows.
    alive: (n,) whether the image still had a file.
    indexes: the segments with a built index, by number: its kind and the name of its quantiser.
    lookup: the catalogue as it is now, in which the files of an image are looked up.
    packing: the way in which features are stored.
    """

    folder: Path
    about: Mapping[str, Any]
    segment_ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    bases: IntArray
    starts: IntArray
    alive: NDArray[np.bool_]
    indexes: Mapping[int, tuple[str, str]]
    lookup: Catalogue
    packing: Packing
    _masks: dict[str, tuple[int, NDArray[np.bool_]]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        raise PicklingError("a snapshot cannot be pickled, as it is a state of this moment: pickle the collection, "
                            "which opens the state that is there then")

    @property
    def snapshot(self) -> Snapshot:
        """Itself, for callers that take a collection or a snapshot."""
        return self

    @property
    def rows(self) -> int:
        """How many features are searched, including those of removed images."""
        return int(self.starts[-1])

    @property
    def kept(self) -> int:
        """How many features are stored, including those that only verify."""
        return sum(int(segment.ranges[-1]) for segment in self.segments)

    @property
    def dimensions(self) -> int:
        """The dimensions of the stored descriptors."""
        return int(self.about["options"]["dimensions"])

    def images_of(self, rows: IntArray) -> IntArray:
        """The ordinals of the images that features belong to."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def features(self, ordinal: int) -> Features:
        """The stored features of an image."""
        segment, position = self._place(ordinal)
        return self.segments[segment].features(position)

    def expect(self, ordinals: Sequence[int]) -> None:
        """Have the system begin to read the features of images that are needed soon."""
        for ordinal in ordinals:
            segment, position = self._place(ordinal)
            self.segments[segment].expect(position)

    def worth(self, ordinal: int) -> float:
        """How many inliers of an image that is stored in full an inlier of an image stands for."""
        segment, _ = self._place(ordinal)
        return self.segments[segment].packing.worth

    def size(self, ordinal: int) -> tuple[int, int]:
        """(width, height) of an image, upright."""
        segment, position = self._place(ordinal)
        width, height = self.segments[segment].sizes[position].tolist()
        return width, height

    def key_of(self, ordinal: int) -> str:
        """The key of an image, as in `StoredImage`."""
        segment, position = self._place(ordinal)
        return self.segments[segment].key(position).hex()

    def image(self, ordinal: int) -> StoredImage:
        """The record of an image, with its present files, or the path from which it was indexed if it was removed."""
        segment, position = self._place(ordinal)
        key = self.key_of(ordinal)
        facts = self.lookup.facts_of(bytes.fromhex(key)) or StoredFacts((), None, None, None)
        given = [(os.fsdecode(shown), own) for shown, path in facts.files if (own := key_of_path(path)) is not None]
        known = [(os.fsdecode(shown), path) for shown, path in facts.files if key_of_path(path) is None]
        frames = [(shown, path) for shown, path in known if as_frame(path)]
        placed = [(shown, *_placed(path)) for shown, path in frames or known]  # a whole video is not a photo
        existing = [place for place in placed if _exists(place[1])]
        if given and not existing:
            existing = [(given[0][0], preview_path(self.folder, key), None)]
        places = existing or placed
        if not places:
            shown, path = self.segments[segment].path(position)
            places = [(shown, *_placed(os.fsencode(path)))]
        shown, file, second = places[0]
        files = tuple(path for _, path, _ in places) if facts.files else ()
        return StoredImage(key, shown, file, files, facts.captured_at, facts.latitude,
                           facts.longitude, facts.camera, self.size(ordinal), tuple(own for _, own in given),
                           _metadata(facts.metadata), second)

    def images_at(self, ordinals: Sequence[int]) -> list[StoredImage]:
        """The records of some images."""
        return [self.image(ordinal) for ordinal in ordinals]

    def ordinal_of(self, path: str | Path) -> int | None:
        """The ordinal of the image in a file, or None if the file is not in the collection."""
        return self._ordinal_at(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 (resolve would follow links)

    def ordinal_of_key(self, key: str) -> int | None:
        """The ordinal of the image with a key, or None if the image was never in the collection, or was removed."""
        try:
            wanted = bytes.fromhex(key)
        except ValueError:
            return None
        if len(wanted) != 32:
            return None
        place = self.lookup.place_of_key(wanted)  # its present place, which is mostly that of the snapshot
        for segment, base in zip(self.segments, self.bases.tolist(), strict=False):
            if place is not None and segment.folder.name == place[0]:
                return base + place[1] if self.alive[base + place[1]] else None
        for segment, base in zip(self.segments, self.bases.tolist(), strict=False):
            for position in segment.positions_of(wanted):
                if self.alive[base + position]:
                    return int(base + position)
        return None

    def ordinal_of_own_key(self, key: str) -> int | None:
        """The ordinal of the image that was added from memory under a caller's key, or None."""
        return self._ordinal_at(path_of_key(key))

    def _ordinal_at(self, path: bytes) -> int | None:
        """The ordinal of the image that the catalogue has at a path; if that image came after the snapshot, as another
        thread or process has replaced the photo, then of the image that was there before.
        """
        key = self.lookup.key_of(path)
        found = None if key is None else self.ordinal_of_key(key.hex())
        if key is None or found is not None:
            return found
        places = (base + position for segment, base in zip(self.segments, self.bases.tolist(), strict=False)
                  for position in _positions_at(segment, path))
        return next((place for place in places if self.alive[place]), None)

    def has_known(self, key: str) -> bool:
        """Whether there is or was an image with a key."""
        return self.lookup.facts_of(bytes.fromhex(key)) is not None

    def count_matching(self, where: str) -> int:
        """For how many images a condition is true. Raises as `matching`."""
        return int(self.matching(where).sum())

    def paths_of(self, key: str) -> list[bytes]:
        """The paths by which the catalogue knows an image, including gone files; for a caller's key only its path."""
        if self.ordinal_of_key(key) is None:
            return [] if self.ordinal_of_own_key(key) is None else [path_of_key(key)]
        facts = self.lookup.facts_of(bytes.fromhex(key))
        return [] if facts is None else [path for _, path in facts.files]

    def findable(self, exclude: Sequence[int] = (), where: str | None = None) -> NDArray[np.bool_]:
        """Which images a search may find: (n,) bool. They have files, are not excluded, and meet the condition."""
        wanted = self.alive if where is None else self.matching(where)
        if not len(exclude):
            return wanted
        mask = wanted.copy()
        mask[np.asarray(exclude, np.int64)] = False
        return mask

    def matching(self, where: str) -> NDArray[np.bool_]:
        """For which images a condition (`delf.collection.where`) is true by the present catalogue: (n,) bool, False for
        removed images.

        Raises:
            OptionError: the condition is not understood.
        """
        condition, version = parse_where(where), self.lookup.version()
        known = self._masks.get(where)
        if known is not None and known[0] == version:
            return known[1]
        mask = np.zeros(len(self.alive), np.bool_)
        bases = {segment.folder.name: base for segment, base in zip(self.segments, self.bases.tolist(), strict=False)}
        for folder, positions in self.lookup.matching(condition):
            if folder in bases:
                mask[bases[folder] + np.array(positions.split(","), np.int64)] = True
            else:  # the segment was merged or added after the snapshot
                places = [self.ordinal_of_key(key.hex()) for key in self.lookup.keys_matching(condition, folder)]
                mask[[place for place in places if place is not None]] = True
        mask &= self.alive
        mask.flags.writeable = False
        for old in list(self._masks)[: 1 - _MASKS]:
            self._masks.pop(old, None)
        self._masks[where] = version, mask
        return mask

    def after(self, key: str | None, limit: int, where: str | None = None) -> list[int]:
        """The ordinals of the next `limit` images after a key, in the order of the keys.

        That order is the same in every state. where: a condition that the images must meet; raises `OptionError` if it
        is not understood.
        """
        order = self._by_key if where is None else self._by_key[self.matching(where)[self._by_key]]
        start, stop = 0, 0 if key is None else len(order)
        while start < stop:
            middle = (start + stop) // 2
            if self.key_of(int(order[middle])) <= (key or ""):
                start = middle + 1
            else:
                stop = middle
        return [int(ordinal) for ordinal in order[start : start + limit]]

    @cached_property
    def _by_key(self) -> IntArray:
        """The ordinals of the images that have files, in the order of their keys."""
        keys = [np.ascontiguousarray(segment.keys) for segment in self.segments]
        if not keys:
            return np.zeros(0, np.int64)
        parts = np.concatenate(keys).view(">u8")  # four numbers, the first of which weighs most
        order = np.lexsort(parts.T[::-1])
        return order[self.alive[order]]

    def global_descriptors(self) -> FloatArray:
        """(n, G) float32 unit vectors of all images."""
        if not self.segments:
            return np.zeros((0, 0), np.float32)
        return np.concatenate([segment.global_descriptors() for segment in self.segments])

    def same_as(self, other: Snapshot) -> bool:
        """Whether another snapshot has the same images, with the same indexes."""
        names = [[segment.folder.name for segment in one.segments] for one in (self, other)]
        return (names[0] == names[1] and np.array_equal(self.alive, other.alive) and self.indexes == other.indexes
                and self.about == other.about)

    def _place(self, ordinal: int) -> tuple[int, int]:
        """The segment of an ordinal, and the position there. Raises `CollectionError` if there is no such ordinal."""
        if not 0 <= ordinal < len(self.alive):
            raise CollectionError(f"{self.folder} has no image {ordinal}: it has {len(self.alive):,}")
        segment = int(np.searchsorted(self.bases, ordinal, side="right")) - 1
        return segment, int(ordinal - self.bases[segment])


def _metadata(text: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_snapshot(folder: Path, catalogue: Catalogue, rows: Sequence[tuple[int, str]],
                  before: Snapshot | None) -> Snapshot:
    """Read the state of a collection. rows: its segments in the catalogue. before: a state whose segments are open.

    Raises:
        CollectionError: a segment, or the visual words of the storage, are missing or damaged.
    """
    about = catalogue.about()
    packing = packing_of(about, folder)
    known = {segment.folder.name: segment for segment in (before.segments if before is not None else ())}

    def opened_anew(number: int, name: str) -> Segment:
        return open_segment(segment_folder(folder, name), fingerprint=about["model"]["fingerprint"], packing=packing,
                            dimensions=about["options"]["dimensions"],
                            identities=lambda: [Identity(*row) for row in catalogue.identities(number)])

    segments = tuple(known.get(name) or opened_anew(number, name) for number, name in rows)
    bases = np.cumsum([0, *(segment.images for segment in segments)])
    row_bases = np.cumsum([0, *(segment.rows for segment in segments)])
    starts = [segment.offsets[:-1] + base for segment, base in zip(segments, row_bases, strict=False)]
    alive = np.ones(bases[-1], dtype=bool)
    ids = tuple(number for number, _ in rows)
    ordinals = {number: range(start, stop) for number, start, stop in zip(ids, bases, bases[1:], strict=False)}
    for segment, position in catalogue.removed():
        places = ordinals.get(segment, range(0))  # a damaged catalogue may have any numbers
        if 0 <= position < len(places):
            alive[places[position]] = False
    for array in (alive, bases):
        array.flags.writeable = False
    return Snapshot(folder, about, ids, segments, bases, np.concatenate([*starts, row_bases[-1:]]), alive,
                    catalogue.indexes(), catalogue, packing)


def _positions_at(segment: Segment, path: bytes) -> list[int]:
    """The images of a segment that were indexed from an absolute path. It reads the paths of all its images."""
    ends = [found.end() for found in re.finditer(re.escape(b"\0" + path), segment.paths.tobytes())]
    positions = np.searchsorted(segment.path_ends, ends).tolist()
    return [position for position, end in zip(positions, ends, strict=True) if segment.path_ends[position] == end]


def _placed(path: bytes) -> tuple[Path, float | None]:
    """The file that contains a photo, and its second in it, if that is a video."""
    frame = as_frame(path) if containing_file(path) != path else None
    return (Path(os.fsdecode(path)), None) if frame is None else (Path(os.fsdecode(frame[0])), frame[1])


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a disk that does not answer, or a name that the system does not take
        return False
