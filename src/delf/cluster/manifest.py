"""The manifest of a store: its segments, and the files that all of them share. No other file of a store ever changes.

    places.store/
      manifest.json                    format, version, model, options, storage, shared files, segments
      segments/<name>/...              the arrays of a collection's segment: written once, never changed
      segments/<name>/facts-<id>.jsonl what a collection has in its catalogue: metadata and files of images (`facts`)
      shared/<name>                    visual words by which all segments are stored or searched
      pieces/<id>.json                 finished pieces of a job that are not in the manifest yet (`pieces`)

Each state is published by one atomic write and has a version that counts up. A reader works with one manifest: the
files that it names stay for the grace period of `delf compact` (`delf.cluster.upkeep`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from delf.errors import CollectionError

NAME = "manifest.json"
FORMAT = 1
SEGMENTS, SHARED, PIECES = "segments", "shared", "pieces"
_SEGMENT = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"\w[\w.-]{0,99}")  # no separators: a manifest must not lead out of the store
_SEAL = "sha256"  # of all that a manifest says else
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredFile:
    """A file of a store, by its name in its folder, its SHA-256 (hexadecimal) and its bytes."""

    name: str
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not (_matches(_FILE, self.name) and _matches(_DIGEST, self.sha256) and _is_count(self.bytes)):
            raise ValueError(f"{self.name!r} is not the name of a file with a digest and a size")


@dataclass(frozen=True)
class SegmentEntry:
    """A segment of a store.

    name: the name of its folder. images, features: how many it holds. alive: how many of the images have a file, so
    that a search can find them. files: its arrays. facts: the file with metadata and files of its images; it is
    replaced by a new one when files of these are removed or copies are added.
    """

    name: str
    images: int
    alive: int
    features: int
    files: tuple[StoredFile, ...]
    facts: StoredFile

    def __post_init__(self) -> None:
        counts = (self.images, self.alive, self.features)
        if not (_matches(_SEGMENT, self.name) and all(map(_is_count, counts)) and self.alive <= self.images):
            raise ValueError(f"{self.name!r} is not the name of a segment with numbers of images and features")

    @property
    def total_bytes(self) -> int:
        """The bytes of all its files."""
        return sum(file.bytes for file in (*self.files, self.facts))


@dataclass(frozen=True)
class Dropped:
    """A path in the store that an earlier manifest named, and since when (seconds since 1970) none names it."""

    path: str
    since: float

    def __post_init__(self) -> None:
        parts = self.path.split("/") if isinstance(self.path, str) else []
        if not 2 <= len(parts) <= 3 or not all(_matches(_FILE, part) for part in parts) or not _is_number(self.since):
            raise ValueError(f"{self.path!r} is not a path in a store with a time")


@dataclass(frozen=True)
class Manifest:
    """One state of a store.

    version: counts the published states; a new store without photos has 0. model, options, storage: as in the catalogue
    of a collection; None stands for full storage. shared: files that every part of the store gets, which are visual
    words. dropped: what `delf compact` may delete after the grace period.
    """

    model: Mapping[str, Any]
    options: Mapping[str, Any]
    storage: Mapping[str, Any] | None = None
    version: int = 0
    shared: tuple[StoredFile, ...] = ()
    segments: tuple[SegmentEntry, ...] = ()
    dropped: tuple[Dropped, ...] = field(default=())

    @property
    def images(self) -> int:
        """How many images can be found."""
        return sum(entry.alive for entry in self.segments)

    @property
    def features(self) -> int:
        """How many features are stored, including those of removed images."""
        return sum(entry.features for entry in self.segments)

    @property
    def total_bytes(self) -> int:
        """The bytes of all files that it names."""
        return sum(entry.total_bytes for entry in self.segments) + sum(file.bytes for file in self.shared)

    @property
    def words(self) -> StoredFile | None:
        """The visual words by which all segments are searched; None if the model brings its own. Of several files, it
        is the one that a collection with the same files would use: the largest that was learnt.
        """
        words = [file for file in self.shared if file.name.endswith(".words")]
        learnt = [file for file in words if file.name.startswith("words-")]
        return max(learnt or words, key=lambda file: file.bytes, default=None)

    @property
    def paths(self) -> set[str]:
        """The paths, in the store, of what it names: shared files, facts, and the folders of segments."""
        return {f"{SHARED}/{file.name}" for file in self.shared} | {
            path for one in self.segments for path in (f"{SEGMENTS}/{one.name}",
                                                       f"{SEGMENTS}/{one.name}/{one.facts.name}")}

    @property
    def about(self) -> dict[str, Any]:
        """The entries that the catalogue of a collection would have: model, options, and storage unless it is full."""
        storage = {} if self.storage is None else {"storage": dict(self.storage)}
        return {"model": dict(self.model), "options": dict(self.options), **storage}

    def entry(self, name: str) -> SegmentEntry | None:
        """The segment with a name, or None."""
        return next((entry for entry in self.segments if entry.name == name), None)

    def next(self, **changes: Any) -> Manifest:
        """The next version of it, with some fields changed."""
        return replace(self, version=self.version + 1, **changes)

    def to_json(self) -> bytes:
        """The content of its file, with a digest of it."""
        fields = {"format": FORMAT, **asdict(self)}
        return _dumped({**fields, _SEAL: _seal(fields)})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Read what `to_json` wrote. A manifest without its digest, as people leave it who change it by hand, is
        checked as closely otherwise. where: the address of the store, for messages.

        Raises:
            CollectionError: it is damaged, or of a newer format.
        """
        try:
            fields = json.loads(data)
            written = fields.pop("format")
            if type(written) is int and written > FORMAT:
                raise CollectionError(f"the store {where} has format {written}, which is newer than this version of "
                                      f"delf reads ({FORMAT}); upgrade delf-retrieval")
            if fields.pop(_SEAL, None) not in (None, _seal({"format": written, **fields})):
                raise ValueError(f"it is not what was written, as its {_SEAL} says")
            manifest = cls(**{**fields, "shared": tuple(StoredFile(**file) for file in fields["shared"]),
                              "segments": tuple(map(entry_of, fields["segments"])),
                              "dropped": tuple(Dropped(**path) for path in fields["dropped"])})
            _require_sense(manifest)
        except CollectionError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CollectionError(f"the manifest of the store {where} is damaged ({error}); put a copy of "
                                  f"{NAME} back, or index the photos again into a new store") from error
        return manifest


def entry_of(fields: Mapping[str, Any]) -> SegmentEntry:
    """A segment from its fields in JSON. Raises `ValueError`, `TypeError` or `KeyError` if they do not describe one."""
    return SegmentEntry(**{**fields, "files": tuple(StoredFile(**file) for file in fields["files"]),
                           "facts": StoredFile(**fields["facts"])})


def _dumped(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _seal(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dumped(fields)).hexdigest()


def _require_sense(manifest: Manifest) -> None:
    model, options, storage = manifest.model, manifest.options, manifest.storage
    if not (isinstance(model, dict) and all(isinstance(model.get(key), str) for key in ("name", "fingerprint"))
            and isinstance(options, dict) and type(options.get("dimensions")) is int
            and isinstance(storage, dict | None) and _is_count(manifest.version)):
        raise ValueError("it does not say of which model and options it is")
    if len({entry.name for entry in manifest.segments}) < len(manifest.segments):
        raise ValueError("a segment is named twice")


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**60


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 2**40
