"""Hamming embedding: every feature keeps its visual word and a binary signature (Jégou, Douze and Schmid, ECCV 2008 and
IJCV 2010), in an inverted file.

Two features match where they are in one word and their signatures differ in h <= h_t bits of B. A match weighs
exp(-(h / (B / 4))^2), and the matches of one query feature in one word with one image count together: their sum is
divided by the root of their number, as repeated structures would else drown the rest (Jégou, Douze and Schmid, CVPR
2009). The score of an image is

    sum of those over the query, each times idf^2 of its word,    / sqrt(sum of idf^2 over the words of the image)

with idf = log(images / images with the word); the factor of the query would not change the order. Weights and factors
are those of the public package of hamming query expansion (Tolias and Jégou, Pattern Recognition 2014).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.errors import OptionError
from delf.files import scratch_file
from delf.index.bits import as_integers, ones
from delf.index.lists import LEAST_RARITY, blocks_of, image_type, parts
from delf.index.storage import ArrayFile, ArrayWriter, Layout
from delf.index.words import Codebook
from delf.types import FloatArray, IntArray

KIND = "hamming"
ENTRIES = 65536  # spilled features that are put into their lists at a time
COMPARED = 131072  # features that a query is compared with at a time: 20 MB
STEP = 2.0**-30  # all that is added up is a multiple of it, so that sums are exact, whatever their order

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class HammingOptions:
    """How features are matched and images compared.

    assignments: words that each feature of a query is given to; one of the database has the nearest one. threshold:
    h_t, as a share of the bits, which are as many as a descriptor has dimensions: 48 of 128. burstiness: whether
    matches of one query feature with one image count together. idf: whether words weigh by how rare they are.
    """

    assignments: int = 3
    threshold: float = 0.375
    burstiness: bool = True
    idf: bool = True

    def __post_init__(self) -> None:
        if self.assignments < 1:
            raise OptionError("the assignments of Hamming embedding must be 1 or more")
        if not 0 <= self.threshold <= 1:
            raise OptionError("the threshold of Hamming embedding is a share of the bits, 0 to 1, not "
                              f"{self.threshold}")


@dataclass(frozen=True, eq=False)
class Signed:
    """Words and signatures of the features of an image.

    features, words: (E,) int64; a feature is in as many rows as it has words. signatures: (E, ceil(B / 8)) uint8.
    """

    features: IntArray
    words: IntArray
    signatures: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.words)

    def select(self, rows: NDArray[Any]) -> Signed:
        """Those of the given rows: indices, or a boolean mask."""
        return Signed(self.features[rows], self.words[rows], self.signatures[rows])


@dataclass(frozen=True, eq=False)
class Near:
    """Matches of a query with images: rows of the query, images, Hamming distances, (M,) each.

    Those of one row with one image are neighbours.
    """

    rows: IntArray
    images: IntArray
    distances: IntArray


class Hamming:
    """Hamming embedding with a codebook: makes queries, and the lists of segments."""

    def __init__(self, codebook: Codebook, options: HammingOptions | None = None) -> None:
        self.codebook, self.options = codebook, options or HammingOptions()

    @property
    def bits(self) -> int:
        """B, the length of a signature: that of a descriptor."""
        return self.codebook.dimensions

    def limit(self, share: float) -> int:
        """How many bits may differ, for a share of them."""
        return math.floor(self.bits * share + 1e-9)

    def query(self, descriptors: FloatArray) -> Signed:
        """The words and signatures of a query, with several words for each of its descriptors (N, D) float32."""
        return self.signed(descriptors, self.options.assignments)

    def signed(self, descriptors: FloatArray, assignments: int = 1) -> Signed:
        """The words and signatures of descriptors (N, D) float32, which must be finite."""
        if not np.isfinite(descriptors).all():
            raise ValueError("descriptors must be finite numbers")
        assigned = self.codebook.assign(descriptors, assignments)
        features, words = np.repeat(np.arange(len(assigned)), assigned.shape[1]), assigned.ravel()
        return Signed(features, words, self.codebook.signatures(descriptors[features] - self.codebook.words[words],
                                                                words))

    def weights(self) -> _Array:
        """(B + 1,) what a match weighs whose signatures differ in so many bits."""
        distances = np.arange(self.bits + 1)
        values = np.exp(-np.square(distances / (self.bits / 4)))
        return np.where(distances <= self.limit(self.options.threshold), values, 0.0)

    def build(self, images: Iterable[Codes], path: Path) -> HammingLists:
        """Write the lists of a segment, given the codes of each of its images in order, and open them.

        Two passes: words and signatures are spilled to a file beside `path` as they come, then put into their lists.

        Args:
            images: (N, D) int8 each (`delf.codes`). Memory stays bounded by a block of features, or by one image.
        """
        with scratch_file(path) as spilled:
            sizes, counts = self._spill(images, spilled)
            features = np.memmap(spilled, self._entry, "r") if sizes.any() else np.empty(0, self._entry)
            layout = _layout(len(sizes), len(counts), len(features), self._width)
            fields = {"dimensions": self.bits, "codebook": self.codebook.fingerprint, "images": len(counts),
                      "rows": len(features)}
            with ArrayWriter(path, KIND, fields) as writer:
                content = writer.reserve(layout.nbytes)
                layout.view(content, "sizes")[:] = sizes
                layout.view(content, "counts")[:] = counts
                _fill(layout, content, features, sizes)
        return self.open(path)

    def open(self, path: Path) -> HammingLists:
        """Map the lists of a file.

        Raises:
            CollectionError: it is missing, damaged, foreign, or made with another codebook.
        """
        file = ArrayFile.open(path, KIND)
        file.require("dimensions", self.bits)
        file.require("codebook", self.codebook.fingerprint)
        return HammingLists(file, len(self.codebook), self._width)

    @property
    def _width(self) -> int:
        return -(-self.bits // 8)

    @property
    def _entry(self) -> np.dtype[np.void]:
        return np.dtype([("word", np.int32), ("image", np.uint32), ("signature", np.uint8, (self._width,))])

    def _spill(self, images: Iterable[Codes], path: Path) -> tuple[IntArray, IntArray]:
        """Write the features in their order; the sizes (W,) of the lists, and the features (n,) of each image."""
        sizes, counts = np.zeros(len(self.codebook), np.int64), [0]
        with path.open("wb") as stream:
            for block in blocks_of(images, self.bits):
                lengths = [len(codes) for codes in block]
                signed = self.signed(decode(np.concatenate(block)))
                entries = np.zeros(len(signed), self._entry)
                entries["word"], entries["signature"] = signed.words, signed.signatures
                entries["image"] = np.repeat(np.arange(len(counts) - 1, len(counts) - 1 + len(lengths)), lengths)
                stream.write(entries.data)
                sizes += np.bincount(signed.words, minlength=len(sizes))
                counts += lengths
        return sizes, np.array(counts[1:], np.int64)


class HammingLists:
    """The inverted lists of one segment, memory-mapped. Made by `Hamming.open`.

    Signatures and images lie in the order of the lists, so that a search reads neighbouring memory; where each feature
    of an image lies is stored beside. images, rows: how many there are. sizes: (W,) int64, features of each word.
    """

    def __init__(self, file: ArrayFile, words: int, width: int) -> None:
        self._file = file
        self.images, self.rows = (file.integer(name) for name in ("images", "rows"))
        layout, content = _layout(words, self.images, self.rows, width), file.bytes()
        if len(content) != layout.nbytes:
            raise file.damaged("its size is not that of its features")
        self.sizes = layout.view(content, "sizes").astype(np.int64)
        self._ends, self._offsets = np.cumsum(self.sizes), np.cumsum([0, *layout.view(content, "counts").tolist()])
        if self.sizes.sum() != self.rows or self._offsets[-1] != self.rows:
            raise file.damaged("the sizes of its lists do not add up")
        self._images, self._places = layout.view(content, "images"), layout.view(content, "places")
        self._bytes = layout.view(content, "signatures")
        self._signatures = as_integers(self._bytes)

    @property
    def nbytes(self) -> int:
        """Bytes on disk, without the header."""
        return self._file.integer("bytes")

    def verify(self) -> None:
        """Read everything and compare it with the hash in the header; `CollectionError` where they differ."""
        self._file.verify()

    def near(self, query: Signed, most: int) -> Iterator[Near]:
        """The features in the words of a query whose signatures differ in at most so many bits, in runs of words."""
        wanted, all_sizes = as_integers(query.signatures), self.sizes[query.words]
        for part in parts(all_sizes, COMPARED):
            words, sizes = query.words[part], all_sizes[part]
            ends = np.cumsum(sizes)
            places = np.arange(ends[-1]) + np.repeat(self._ends[words] - ends, sizes)
            differing = self._signatures.take(places, axis=0)
            differing ^= np.repeat(wanted[part], sizes, axis=0)
            distances = ones(differing)
            close = np.flatnonzero(distances <= most)
            rows = np.repeat(np.arange(part.start, part.stop), sizes)[close]
            yield Near(rows, self._known(self._images.take(places[close]), self.images),
                       distances[close].astype(np.int64))

    def of_image(self, position: int) -> Signed:
        """The words and signatures of the features of the image at a position of this segment, in their order."""
        rows = slice(int(self._offsets[position]), int(self._offsets[position + 1]))
        places = self._known(self._places[rows], self.rows)
        words = np.searchsorted(self._ends, places, side="right")
        return Signed(np.arange(len(places)), words, self._bytes.take(places, axis=0))

    def occurrences(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Which word is in which image: words and images, each pair once, in runs of words. Reads all lists."""
        for part in parts(self.sizes, COMPARED):
            words = np.repeat(np.arange(part.start, part.stop), self.sizes[part])
            last = int(self._ends[part.stop - 1])
            images = self._known(self._images[last - len(words) : last], self.images)
            first = (np.diff(words, prepend=-1) != 0) | (np.diff(images, prepend=-1) != 0)
            yield words[first], images[first]

    def _known(self, numbers: NDArray[Any], count: int) -> IntArray:
        if len(numbers) and numbers.max() >= count:
            raise self._file.damaged("it names images or features that it does not have")
        return numbers.astype(np.int64)


class HammingIndex:
    """The lists of several segments, searched as one: their images are numbered one after another."""

    def __init__(self, hamming: Hamming, lists: Sequence[HammingLists]) -> None:
        """Open an index. The first search reads which word is in which image."""
        self._hamming, self._lists = hamming, tuple(lists)
        self._bases = np.cumsum([0, *(part.images for part in self._lists)])

    def __len__(self) -> int:
        return int(self._bases[-1])

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all lists, without the codebook."""
        return sum(part.nbytes for part in self._lists)

    def search(self, query: Signed) -> FloatArray:
        """(n,) float32 scores of all images."""
        scores = [np.zeros(0), *(self._sums(part, query) for part in self._lists)]
        return (np.concatenate(scores) * self._factors).astype(np.float32)

    def correspondences(self, query: Signed, most: int) -> IntArray:
        """(n,) how many matches each image has of which at most so many bits differ."""
        counts = [np.zeros(0, np.int64)]
        for part in self._lists:
            found = np.zeros(part.images, np.int64)
            for near in part.near(query, most):
                found += np.bincount(near.images, minlength=part.images)
            counts.append(found)
        return np.concatenate(counts)

    def of_image(self, ordinal: int) -> Signed:
        """The words and signatures of the features of an image, in their order."""
        segment = int(np.searchsorted(self._bases, ordinal, side="right")) - 1
        return self._lists[segment].of_image(int(ordinal - self._bases[segment]))

    def _sums(self, part: HammingLists, query: Signed) -> _Array:
        weights, options, sums = self._hamming.weights(), self._hamming.options, np.zeros(part.images)
        for near in part.near(query, self._hamming.limit(options.threshold)):
            new = (np.diff(near.rows, prepend=-1) != 0) | (np.diff(near.images, prepend=-1) != 0)
            starts = np.flatnonzero(new if options.burstiness else np.ones_like(new))
            if len(starts):
                counts = np.diff(starts, append=len(new))
                values = np.add.reduceat(weights[near.distances], starts) / np.sqrt(counts)
                values *= self._rarity[query.words[near.rows[starts]]]
                sums += np.bincount(near.images[starts], _rounded(values), minlength=part.images)
        return sums

    @cached_property
    def _rarity(self) -> _Array:
        """(W,) idf^2, of a word that all images have a little above 0; 1 for a word of no image."""
        if not self._hamming.options.idf:
            return np.ones(len(self._hamming.codebook))
        images = np.zeros(len(self._hamming.codebook), np.int64)
        for part in self._lists:
            for words, _ in part.occurrences():
                images += np.bincount(words, minlength=len(images))
        shares = np.maximum(images, 1) / max(len(self), 1)
        return _rounded(np.where(images > 0, np.maximum(np.log(shares) ** 2, LEAST_RARITY), 1.0))

    @cached_property
    def _factors(self) -> _Array:
        """(n,) by what the sums of images are multiplied; 0 for one without words."""
        totals = [np.zeros(0)]
        for part in self._lists:
            total = np.zeros(part.images)
            for words, images in part.occurrences():
                total += np.bincount(images, self._rarity[words], minlength=part.images)
            totals.append(total)
        factors = np.concatenate(totals)
        return np.divide(1.0, np.sqrt(factors), out=np.zeros_like(factors), where=factors > 0)


def _rounded(values: _Array) -> _Array:
    return np.rint(values / STEP) * STEP


def _layout(words: int, images: int, rows: int, width: int) -> Layout:
    """Where the arrays of a segment's lists lie: 22 bytes for a feature of 128 dimensions."""
    return Layout(sizes=(np.uint32, (words,)), counts=(np.uint32, (images,)), signatures=(np.uint8, (rows, width)),
                  images=(image_type(images), (rows,)), places=(np.uint32, (rows,)))


def _fill(layout: Layout, content: NDArray[np.uint8], features: NDArray[np.void], sizes: IntArray) -> None:
    """Put features, in their order, into their lists, and say where each has gone."""
    signatures, images, places = (layout.view(content, name) for name in ("signatures", "images", "places"))
    filled = np.cumsum(sizes) - sizes
    for first in range(0, len(features), ENTRIES):
        block = features[first : first + ENTRIES]
        order = np.argsort(block["word"], kind="stable")  # stable: images rise within a list
        words = block["word"][order]
        counts = np.bincount(words, minlength=len(sizes))
        at = filled[words] + np.arange(len(words)) - (np.cumsum(counts) - counts)[words]
        signatures[at], images[at], places[first + order] = block["signature"][order], block["image"][order], at
        filled += counts
