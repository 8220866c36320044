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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.errors import OptionError
from delf.index.bits import as_integers
from delf.index.lists import LEAST_RARITY, Entries, SignatureLists, blocks_of, parts, with_words, writing_lists
from delf.index.scanning import Wanted, scan_for
from delf.index.storage import ArrayFile
from delf.index.words import Codebook
from delf.pools import Pool, available_cores
from delf.settings import Options
from delf.types import Box, FloatArray, IntArray

KIND = "asmk"
LAYOUT = 2  # of files; those of before do not say it, nor where what one image has lies
COMPARED = 131072  # entries whose weights are added up at a time
SHARED_FROM = 1_000_000  # entries from which several threads search an index
STEP = 2.0**-40  # similarities are multiples of it, so that sums of thousands are exact, whatever their order
WEIGHTED_STEP = 2.0**-30  # what is weighed by idf is a multiple of it, for the same reason: weights reach hundreds
NORMALISATIONS = ("both", "database", "none")
SIGNATURES = ("signs", "medians")

_Array = NDArray[np.float64]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class AsmkOptions(Options):
    """How images are aggregated and compared.

    assignments: words to which each feature of a query is assigned; database features have their nearest word.
    alpha: the selectivity.
    threshold: tau; the similarity u of a word counts if u >= tau. (Some implementations require u > tau. That is the
        same for tau = 0, where u = 0 adds nothing, and whenever no distance gives tau.)
    idf: whether a word has the weight w = log(images / images with the word)^2, instead of 1.
    normalisation: whether scores are divided by g of "both" images, of the "database" image only, which does not change
        the order, or of "none".
    signatures: the bits of a word: "signs" of the sum of residuals, or "medians": whether the mean residual, randomly
        rotated, is above the medians of the codebook.
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


Aggregate = Entries
"""The words of some images with their signatures, each word of an image once."""


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

    def aggregate(self, descriptors: FloatArray, images: IntArray | None = None, *, assignments: int = 1,
                  words: IntArray | None = None) -> Aggregate:
        """The words and signatures of one image, or of several.

        Args:
            descriptors: (N, D) float32, finite. images: (N,) int64, the image of each descriptor; all of one by
                default. assignments: words that each descriptor is given to. words: (N,) int64, those that they are
                given to, where they are known.
        """
        if not np.isfinite(descriptors).all():
            raise ValueError("descriptors must be finite numbers")
        assigned = self.codebook.assign(descriptors, assignments) if words is None else words[:, None]
        rows = np.repeat(np.arange(len(descriptors)), assigned.shape[1])
        words = assigned.ravel()
        owners = np.zeros(len(rows), np.int64) if images is None else images[rows]
        order = np.lexsort((words, owners))  # stable: a sum goes by rows, whatever other images there are
        rows, words, owners = rows[order], words[order], owners[order]
        starts = np.flatnonzero((np.diff(words, prepend=-1) != 0) | (np.diff(owners, prepend=-1) != 0))
        if not len(starts):
            return Aggregate(owners, words, np.zeros((0, self._width), np.uint8))
        residuals = _sums(descriptors[rows] - self.codebook.words[words], starts)
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

    def build(self, images: Iterable[Codes], path: Path, words: Iterable[IntArray] | None = None) -> AsmkLists:
        """Write the lists of a segment, given the codes of each of its images in order, and open them.

        Args:
            images: (N, D) int8 each (`delf.codes`). Memory stays bounded by a block of features, or by one image.
            words: (N,) int64 each, the words of these features, where they are known; else the nearest are found.
        """
        blocks = with_words(blocks_of(images, self.codebook.dimensions), words)
        return self.write((self._aggregated(*block) for block in blocks), path)

    def write(self, blocks: Iterable[Block], path: Path) -> AsmkLists:
        """As `build`, for images that are aggregated already.

        Two passes (`delf.index.filling`).
        """
        about = {"layout": LAYOUT, "dimensions": self.codebook.dimensions, "signatures": self.options.signatures,
                 "codebook": self.codebook.fingerprint}
        with writing_lists(path, len(self.codebook), self._width) as writer:
            rows = 0
            for block in blocks:
                writer.add(block.images, block.aggregate)
                rows += block.features
            writer.write(path, KIND, {**about, "rows": rows, "entries": len(writer)})
        return self.open(path)

    def open(self, path: Path) -> AsmkLists:
        """Map the lists of a file.

        Raises:
            CollectionError: it is missing, damaged, foreign, or made with another codebook or other signatures.
        """
        file = ArrayFile.open(path, KIND)
        if "layout" in file.fields:
            file.require("layout", LAYOUT)
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

    def _aggregated(self, images: list[Codes], words: IntArray | None) -> Block:
        lengths = [len(codes) for codes in images]
        owners = np.repeat(np.arange(len(images)), lengths)
        return Block(len(images), sum(lengths), self.aggregate(decode(np.concatenate(images)), owners, words=words))


class AsmkLists(SignatureLists):
    """The inverted lists of one segment, memory-mapped. Made by `Asmk.open`.

    images, rows, entries: how many images, features and words of images there are.
    """

    def __init__(self, file: ArrayFile, words: int, width: int) -> None:
        super().__init__(file, words, width, file.integer("entries"), placed="layout" in file.fields)
        self.rows = file.integer("rows")

    def weights_of_images(self, weights: FloatArray | None) -> _Array:
        """(n,) the sum of the weights (W,) of the words of each image; reads all entries unless the weights are 1."""
        if weights is None:
            return self.counts.astype(np.float64)
        sums, stop = np.zeros(self.images), 0
        for part in parts(self.sizes, COMPARED):
            sizes = self.sizes[part].astype(np.int64)
            start, stop = stop, stop + int(sizes.sum())
            sums += np.bincount(self.known(self.owners[start:stop], self.images), np.repeat(weights[part], sizes),
                                minlength=self.images)
        return sums


class AsmkIndex:
    """The lists of several segments, searched as one: their images are numbered one after another."""

    def __init__(self, asmk: Asmk, lists: Sequence[AsmkLists], *, weights: FloatArray | None = None,
                 held: int | None = None) -> None:
        """Open an index; with `idf`, this reads which word is in which image.

        Args:
            weights: (W,) of the words, where they are those of more images than these; `word_weights` gives them.
            held: bytes of the lists that count as this process's memory at most; all that were read by default.
        """
        self._asmk, self._lists = asmk, tuple(lists)
        self._entries = sum(part.entries for part in self._lists)
        self._scan = scan_for(self._entries)
        self._held, self._read = held, 0.0
        self._pool = Pool(available_cores(), "delf-words")
        self._bases = np.cumsum([0, *(part.images for part in self._lists)])
        self._similarities = asmk.similarities()
        if weights is None and asmk.options.idf:
            weights = word_weights(images_with_words(lists, len(asmk.codebook)), len(self))
        self._weights = weights
        totals = self._of_each(lambda part: self._lists[part].weights_of_images(self._weights))
        self._factors = np.concatenate([np.zeros(0), *totals])
        if self._weights is not None:
            self._has_read(self._entries)
        np.divide(1.0, np.sqrt(self._factors), out=self._factors, where=self._factors > 0)

    def __len__(self) -> int:
        return int(self._bases[-1])

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all lists, without the codebook."""
        return sum(part.nbytes for part in self._lists)

    def search(self, descriptors: FloatArray) -> FloatArray:
        """(n,) float32 scores of all images, given the descriptors (N, D) float32 of a query."""
        return self.scores(self._asmk.query(descriptors))

    def scores(self, query: Aggregate) -> FloatArray:
        """As `search`, for a query that is aggregated already."""
        return np.concatenate([np.zeros(0, np.float32), *(scores[0] for _, scores in self._scores_of([query]))])

    def similarities(self, queries: Sequence[Aggregate]) -> Iterator[tuple[int, FloatArray]]:
        """Scores of all images for several queries, which are compared in one go.

        Yields:
            of each segment, the number of its first image, and (K, n) float32 scores.
        """
        return self._scores_of(queries)

    def stored(self, image: int) -> Aggregate:
        """The words that an image is stored with, as those of a query."""
        part = int(np.searchsorted(self._bases, image, side="right")) - 1
        return self._lists[part].of_images([image - int(self._bases[part])])

    def _scores_of(self, queries: Sequence[Aggregate]) -> Iterator[tuple[int, FloatArray]]:
        wanted, options = self._wanted(queries), self._asmk.options
        totals = np.array([len(query.words) if self._weights is None else
                           self._weights[query.words].sum(dtype=np.float64) for query in queries], np.float64)
        divisors = np.sqrt(np.where(totals > 0, totals, 1.0))[:, None]

        def scores(part: int) -> FloatArray:
            sums = self._scan(self._lists[part], wanted)
            self._has_read(int(self._lists[part].sizes[wanted.words].sum()))
            if options.normalisation != "none":
                sums *= self._factors[self._bases[part] : self._bases[part + 1]]
            if options.normalisation == "both":
                sums /= divisors
            return sums.astype(np.float32)

        return zip(self._bases.tolist(), self._of_each(scores), strict=False)

    def _wanted(self, queries: Sequence[Aggregate]) -> Wanted:
        """The words of some queries, in the order of the lists."""
        rows = np.repeat(np.arange(len(queries)), [len(query.words) for query in queries])
        words = np.concatenate([np.zeros(0, np.int64), *(query.words for query in queries)])
        signatures = np.concatenate([query.signatures for query in queries]) if queries else np.zeros((0, 1), np.uint8)
        order, tables = np.argsort(words, kind="stable"), self._similarities[None]
        rows, words = rows[order], words[order]
        if self._weights is not None:
            tables = _rounded(tables * self._weights[words, None], WEIGHTED_STEP)
        return Wanted(len(queries), rows, words, as_integers(signatures[order]), tables)

    def _has_read(self, entries: int) -> None:
        """Release pages that were read, before they are more than may be held."""
        self._read += entries * self.nbytes / max(self._entries, 1)
        if self._held is not None and self._read > self._held:
            self._read = 0.0
            for part in self._lists:
                part.release()

    def _of_each(self, work: Callable[[int], _Answer]) -> Iterable[_Answer]:
        """What some work gives for each part, in their order; large ones are worked at beside one another."""
        run = self._pool.map if self._entries >= SHARED_FROM else map
        return run(work, range(len(self._lists)))


def images_with_words(lists: Iterable[AsmkLists], words: int) -> IntArray:
    """(W,) in how many images of some lists each word is. Of several parts of a collection they are added up."""
    images = np.zeros(words, np.int64)
    for part in lists:
        images += part.sizes
    return images


def word_weights(images: IntArray, total: int) -> FloatArray:
    """(W,) log(n / images with the word)^2, of a word that all images have a little above 0; 1 for a word of no image,
    which only enters g of queries. total: n.
    """
    shares = np.maximum(images, 1) / max(total, 1)
    return np.where(images > 0, np.maximum(np.log(shares) ** 2, LEAST_RARITY), 1.0).astype(np.float32)


def _sums(rows: FloatArray, starts: IntArray) -> FloatArray:
    """(S, D) the sums of runs of rows (N, D) that begin at `starts`, to the last bit those of `np.add.reduceat`, which
    takes as long for a run of one row as for one of several. Most runs here are of one row.
    """
    counts, sums = np.diff(starts, append=len(rows)), rows[starts]
    longer = counts > 1
    if longer.any():
        begins = np.cumsum(counts[longer]) - counts[longer]
        sums[longer] = np.add.reduceat(rows[np.repeat(longer, counts)], begins, axis=0)
    return sums


def _rounded(values: Any, step: float) -> Any:
    return np.rint(values / step) * step


def region_rows(keypoints: FloatArray, boxes: Sequence[Box]) -> IntArray:
    """The rows of the features of an image: each once for the whole image, and once for each box that it lies in.

    keypoints: (N, 2) float32 in pixels; boxes in the same.
    """
    x, y = keypoints[:, 0], keypoints[:, 1]
    inside = [np.flatnonzero((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)) for x1, y1, x2, y2 in boxes]
    return np.concatenate([np.arange(len(keypoints)), *inside]).astype(np.int64)
