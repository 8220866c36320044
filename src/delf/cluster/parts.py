"""The segments on a machine of a cluster, opened to be searched.

Requests and answers use ordinals of the whole store: the images of a segment have those from its `base` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from delf.collection import Collection, Snapshot
from delf.errors import CollectionError
from delf.index.asmk import Asmk, AsmkIndex, AsmkOptions
from delf.pools import Lock, Pool
from delf.retrieval.asmk import ListedImages, opened_lists
from delf.retrieval.contract import Mask
from delf.retrieval.descriptors import StoredImages, stored_rows
from delf.retrieval.votes import IndexedFeatures
from delf.types import FloatArray, IntArray
from delf.verification import DetailOptions, MatchingOptions, ScreeningOptions, VerificationOptions
from delf.verifying import Verifier

_VERIFIERS = 16  # sets of options whose verifiers a part keeps


@dataclass(frozen=True)
class Slice:
    """A segment of a state of a store, with its place among all segments.

    id: identifies the segment and the facts of its images. name: of its folder. base, row: the ordinals of its first
    image and of its first feature. images, alive: how many images it holds, and how many of them can be found.
    """

    id: str
    name: str
    base: int
    row: int
    images: int
    alive: int

    def inside(self, ordinals: IntArray) -> IntArray:
        """The positions in the segment of those ordinals that are in it."""
        chosen: IntArray = ordinals[(ordinals >= self.base) & (ordinals < self.base + self.images)] - self.base
        return chosen


@dataclass(frozen=True)
class Findable:
    """Which images a search may find: as for `Snapshot.findable`, by ordinals of the whole store."""

    exclude: tuple[int, ...] = ()
    where: str | None = None

    def mask(self, snapshot: Snapshot, segment: Slice) -> Mask:
        """(n,) of the images of a segment."""
        return snapshot.findable(segment.inside(np.asarray(self.exclude, np.int64)).tolist(), self.where)


@dataclass(frozen=True)
class WordsKey:
    """Identifies visual words and how images are compared by them.

    codebook: its fingerprint. weights: a name for the weights of its words (idf), which are counted over all images of
    a state; empty if all words weigh the same.
    """

    codebook: str
    options: AsmkOptions
    weights: str = ""


@dataclass(frozen=True)
class Verifying:
    """How candidates are verified, as for `delf.verifying.Verifier`."""

    matching: MatchingOptions | None
    verification: VerificationOptions | None
    screening: ScreeningOptions | None
    details: DetailOptions | None


@dataclass(frozen=True)
class PartFacts:
    """What a machine reports of a segment that it has opened. features, kept: how many are searched and stored. width:
    dimensions of the global descriptors, 0 if there are none.
    """

    images: int
    alive: int
    features: int
    kept: int
    width: int


class Part:
    """A segment, opened. Several threads may use it at once."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection  # as long as it is used, its catalogue is open
        self.snapshot = collection.snapshot
        self._indexes: dict[WordsKey, AsmkIndex] = {}
        self._verifiers: dict[Verifying, Verifier] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Let go of the catalogue; what is used by others stays mapped until they have ended."""
        self._collection.close()

    @property
    def facts(self) -> PartFacts:
        """What is said of it."""
        snapshot = self.snapshot
        widths = {segment.globals.shape[1] for segment in snapshot.segments}
        return PartFacts(len(snapshot.alive), int(snapshot.alive.sum()), snapshot.rows, snapshot.kept,
                         widths.pop() if len(widths) == 1 else 0)

    def prepare(self, asmk: Asmk) -> None:
        """Open the lists of its words, and make them where they are missing."""
        if self.snapshot.rows:
            opened_lists(asmk, self.snapshot, self)

    def index(self, key: WordsKey, asmk: Asmk, weights: FloatArray | None) -> AsmkIndex:
        """Its lists, to be searched."""
        with self._lock:
            if key not in self._indexes:
                lists = opened_lists(asmk, self.snapshot, self) if self.snapshot.rows else []
                self._indexes[key] = AsmkIndex(asmk, lists, weights=weights)
            return self._indexes[key]

    def forget(self, keys: set[WordsKey]) -> None:
        """Let go of what is searched by words that are used no more."""
        with self._lock:
            for key in keys & set(self._indexes):
                del self._indexes[key]

    def images(self, index: AsmkIndex) -> ListedImages | None:
        """Its images as their words have them; None where it has no features."""
        return ListedImages(index) if self.snapshot.rows else None

    @cached_property
    def features(self) -> IndexedFeatures:
        """Its descriptors, in an index."""
        return IndexedFeatures(self.snapshot)

    @cached_property
    def pooled(self) -> StoredImages:
        """Its global descriptors. Raises `CollectionError` where there are none."""
        return StoredImages(stored_rows(self.snapshot))

    def verifier(self, options: Verifying, pool: Pool) -> Verifier:
        """What verifies its images."""
        with self._lock:
            if options not in self._verifiers:
                for old in list(self._verifiers)[: 1 - _VERIFIERS]:
                    del self._verifiers[old]
                self._verifiers[options] = Verifier(
                    self.snapshot, None, pool, matching=options.matching, verification=options.verification,
                    screening=options.screening, details=options.details)
            return self._verifiers[options]


class MissingPartError(Exception):
    """A machine was asked for a segment that it does not have (any more)."""


class MissingWordsError(Exception):
    """A machine was asked to compare by words that it does not know (any more): a `WordsKey`."""

    def __init__(self, key: WordsKey) -> None:
        super().__init__(key)
        self.key = key


@dataclass(eq=False)
class Shelf:
    """What requests to a machine work with.

    pool: threads that compute. parts: the opened segments, by the ids of their slices. words: the visual words, and
    the weight of each (W,) or None if all weigh the same. kept: candidates of recent queries, so that a second request
    for them is cheap; candidates that are not kept any more are computed again.
    """

    pool: Pool
    parts: dict[str, Part] = field(default_factory=dict)
    words: dict[WordsKey, tuple[Asmk, FloatArray | None]] = field(default_factory=dict)
    kept: Kept = field(default_factory=lambda: Kept())

    def part(self, segment: Slice) -> Part:
        """The segment of a slice. Raises `MissingPartError` where it is not here."""
        try:
            return self.parts[segment.id]
        except KeyError:
            raise MissingPartError(segment.name) from None

    def index(self, segment: Slice, key: WordsKey) -> AsmkIndex:
        """The lists of a segment by some words. Raises as `part`, and `MissingWordsError` where these are not known."""
        try:
            asmk, weights = self.words[key]
        except KeyError:
            raise MissingWordsError(key) from None
        return self.part(segment).index(key, asmk, weights)

    def asmk(self, key: WordsKey) -> Asmk:
        """What makes lists by some words. Raises `MissingWordsError` where they are not known here."""
        try:
            return self.words[key][0]
        except KeyError:
            raise MissingWordsError(key) from None


class Kept:
    """A cache that drops its oldest values when they take too many bytes. Several threads may use it at once."""

    def __init__(self, most: int = 256_000_000) -> None:
        self._most, self._bytes = most, 0
        self._values: dict[Any, tuple[Any, int]] = {}
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """The value of a key, made if it is not kept. size: how many bytes a value takes."""
        with self._lock:
            if key in self._values:
                self._values[key] = self._values.pop(key)  # it is the newest now
                return self._values[key][0]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value, (taken := size(value))
                self._bytes += taken
            while self._bytes > self._most and len(self._values) > 1:
                self._bytes -= self._values.pop(next(iter(self._values)))[1]
        return value


def require_same(version: str, versions: Mapping[str, str]) -> None:
    """Make sure that all machines have this version of delf.

    Args:
        versions: the version of each machine, by its name.

    Raises:
        CollectionError: a machine has another version.
    """
    different = {name: other for name, other in versions.items() if other != version}
    if different:
        listed = ", ".join(f"{name} has {other}" for name, other in sorted(different.items()))
        raise CollectionError(f"all machines of the cluster need the same version of delf-retrieval: this one has "
                              f"{version}, and {listed}; install {version} there")


def in_range(slices: Sequence[Slice], ordinals: IntArray) -> list[Slice]:
    """The slices, in the order of their bases, that contain any of some ordinals."""
    bases = np.array([segment.base for segment in slices], np.int64)
    places = np.unique(np.searchsorted(bases, ordinals, side="right") - 1)
    return [slices[place] for place in places.tolist()
            if place >= 0 and len(slices[place].inside(np.asarray(ordinals, np.int64)))]
