"""Inverted lists of visual words and signatures: how they lie on the disk, which ASMK* and Hamming embedding share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes
from delf.index.bits import as_integers
from delf.index.exact import checked
from delf.index.filling import Spill, spilling
from delf.index.storage import ArrayFile, ArrayWriter, InFile, Layout
from delf.mapped import expect, release
from delf.types import IntArray

LEAST_RARITY = 2.0**-20  # idf^2 of a word that all images have: it must not hide those that share nothing else
ROWS = 16384  # features, of whole images, that are aggregated at a time


def image_type(images: int) -> np.dtype[Any]:
    """The type that images of a segment are numbered by."""
    return np.dtype(np.uint16 if images <= 65536 else np.uint32)


def blocks_of(images: Iterable[Codes], dimensions: int) -> Iterator[list[Codes]]:
    """Whole images together, up to so many features."""
    block: list[Codes] = []
    rows = 0
    for codes in images:
        if rows and rows + len(codes) > ROWS:
            yield block
            block, rows = [], 0
        block.append(checked(codes, dimensions))
        rows += len(codes)
    if block:
        yield block


def with_words(blocks: Iterable[list[Codes]],
               words: Iterable[IntArray] | None) -> Iterator[tuple[list[Codes], IntArray | None]]:
    """Each block with the words of its features, where those of each image are given."""
    each = None if words is None else iter(words)
    for block in blocks:
        yield block, None if each is None else np.concatenate([next(each) for _ in block])


def parts(sizes: IntArray, most: int) -> Iterator[slice]:
    """Runs of lists that have so many entries together, or of one list that has more."""
    ends, start = np.cumsum(sizes), 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, eq=False)
class Entries:
    """Words of images with signatures, image after image.

    images, words: (E,) int64. signatures: (E, B) uint8.
    """

    images: IntArray
    words: IntArray
    signatures: NDArray[np.uint8]


class SignatureLists(InFile):
    """Entries of images in the lists of their words, of one segment, memory-mapped.

    Signatures and images lie in the order of the lists, so that a search reads neighbouring memory. Where each entry of
    an image lies is stored beside them, so that what one image has is read without the others.

    images, entries: how many there are. sizes: (W,) uint32, entries of each word. counts: (n,) uint32, entries of each
    image. owners: (entries,) which image each is of. signatures: (entries, C) unsigned integers (`delf.index.bits`).
    """

    def __init__(self, file: ArrayFile, words: int, width: int, entries: int, *, placed: bool = True) -> None:
        """Open a file of so many words and entries, whose signatures have `width` bytes.

        Args:
            placed: whether it says where the entries of each image lie; otherwise that is found when it is needed.

        Raises:
            CollectionError: it is not as long as it should be, or its lists do not add up.
        """
        self._file = file
        self.images, self.entries = file.integer("images"), entries
        layout, content = _layout(words, self.images, entries, width, placed), file.bytes()
        self._content = content
        if len(content) != layout.nbytes:
            raise file.damaged("its size is not that of its entries")
        expect(layout.view(content, "sizes"), layout.view(content, "counts"))
        arrays = {name: np.asarray(layout.view(content, name)) for name in layout}
        self.sizes, self.counts, self.owners = arrays["sizes"], arrays["counts"], arrays["images"]
        self.signatures, self._bytes = as_integers(arrays["signatures"]), arrays["signatures"]
        self._stored_places = arrays.get("places")
        if self.sizes.sum(dtype=np.int64) != entries or self.counts.sum(dtype=np.int64) != entries:
            raise file.damaged("the sizes of its lists do not add up")
        self._ends = np.cumsum(self.sizes, dtype=np.int64 if entries >= 2**32 else np.uint32)
        self._lasts = np.cumsum(self.counts, dtype=self._ends.dtype)

    @cached_property
    def _places(self) -> NDArray[Any]:
        """(entries,) where each lies, image after image."""
        if self._stored_places is not None:
            return self._stored_places
        return np.argsort(self.owners, kind="stable").astype(self._ends.dtype)  # an image has its words in their order

    def release(self) -> None:
        """Release pages that were read: they stay in the memory of the system, as long as that has room, but no longer
        count as memory of this process.
        """
        release(self._content)

    def bounds(self, words: IntArray) -> tuple[IntArray, IntArray]:
        """Where the lists of some words begin and end, (Q,) int64 each."""
        ends = self._ends[words].astype(np.int64)
        return ends - self.sizes[words], ends

    def of_images(self, images: Sequence[int]) -> Entries:
        """What some images have, image after image; nothing else is read."""
        rows = [slice(int(self._lasts[image]) - int(self.counts[image]), int(self._lasts[image])) for image in images]
        places = self.known(np.concatenate([self._places[:0], *(self._places[one] for one in rows)]), self.entries)
        owners = np.repeat(np.asarray(images, np.int64), [one.stop - one.start for one in rows])
        return Entries(owners, np.searchsorted(self._ends, places, side="right"), self._bytes.take(places, axis=0))

    def known(self, numbers: NDArray[Any], count: int) -> IntArray:
        """Numbers of images or entries, of which there are so many."""
        if len(numbers) and numbers.max() >= count:
            raise self.unknown()
        return numbers.astype(np.int64)

    def unknown(self) -> Exception:
        """The error that says that there is no such image or entry."""
        return self._file.damaged("it names images or entries that it does not have")


class ListWriter:
    """Takes the entries of the images of a segment, image after image, and writes their lists."""

    def __init__(self, spill: Spill, width: int) -> None:
        self._spill, self._width = spill, width
        self._counts: list[NDArray[np.uint32]] = [np.zeros(0, np.uint32)]
        self._images = 0

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._spill)

    def add(self, count: int, entries: Entries) -> None:
        """Take the entries of the next so many images, which count from 0."""
        self._spill.add(entries.words, image=entries.images + self._images, signature=entries.signatures)
        self._counts.append(np.bincount(entries.images, minlength=count).astype(np.uint32))
        self._images += count

    def write(self, path: Path, kind: str, fields: Mapping[str, Any]) -> None:
        """Write a file of lists. kind, fields: what it says of itself."""
        counts = np.concatenate(self._counts)
        layout = _layout(len(self._spill.sizes), len(counts), len(self), self._width)
        with ArrayWriter(path, kind, {**fields, "images": len(counts)}) as writer:
            content = writer.reserve(layout.nbytes)
            arrays = {name: layout.view(content, name) for name in layout}
            arrays["sizes"][:], arrays["counts"][:] = self._spill.sizes, counts
            for block in self._spill.in_lists():
                arrays["signatures"][block.places] = block.fields["signature"]
                arrays["images"][block.places] = block.fields["image"]
                arrays["places"][block.rows] = block.places


@contextmanager
def writing_lists(path: Path, words: int, width: int) -> Iterator[ListWriter]:
    """What takes entries with signatures of so many bytes, in lists of so many words, which are to be in a file."""
    with spilling(path, words, image=(np.uint32, ()), signature=(np.uint8, (width,))) as spill:
        yield ListWriter(spill, width)


def _layout(words: int, images: int, entries: int, width: int, placed: bool = True) -> Layout:
    """Where the arrays of a segment's lists lie: 22 bytes for an entry of 128 dimensions, 18 where none is placed."""
    places: dict[str, Any] = {"places": (np.uint32, (entries,))} if placed else {}
    return Layout(sizes=(np.uint32, (words,)), counts=(np.uint32, (images,)), signatures=(np.uint8, (entries, width)),
                  images=(image_type(images), (entries,)), **places)
