"""The photos of a collection in an order to leaf through, in sections to jump by: months, folders, letters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from delf.collection.given import key_of_path
from delf.collection.snapshot import Snapshot
from delf.images import display_path
from delf.types import IntArray

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Section:
    """Photos that follow one another. label: of what; "" for those without. start: the place of the first one."""

    label: str
    start: int
    count: int


@dataclass(frozen=True, eq=False)
class Ordered:
    """Photos in an order.

    ordinals: (n,) of the images, first to last. section: (n,) into `labels` for each of them, ascending.
    """

    ordinals: IntArray
    section: IntArray
    labels: tuple[str, ...]

    def only(self, mask: NDArray[np.bool_]) -> Ordered:
        """Only the images whose ordinals a mask selects."""
        kept = mask[self.ordinals]
        return Ordered(self.ordinals[kept], self.section[kept], self.labels)

    def sections(self) -> list[Section]:
        """The sections that have photos, in order."""
        numbers, starts, counts = np.unique(self.section, return_index=True, return_counts=True)
        return [Section(self.labels[number], start, count)
                for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True)]


class Listing(NamedTuple):
    """What orders look at: folder and name of a photo's first file, to be shown, and its date: ISO 8601, or ""."""

    ordinal: int
    folder: str
    name: str
    date: str


def ordered(snapshot: Snapshot, order: str) -> Ordered:
    """The photos of a snapshot in an order of `ORDERS`, as the catalogue has them now. A photo is called by the first
    of its paths, whether it is there or not: nothing is looked for on the disk.
    """
    return arranged(listings(snapshot), order)


def arranged(found: Sequence[Listing], order: str) -> Ordered:
    """Photos in an order of `ORDERS`."""
    label, arrange = ORDERS[order]
    photos = arrange(found)
    parts = [(text, sum(1 for _ in group)) for text, group in groupby(photos, label)]
    return Ordered(np.fromiter((photo.ordinal for photo in photos), np.int64, len(photos)),
                   np.repeat(np.arange(len(parts)), [count for _, count in parts]), tuple(text for text, _ in parts))


def listings(snapshot: Snapshot) -> list[Listing]:
    """What orders look at, of each photo of a snapshot."""
    bases = {segment.folder.name: base
             for segment, base in zip(snapshot.segments, snapshot.bases.tolist(), strict=False)}
    found = []
    for key, segment, position, date, shown, path in snapshot.lookup.listed():
        ordinal = bases[segment] + position if segment in bases else snapshot.ordinal_of_key(key.hex())  # merged since
        if ordinal is None or not snapshot.alive[ordinal]:
            continue
        text = display_path(shown)
        folder, _, name = ("", "", text) if key_of_path(path) is not None else text.rpartition("/")
        found.append(Listing(ordinal, folder, name, date or ""))
    return found


def _natural(text: str) -> str:
    """As people order names: without upper and lower case, and numbers by their size."""
    return _NUMBER.sub(lambda number: number[0].zfill(12), text.casefold())


def _by_folder(photos: Sequence[Listing]) -> list[Listing]:
    return sorted(photos, key=lambda photo: (_natural(photo.folder), photo.folder, _natural(photo.name), photo.ordinal))


def _by_name(photos: Sequence[Listing]) -> list[Listing]:
    return sorted(photos, key=lambda photo: (_letter(photo), _natural(photo.name), _natural(photo.folder),
                                             photo.ordinal))


def _by_date(latest_first: bool) -> Callable[[Sequence[Listing]], list[Listing]]:
    """Those without a date come last."""
    def arrange(photos: Sequence[Listing]) -> list[Listing]:
        found = _by_folder(photos)
        dated = sorted((photo for photo in found if photo.date), key=lambda photo: photo.date, reverse=latest_first)
        return dated + [photo for photo in found if not photo.date]

    return arrange


def _added(photos: Sequence[Listing]) -> list[Listing]:
    return sorted(photos, key=lambda photo: -photo.ordinal)


def _letter(photo: Listing) -> str:
    first = photo.name[:1].upper()
    return first if first.isalpha() else ""


ORDERS: dict[str, tuple[Callable[[Listing], str], Callable[[Sequence[Listing]], list[Listing]]]] = {
    "newest": (lambda photo: photo.date[:7], _by_date(latest_first=True)),
    "oldest": (lambda photo: photo.date[:7], _by_date(latest_first=False)),
    "name": (_letter, _by_name),
    "folder": (lambda photo: photo.folder, _by_folder),
    "added": (lambda photo: "", _added),
}
"""Of each order: the label of a photo's section, and what arranges photos."""
