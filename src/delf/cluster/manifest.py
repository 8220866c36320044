"""The manifest of a store: which segments it has, and what all of them share. The only file of it that ever changes.

    places.store/
      manifest.json                    format, version, model, options, storage, shared files, segments
      segments/<name>/...              as those of a collection: written once, never changed
      segments/<name>/facts-<id>.jsonl what the catalogue of a collection would say of its images (`facts`)
      shared/<name>                    visual words that all segments are stored or searched by
      pieces/<id>.json                 of a job under way: what is done, and not yet in the manifest (`pieces`)

Each state is published by one atomic write and has a version that counts up. Whoever reads works with one manifest:
what it names stays for as long as `delf compact` is told to leave it (`delf.cluster.upkeep`).
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

    name: of its folder. images: that it holds, and alive: those of them that have a file, which a search can find.
    features: that it holds. files: its arrays. facts: the file of its images, which takes the place of another one
    when files of them are removed or copies of them come.
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
        """Of all its files."""
        return sum(file.bytes for file in (*self.files, self.facts))


@dataclass(frozen=True)
class Dropped:
    """Something that manifests named before, and since when (seconds since 1970) none does: a path in the store."""

    path: str
    since: float

    def __post_init__(self) -> None:
        parts = self.path.split("/") if isinstance(self.path, str) else []
        if not 2 <= len(parts) <= 3 or not all(_matches(_FILE, part) for part in parts) or not _is_number(self.since):
            raise ValueError(f"{self.path!r} is not a path in a store with a time")


@dataclass(frozen=True)
class Manifest:
    """One state of a store.

    version: counts up by one with each that is published; 0 is that of a store without any photo yet. model, options,
    storage: as the catalogue of a collection has them; no storage is "full". shared: files that every part of the store
    gets: visual words. dropped: what `delf compact` may delete when its time has come.
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
        """How many features are stored, those of removed images included."""
        return sum(entry.features for entry in self.segments)

    @property
    def total_bytes(self) -> int:
        """Of all files that it names."""
        return sum(entry.total_bytes for entry in self.segments) + sum(file.bytes for file in self.shared)

    @property
    def words(self) -> StoredFile | None:
        """The visual words that all segments are searched by; None where the model brings its own. Where there are
        several, those that a collection of the same files would take: of learnt ones the most.
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
        """What the catalogue of a collection says: model, options, and the storage where it is not full."""
        stored = {} if self.storage is None else {"storage": dict(self.storage)}
        return {"model": dict(self.model), "options": dict(self.options), **stored}

    def entry(self, name: str) -> SegmentEntry | None:
        """The segment of a name, or None."""
        return next((one for one in self.segments if one.name == name), None)

    def next(self, **changes: Any) -> Manifest:
        """The next version, with other values of some fields."""
        return replace(self, version=self.version + 1, **changes)

    def to_json(self) -> bytes:
        """As it is written: with a digest of all that it says."""
        said = {"format": FORMAT, **asdict(self)}
        return _dumped({**said, _SEAL: _seal(said)})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Manifest:
        """Read back what `to_json` wrote; without its digest, as who changes it by hand leaves it, it is looked at as
        closely. where: the address of the store, for messages.

        Raises:
            CollectionError: it is damaged, or of a newer format.
        """
        try:
            said = json.loads(data)
            written = said.pop("format")
            if type(written) is int and written > FORMAT:
                raise CollectionError(f"the store {where} has format {written}, which is newer than this version of "
                                      f"delf reads ({FORMAT}); upgrade delf-retrieval")
            if said.pop(_SEAL, None) not in (None, _seal({"format": written, **said})):
                raise ValueError(f"it is not what was written, as its {_SEAL} says")
            manifest = cls(**{**said, "shared": tuple(StoredFile(**one) for one in said["shared"]),
                              "segments": tuple(map(entry_of, said["segments"])),
                              "dropped": tuple(Dropped(**one) for one in said["dropped"])})
            _require_sense(manifest)
        except CollectionError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CollectionError(f"the manifest of the store {where} is damaged ({error}); put a copy of "
                                  f"{NAME} back, or index the photos again into a new store") from error
        return manifest


def entry_of(said: Mapping[str, Any]) -> SegmentEntry:
    """A segment as JSON says it. Raises `ValueError`, `TypeError` or `KeyError` where that cannot be."""
    return SegmentEntry(**{**said, "files": tuple(StoredFile(**one) for one in said["files"]),
                           "facts": StoredFile(**said["facts"])})


def _dumped(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _seal(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dumped(said)).hexdigest()


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
