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
from delf.index.bits import as_integers, ones
from delf.index.lists import LEAST_RARITY, Entries, SignatureLists, blocks_of, parts, with_words, writing_lists
from delf.index.storage import ArrayFile
from delf.index.words import Codebook
from delf.settings import Options
from delf.types import FloatArray, IntArray

KIND = "hamming"
COMPARED = 131072  # features that a query is compared with at a time: 20 MB
STEP = 2.0**-30  # all that is added up is a multiple of it, so that sums are exact, whatever their order

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class HammingOptions(Options):
    """How features are matched and images compared.

    assignments: words to which each feature of a query is assigned; database features have their nearest word.
    threshold: h_t as a share of the bits (48 of 128); a signature has one bit for each dimension of a descriptor.
    burstiness: whether all matches of one query feature with one image count together.
    idf: whether words are weighted by how rare they are.
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
        """The entries in the given rows: indices, or a boolean mask."""
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

    def signed(self, descriptors: FloatArray, assignments: int = 1, words: IntArray | None = None) -> Signed:
        """The words and signatures of descriptors (N, D) float32, which must be finite. words: (N,), where known."""
        if not np.isfinite(descriptors).all():
            raise ValueError("descriptors must be finite numbers")
        assigned = self.codebook.assign(descriptors, assignments) if words is None else words[:, None]
        features, words = np.repeat(np.arange(len(assigned)), assigned.shape[1]), assigned.ravel()
        return Signed(features, words, self.codebook.signatures(descriptors[features] - self.codebook.words[words],
                                                                words))

    def weights(self) -> _Array:
        """(B + 1,) what a match weighs whose signatures differ in so many bits."""
        distances = np.arange(self.bits + 1)
        values = np.exp(-np.square(distances / (self.bits / 4)))
        return np.where(distances <= self.limit(self.options.threshold), values, 0.0)

    def build(self, images: Iterable[Codes], path: Path, words: Iterable[IntArray] | None = None) -> HammingLists:
        """Write the lists of a segment, given the codes of each of its images in order, and open them.

        Two passes (`delf.index.filling`).

        Args:
            images: (N, D) int8 each (`delf.codes`). Memory stays bounded by a block of features, or by one image.
            words: (N,) int64 each, the words of these features, where they are known; else the nearest are found.
        """
        with writing_lists(path, len(self.codebook), self._width) as writer:
            for block, known in with_words(blocks_of(images, self.bits), words):
                owners = np.repeat(np.arange(len(block)), [len(codes) for codes in block])
                signed = self.signed(decode(np.concatenate(block)), words=known)
                writer.add(len(block), Entries(owners, signed.words, signed.signatures))
            writer.write(path, KIND, {"dimensions": self.bits, "codebook": self.codebook.fingerprint,
                                      "rows": len(writer)})
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


class HammingLists(SignatureLists):
    """The inverted lists of one segment, memory-mapped. Made by `Hamming.open`. rows: how many features there are."""

    def __init__(self, file: ArrayFile, words: int, width: int) -> None:
        super().__init__(file, words, width, file.integer("rows"))
        self.rows = self.entries

    def near(self, query: Signed, most: int) -> Iterator[Near]:
        """The features in the words of a query whose signatures differ in at most so many bits, in runs of words."""
        wanted, (starts, stops) = as_integers(query.signatures), self.bounds(query.words)
        all_sizes = stops - starts
        for part in parts(all_sizes, COMPARED):
            sizes = all_sizes[part]
            ends = np.cumsum(sizes)
            places = np.arange(ends[-1]) + np.repeat(stops[part] - ends, sizes)
            differing = self.signatures.take(places, axis=0)
            differing ^= np.repeat(wanted[part], sizes, axis=0)
            distances = ones(differing)
            close = np.flatnonzero(distances <= most)
            rows = np.repeat(np.arange(part.start, part.stop), sizes)[close]
            yield Near(rows, self.known(self.owners.take(places[close]), self.images),
                       distances[close].astype(np.int64))

    def of_image(self, position: int) -> Signed:
        """The words and signatures of the features of the image at a position of this segment, in their order."""
        found = self.of_images([position])
        return Signed(np.arange(len(found.words)), found.words, found.signatures)

    def occurrences(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Which word is in which image: words and images, each pair once, in runs of words. Reads all lists."""
        stop = 0
        for part in parts(self.sizes, COMPARED):
            words = np.repeat(np.arange(part.start, part.stop), self.sizes[part])
            start, stop = stop, stop + len(words)
            images = self.known(self.owners[start:stop], self.images)
            first = (np.diff(words, prepend=-1) != 0) | (np.diff(images, prepend=-1) != 0)
            yield words[first], images[first]


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
