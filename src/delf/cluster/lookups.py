"""Requests to a machine of a cluster that look up photos, to show, list or search with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delf.cluster.parts import Findable, Shelf, Slice
from delf.cluster.requests import Check, places
from delf.collection import StoredImage
from delf.collection.ordering import Listing, listings
from delf.collection.positions import Placed, positions
from delf.types import Features, IntArray


@dataclass(frozen=True)
class StoredFeatures:
    """All stored features of an image."""

    image: int

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[Features]:
        """As `Request` has it."""
        return [shelf.part(segment).snapshot.features(place) for segment, place in places(slices, (self.image,))]


@dataclass(frozen=True)
class Known:
    """The records of some images, by ordinal."""

    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, StoredImage]:
        """As `Request` has it."""
        return {segment.base + place: shelf.part(segment).snapshot.image(place)
                for segment, place in places(slices, self.images)}


@dataclass(frozen=True)
class KeysOf:
    """The keys of some images, by ordinal."""

    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, str]:
        """As `Request` has it."""
        return {segment.base + place: shelf.part(segment).snapshot.key_of(place)
                for segment, place in places(slices, self.images)}


@dataclass(frozen=True)
class OrdinalOf:
    """The ordinals of the image with a key, or of a file: one or none."""

    key: str | None
    path: str | None = None

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[int]:
        """As `Request` has it."""
        found = []
        for segment in slices:
            check()
            snapshot = shelf.part(segment).snapshot
            place = snapshot.ordinal_of(self.path or "") if self.key is None else snapshot.ordinal_of_key(self.key)
            found += [] if place is None else [segment.base + place]
        return found


@dataclass(frozen=True)
class AfterKey:
    """(key, ordinal) of the images whose keys come next after one, in their order."""

    key: str
    limit: int
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[tuple[str, int]]:
        """As `Request` has it."""
        found: list[tuple[str, int]] = []
        for segment in slices:
            check()
            snapshot = shelf.part(segment).snapshot
            places = snapshot.after(self.key or None, self.limit, self.findable.where)
            found += [(snapshot.key_of(place), segment.base + place) for place in places]
        return sorted(found)[: self.limit]


@dataclass(frozen=True)
class Matching:
    """How many images a condition is true of."""

    where: str

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> int:
        """As `Request` has it."""
        return sum(int(shelf.part(segment).snapshot.matching(self.where).sum()) for segment in slices)


@dataclass(frozen=True)
class MatchingImages:
    """The ordinals of the images that a condition is true of."""

    where: str

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[IntArray]:
        """As `Request` has it."""
        found = []
        for segment in slices:
            check()
            found.append(segment.base + np.flatnonzero(shelf.part(segment).snapshot.matching(self.where)))
        return found


@dataclass(frozen=True)
class Listings:
    """What orders look at, of each image."""

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[Listing]:
        """As `Request` has it."""
        found = []
        for segment in slices:
            check()
            found += [listing._replace(ordinal=segment.base + listing.ordinal)
                      for listing in listings(shelf.part(segment).snapshot)]
        return found


@dataclass(frozen=True)
class Places:
    """Where images were taken, of each that says so."""

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[Placed]:
        """As `Request` has it."""
        found = []
        for there in slices:
            check()
            found += [one._replace(ordinal=there.base + one.ordinal) for one in positions(shelf.part(there).snapshot)]
        return found


@dataclass(frozen=True)
class PhotoBytes:
    """The file of an image, if this machine has a file with exactly its content, of at most `most` bytes."""

    image: int
    most: int

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> list[bytes]:
        """As `Request` has it."""
        found = []
        for segment, place in places(slices, (self.image,)):
            stored = shelf.part(segment).snapshot.image(place)
            for file in stored.files:
                if file.is_file() and file.stat().st_size <= self.most:
                    data = file.read_bytes()
                    found += [data] if hashlib.sha256(data).hexdigest() == stored.key else []
        return found[:1]
