"""ASMK*: aggregated selective match kernels with binary signatures (Tolias, Avrithis and Jégou, ICCV 2013 and IJCV
2015), in an inverted file.

The descriptors of an image that fall into one visual word are one entry: the residuals to the word are added up, and of
the sum only the signs are kept. Two images X and Y are compared word by word,

    K(X, Y) = g(X) g(Y) sum_c w_c sigma(1 - 2 h_c / D),    sigma(u) = sign(u) |u|^alpha where u >= tau, else 0,

where h_c is the Hamming distance of their signatures in the word c and D the true number of bits: signatures are padded
to whole bytes, which does not enter. g makes up for the number of words, 1 / sqrt(sum_c w_c) over those of the image.

Descriptors of several regions of an image can be aggregated together (R-ASMK*; Teichmann et al., CVPR 2019): the sum of
the regions' residuals is the residual of all of their features, and its division by the number of regions changes no
sign. `region_rows` gives the features of an image once for each region that they lie in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from delf.types import Box, FloatArray, IntArray

KIND = "asmk"
ENTRIES = 65536  # spilled entries that are put into their lists at a time
COMPARED = 131072  # entries that a query is compared with at a time: 20 MB
STEP = 2.0**-40  # similarities are multiples of it, so that sums of thousands are exact, whatever their order
WEIGHTED_STEP = 2.0**-30  # what is weighed by idf is a multiple of it, for the same reason: weights reach hundreds
NORMALISATIONS = ("both", "database", "none")
SIGNATURES = ("signs", "medians")

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class AsmkOptions:
    """How images are aggregated and compared.

    assignments: words that each feature of a query is given to; one of the database has the nearest one.
    alpha: the selectivity. threshold: tau; the similarity u of a word counts where u >= tau. (Some implementations
    count u > tau, which is the same for tau = 0, where u = 0 adds nothing, and whenever no distance gives tau.)
    idf: whether a word weighs w = log(images / images with the word)^2, instead of 1. normalisation: g of "both"
    images, of the "database" one only, which leaves the order as it is, or "none". signatures: "signs" of the sum of
    residuals, or "medians": whether their mean, randomly rotated, is above the medians of the codebook.
    """

    assignments: int = 5
    alpha: float = 3.0
    threshold: float = 0.0
    idf: bool = False
    normalisation: str = "both"
    signatures: str = "signs"

    def __post_init__(self) -> None:
        if self.assignments < 1:
            raise OptionError("the assignments of ASMK must be 1 or more")
        if not 0 < self.alpha <= 100 or not -1 <= self.threshold <= 1:
            raise OptionError("the alpha of ASMK is above 0 and at most 100, its threshold from -1 to 1, not "
                              f"{self.alpha} and {self.threshold}")
        if self.normalisation not in NORMALISATIONS:
            raise OptionError(f"the normalisation of ASMK is {', '.join(NORMALISATIONS)}, not {self.normalisation!r}")
        if self.signatures not in SIGNATURES:
            raise OptionError(f"the signatures of ASMK are {' or '.join(SIGNATURES)}, not {self.signatures!r}")


RADENOVIC_2018 = AsmkOptions(assignments=3, threshold=0.25, idf=True, normalisation="database", signatures="medians")
"""Radenović et al. (CVPR 2018), DELF-ASMK*: of 128 bits, up to 48 may differ."""

DETECT_TO_RETRIEVE = AsmkOptions(assignments=1)
"""Teichmann et al. (CVPR 2019)."""

HOW = AsmkOptions()
"""Tolias, Jenicek and Chum (ECCV 2020); the default."""


@dataclass(frozen=True, eq=False)
class Aggregate:
    """The words of some images with their signatures, image after image and word after word.

    images, words: (E,) int64. signatures: (E, ceil(D / 8)) uint8.
    """

    images: IntArray
    words: IntArray
    signatures: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring images of a segment, and of how many features their aggregate is; its images count from 0."""

    images: int
    features: int
    aggregate: Aggregate


class Asmk:
    """ASMK* with a codebook: makes queries, and the lists of segments."""

    def __init__(self, codebook: Codebook, options: AsmkOptions | None = None) -> None:
        self.codebook, self.options = codebook, options or AsmkOptions()

    def aggregate(self, descriptors: FloatArray, images: IntArray | None = None, *, assignments: int = 1) -> Aggregate:
        """The words and signatures of one image, or of several.

        Args:
            descriptors: (N, D) float32, finite. images: (N,) int64, the image of each descriptor; all of one by
                default. assignments: words that each descriptor is given to.
        """
        if not np.isfinite(descriptors).all():
            raise ValueError("descriptors must be finite numbers")
        assigned = self.codebook.assign(descriptors, assignments)
        rows = np.repeat(np.arange(len(descriptors)), assigned.shape[1])
        words = assigned.ravel()
        owners = np.zeros(len(rows), np.int64) if images is None else images[rows]
        order = np.lexsort((words, owners))  # stable: a sum goes by rows, whatever other images there are
        rows, words, owners = rows[order], words[order], owners[order]
        starts = np.flatnonzero((np.diff(words, prepend=-1) != 0) | (np.diff(owners, prepend=-1) != 0))
        if not len(starts):
            return Aggregate(owners, words, np.zeros((0, self._width), np.uint8))
        residuals = np.add.reduceat(descriptors[rows] - self.codebook.words[words], starts, axis=0)
        kept = words[starts]
        if self.options.signatures == "signs":
            signatures = np.packbits(residuals > 0, axis=1)
        else:
            counts = np.diff(starts, append=len(rows))
            signatures = self.codebook.signatures((residuals / counts[:, None]).astype(np.float32), kept)
        return Aggregate(owners[starts], kept, signatures)

    def query(self, descriptors: FloatArray) -> Aggregate:
        """The aggregate of a query, with several words for each of its descriptors (N, D) float32."""
        return self.aggregate(descriptors, assignments=self.options.assignments)

    def build(self, images: Iterable[Codes], path: Path) -> AsmkLists:
        """Write the lists of a segment, given the codes of each of its images in order, and open them.

        images: (N, D) int8 each (`delf.codes`). Memory stays bounded by a block of features, or by one image.
        """
        return self.write(map(self._aggregated, blocks_of(images, self.codebook.dimensions)), path)

    def write(self, blocks: Iterable[Block], path: Path) -> AsmkLists:
        """As `build`, for images that are aggregated already.

        Two passes: the entries are spilled to a file beside `path` as they come, then put into their lists.
        """
        with scratch_file(path) as spilled:
            sizes, counts, rows = self._spill(blocks, spilled)
            entries = np.memmap(spilled, self._entry, "r") if sizes.any() else np.empty(0, self._entry)
            layout = _layout(len(sizes), len(counts), len(entries), self._width)
            fields = {"dimensions": self.codebook.dimensions, "codebook": self.codebook.fingerprint,
                      "signatures": self.options.signatures, "images": len(counts), "rows": rows,
                      "entries": len(entries)}
            with ArrayWriter(path, KIND, fields) as writer:
                content = writer.reserve(layout.nbytes)
                layout.view(content, "sizes")[:] = sizes
                layout.view(content, "counts")[:] = counts
                _fill(layout.view(content, "signatures"), layout.view(content, "images"), entries, sizes)
        return self.open(path)

    def open(self, path: Path) -> AsmkLists:
        """Map the lists of a file.

        Raises:
            CollectionError: it is missing, damaged, foreign, or made with another codebook or other signatures.
        """
        file = ArrayFile.open(path, KIND)
        file.require("dimensions", self.codebook.dimensions)
        file.require("codebook", self.codebook.fingerprint)
        file.require("signatures", self.options.signatures)
        return AsmkLists(file, len(self.codebook), self._width)

    def similarities(self) -> _Array:
        """(D + 1,) sigma(1 - 2 h / D) of each Hamming distance h."""
        bits = self.codebook.dimensions
        cosines = 1.0 - 2.0 * np.arange(bits + 1) / bits
        values = np.sign(cosines) * np.abs(cosines) ** self.options.alpha
        values[math.floor(bits * (1.0 - self.options.threshold) / 2.0 + 1e-9) + 1 :] = 0.0
        return _rounded(values, STEP)

    @property
    def _width(self) -> int:
        return -(-self.codebook.dimensions // 8)

    @property
    def _entry(self) -> np.dtype[np.void]:
        return np.dtype([("word", np.int32), ("image", np.uint32), ("signature", np.uint8, (self._width,))])

    def _aggregated(self, images: list[Codes]) -> Block:
        lengths = [len(codes) for codes in images]
        owners = np.repeat(np.arange(len(images)), lengths)
        return Block(len(images), sum(lengths), self.aggregate(decode(np.concatenate(images)), owners))

    def _spill(self, blocks: Iterable[Block], path: Path) -> tuple[IntArray, IntArray, int]:
        """Write the entries in the order of their images; the sizes (W,) of the lists, the entries (n,) of each image,
        and the number of features.
        """
        sizes, counts, rows, images = np.zeros(len(self.codebook), np.int64), [np.zeros(0, np.int64)], 0, 0
        with path.open("wb") as stream:
            for block in blocks:
                entries = np.zeros(len(block.aggregate.words), self._entry)
                entries["word"], entries["image"] = block.aggregate.words, images + block.aggregate.images
                entries["signature"] = block.aggregate.signatures
                stream.write(entries.data)
                sizes += np.bincount(block.aggregate.words, minlength=len(sizes))
                counts.append(np.bincount(block.aggregate.images, minlength=block.images))
                images, rows = images + block.images, rows + block.features
        return sizes, np.concatenate(counts), rows


class AsmkLists:
    """The inverted lists of one segment, memory-mapped. Made by `Asmk.open`.

    images, rows, entries: how many there are. sizes: (W,) int64, entries of each word. counts: (n,) int64, words of
    each image.
    """

    def __init__(self, file: ArrayFile, words: int, width: int) -> None:
        self._file, self._width = file, width
        self.images, self.rows, self.entries = (file.integer(name) for name in ("images", "rows", "entries"))
        layout, content = _layout(words, self.images, self.entries, width), file.bytes()
        if len(content) != layout.nbytes:
            raise file.damaged("its size is not that of its entries")
        self.sizes = layout.view(content, "sizes").astype(np.int64)
        self.counts = layout.view(content, "counts").astype(np.int64)
        if self.sizes.sum() != self.entries or self.counts.sum() != self.entries:
            raise file.damaged("the sizes of its lists do not add up")
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._images = layout.view(content, "images")
        self._signatures = as_integers(layout.view(content, "signatures"))

    @property
    def nbytes(self) -> int:
        """Bytes on disk, without the header."""
        return self._file.integer("bytes")

    def verify(self) -> None:
        """Read everything and compare it with the hash in the header; `CollectionError` where they differ."""
        self._file.verify()

    def sums(self, query: Aggregate, similarities: _Array, weights: FloatArray | None = None) -> _Array:
        """(n,) the sum over words of the similarity of each image to a query, without the factors g.

        similarities: as `Asmk.similarities`. weights: (W,), w of each word; 1 by default.
        """
        wanted = as_integers(query.signatures)
        sums = np.zeros(self.images)
        for part in parts(self.sizes[query.words], COMPARED):
            words = query.words[part]
            sizes = self.sizes[words]
            ends = np.cumsum(sizes)
            places = np.arange(ends[-1]) + np.repeat(self._starts[words] - (ends - sizes), sizes)
            images = self._checked(self._images.take(places))
            differing = self._signatures.take(places, axis=0)
            differing ^= np.repeat(wanted[part], sizes, axis=0)
            values = similarities[ones(differing)]
            if weights is not None:
                values = _rounded(values * np.repeat(weights[words], sizes), WEIGHTED_STEP)
            sums += np.bincount(images, values, minlength=self.images)
        return sums

    def of_images(self, images: IntArray) -> Aggregate:
        """The aggregate of some images, image after image and word after word; reads which image each entry is of."""
        wanted = np.zeros(self.images, np.bool_)
        wanted[images] = True
        places = np.concatenate([np.zeros(0, np.int64), *(
            start + np.flatnonzero(wanted[self._checked(self._images[start : start + COMPARED])])
            for start in range(0, self.entries, COMPARED))])
        owners = self._images[places].astype(np.int64)
        order = np.argsort(owners, kind="stable")  # entries come word after word
        words = np.searchsorted(self._starts, places, side="right") - 1
        signatures = self._signatures[places[order]].view(np.uint8)
        return Aggregate(owners[order], words[order], signatures.reshape(len(places), self._width))

    def weights_of_images(self, weights: FloatArray | None) -> _Array:
        """(n,) the sum of the weights (W,) of the words of each image; reads all entries unless the weights are 1."""
        if weights is None:
            return self.counts.astype(np.float64)
        sums = np.zeros(self.images)
        for part in parts(self.sizes, COMPARED):
            start, stop = self._starts[part.start], self._starts[part.stop - 1] + self.sizes[part.stop - 1]
            sums += np.bincount(self._checked(self._images[start:stop]), np.repeat(weights[part], self.sizes[part]),
                                minlength=self.images)
        return sums

    def _checked(self, images: NDArray[Any]) -> NDArray[Any]:
        if len(images) and images.max() >= self.images:
            raise self._file.damaged("it names images that it does not have")
        return images


class AsmkIndex:
    """The lists of several segments, searched as one: their images are numbered one after another."""

    def __init__(self, asmk: Asmk, lists: Sequence[AsmkLists]) -> None:
        """Open an index; with `idf`, this reads which word is in which image."""
        self._asmk, self._lists = asmk, tuple(lists)
        self._similarities = asmk.similarities()
        self._weights = self._idf() if asmk.options.idf else None
        totals = [part.weights_of_images(self._weights) for part in self._lists]
        self._factors = np.concatenate([np.zeros(0), *totals])
        np.divide(1.0, np.sqrt(self._factors), out=self._factors, where=self._factors > 0)

    def __len__(self) -> int:
        return len(self._factors)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all lists, without the codebook."""
        return sum(part.nbytes for part in self._lists)

    def search(self, descriptors: FloatArray) -> FloatArray:
        """(n,) float32 scores of all images, given the descriptors (N, D) float32 of a query."""
        return self.scores(self._asmk.query(descriptors))

    def scores(self, query: Aggregate) -> FloatArray:
        """As `search`, for a query that is aggregated already."""
        sums = np.concatenate([np.zeros(0), *(part.sums(query, self._similarities, self._weights)
                                              for part in self._lists)])
        if self._asmk.options.normalisation != "none":
            sums *= self._factors
        if self._asmk.options.normalisation == "both":
            total = len(query.words) if self._weights is None else float(
                self._weights[query.words].sum(dtype=np.float64))
            sums /= math.sqrt(total) if total > 0 else 1.0
        return sums.astype(np.float32)

    def similarities(self, images: IntArray) -> FloatArray:
        """(K, n) float32 scores of all images, given K of them as queries, with the words that they are stored with."""
        found = np.zeros((len(images), len(self)), np.float32)
        first = 0
        for part in self._lists:
            rows = np.flatnonzero((first <= images) & (images < first + part.images))
            stored = part.of_images(images[rows] - first)
            for row in rows.tolist():
                own = slice(*np.searchsorted(stored.images, [images[row] - first, images[row] - first + 1]))
                found[row] = self.scores(Aggregate(stored.images[own], stored.words[own], stored.signatures[own]))
            first += part.images
        return found

    def _idf(self) -> FloatArray:
        """(W,) log(n / images with the word)^2, of a word that all images have a little above 0; 1 for a word of no
        image, which only enters g of queries.
        """
        images, total = np.zeros(len(self._asmk.codebook), np.int64), sum(part.images for part in self._lists)
        for part in self._lists:
            images += part.sizes
        shares = np.maximum(images, 1) / max(total, 1)
        return np.where(images > 0, np.maximum(np.log(shares) ** 2, LEAST_RARITY), 1.0).astype(np.float32)


def _rounded(values: Any, step: float) -> Any:
    return np.rint(values / step) * step


def region_rows(keypoints: FloatArray, boxes: Sequence[Box]) -> IntArray:
    """The rows of the features of an image: each once for the whole image, and once for each box that it lies in.

    keypoints: (N, 2) float32 in pixels; boxes in the same.
    """
    x, y = keypoints[:, 0], keypoints[:, 1]
    inside = [np.flatnonzero((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)) for x1, y1, x2, y2 in boxes]
    return np.concatenate([np.arange(len(keypoints)), *inside]).astype(np.int64)


def _layout(words: int, images: int, entries: int, width: int) -> Layout:
    """Where the arrays of a segment's lists lie."""
    return Layout(sizes=(np.uint32, (words,)), counts=(np.uint32, (images,)), signatures=(np.uint8, (entries, width)),
                  images=(image_type(images), (entries,)))


def _fill(signatures: NDArray[np.uint8], images: NDArray[Any], entries: NDArray[np.void], sizes: IntArray) -> None:
    """Put the entries, in the order of their images, into their lists."""
    filled = np.cumsum(sizes) - sizes
    for first in range(0, len(entries), ENTRIES):
        block = entries[first : first + ENTRIES]
        order = np.argsort(block["word"], kind="stable")  # stable: images rise within a list
        words = block["word"][order]
        counts = np.bincount(words, minlength=len(sizes))
        places = filled[words] + np.arange(len(words)) - (np.cumsum(counts) - counts)[words]
        signatures[places], images[places] = block["signature"][order], block["image"][order]
        filled += counts
