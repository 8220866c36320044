"""Visual words: the centroids of k-means over descriptors (Sivic and Zisserman, ICCV 2003).

A word is stored as 8-bit numbers and one power of two, so that 16,384 words of 128 dimensions take 2 MB; a codebook
works with just these rounded words, before it is saved as after. Beside the words it has what Hamming embedding needs
(Jégou, Douze and Schmid, ECCV 2008): a random orthogonal projection, and in each word the median of what is projected.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from delf.errors import CollectionError, OptionError
from delf.index.storage import ArrayFile, ArrayWriter
from delf.settings import Options
from delf.types import FloatArray, IntArray

faiss: Any = _faiss  # its type stubs do not know what its Python layer adds
KIND = "words"
POINTS_PER_WORD = 16  # with fewer, a word is hardly more than one of the descriptors that it was learnt from
EXACT_UP_TO = 20_000  # words; of more, the nearest are found by way of quantised distances
CELLS_FROM = 200_000  # words; of more, only those of the nearest cells are looked at
PROBES = 64  # nearest of about as many cells as the root of the number of words
# Words whose true distance is looked at then, or as many as are asked for. Never 20 or fewer: for these, faiss 1.15.1
# looks at numbers of words that it has not written yet (valgrind, `IndexRefineFlat` over `IndexPQFastScan`).
CANDIDATES = 100
BLOCK = 65536  # descriptors whose residuals are made at a time
FEW = 1000  # descriptors, fewer than which are compared with all words here: faiss takes five times as long for them
ROWS, GROUP = 256, 128  # descriptors that are compared at a time, and words of which the nearest one is taken first
ROUNDING = 1e-5  # of a product in single precision, and more
RANGES = {"words": (1, 2**24), "iterations": (1, 1000), "seed": (0, 2**31 - 1)}


@dataclass(frozen=True)
class CodebookOptions(Options):
    """How words are learnt.

    words: W, or fewer if the sample cannot teach so many: one for every 16 descriptors.
    iterations: iterations of k-means.
    seed: of k-means and of the projection.

    For more than 20,000 words, k-means finds the nearest word as `Codebook.assign` does, by quantised distances, and
    for more than 200,000 in the nearest cells (approximate k-means; Philbin et al., CVPR 2007).
    """

    words: int = 65536
    iterations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(f"The option {name} of a codebook must be {low} to {high}, not "
                                  f"{getattr(self, name)}.")

    def teachable(self, sample: int) -> int:
        """How many words are learnt from a sample of so many descriptors."""
        return max(1, min(self.words, sample // POINTS_PER_WORD))


class Codebook:
    """Visual words.

    words: (W, D) float32, near which unit descriptors lie; not of unit length themselves. medians: (W, D) float32, of
    the projected residuals in each word. projection: (D, D) float32, orthogonal. options: that it was learnt with.
    model: fingerprint of the model whose descriptors it was learnt from, "" where that is not known. fingerprint:
    SHA-256 over the numbers.
    """

    def __init__(self, words: FloatArray, medians: FloatArray | None = None, projection: FloatArray | None = None, *,
                 options: CodebookOptions | None = None, model: str = "") -> None:
        """A codebook of words from anywhere; they and the medians are rounded to what is stored.

        Args:
            medians, projection: zeros and no rotation by default, so that a signature is the signs of a residual.
        """
        dimensions = words.shape[1]
        self._words = _Rounded.of(words)
        self._medians = _Rounded.of(np.zeros_like(words) if medians is None else medians)
        self.words, self.medians = self._words.decoded(), self._medians.decoded()
        self.projection = np.eye(dimensions, dtype=np.float32) if projection is None else projection
        self.options, self.model = options or CodebookOptions(len(words)), model
        self.fingerprint = hashlib.sha256(b"".join([f"{self.words.shape}".encode(),
                                                    *(array.tobytes() for array in self._arrays())])).hexdigest()

    @classmethod
    def train(cls, sample: FloatArray, options: CodebookOptions | None = None, *, model: str = "") -> Self:
        """Learn words from a sample (S, D) of unit vectors; the same sample and options give the same words.

        k-means looks at no more than 256 descriptors a word, as in faiss.

        Raises:
            CollectionError: the sample is empty or not finite.
        """
        options = options or CodebookOptions()
        if not len(sample) or not np.isfinite(sample).all():
            raise CollectionError("Visual words cannot be learnt, as the sample of descriptors is empty or not finite; "
                                  "give photos with features.")
        dimensions, count = sample.shape[1], options.teachable(len(sample))
        sample = np.ascontiguousarray(sample, np.float32)
        kmeans = faiss.Clustering(dimensions, count)
        kmeans.niter, kmeans.seed = options.iterations, options.seed
        kmeans.min_points_per_centroid = 1  # or faiss writes to stderr
        kmeans.train(sample, faiss.IndexFlatL2(dimensions) if count <= EXACT_UP_TO
                     else _quantised_index(dimensions, count))
        plain = cls(faiss.vector_to_array(kmeans.centroids).reshape(count, dimensions))
        projection = _orthogonal(dimensions, options.seed)
        return cls(plain.words, _medians(plain, sample, projection), projection, options=options, model=model)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.words.shape[1])

    def assign(self, descriptors: FloatArray, count: int = 1, *, exact: bool | None = None) -> IntArray:
        """The nearest words of each descriptor, by Euclidean distance.

        Args:
            descriptors: (N, D) float32, finite.
            exact: whether to take the true distance to every word, by blocks of a matrix product. By default so up to
                20,000 words. Otherwise only that to 100 words, chosen by product-quantised distances of 4 bits for two
                dimensions; of more than 200,000 words, of those in the 64 nearest of as many cells as the root of their
                number: `benchmarks/visual_words.py` says what that gains and loses.

        Returns:
            (N, min(count, W)) int64, nearest first and, of equally near ones, the lower number.
        """
        descriptors = np.ascontiguousarray(descriptors, np.float32)
        if descriptors.ndim != 2 or descriptors.shape[1] != self.dimensions:
            raise ValueError(f"descriptors must be (N, {self.dimensions}), not {descriptors.shape}")
        count = min(count, len(self))
        if count < 1:
            raise ValueError("count must be 1 or more")
        if not len(descriptors):
            return np.zeros((0, count), np.int64)
        exact = len(self) <= EXACT_UP_TO if exact is None else exact
        if exact or len(self) <= max(count, CANDIDATES):
            if len(descriptors) < FEW:
                return np.concatenate([self._nearest(descriptors[start : start + ROWS], count)
                                       for start in range(0, len(descriptors), ROWS)])
            distances, words = self._exact.search(descriptors, count)
        else:
            choice = faiss.IndexRefineSearchParameters(k_factor=max(1.0, CANDIDATES / count))
            distances, words = self._quantised.search(descriptors, count, params=choice)
            lacking = (words < 0).any(axis=1)  # where the cells have fewer
            if lacking.any():
                distances[lacking], words[lacking] = self._exact.search(descriptors[lacking], count)
        if count == 1:
            return words
        return np.take_along_axis(words, np.lexsort((words, distances)), axis=1)

    def signatures(self, residuals: FloatArray, words: IntArray) -> NDArray[np.uint8]:
        """Binary signatures of residuals in their words (Hamming embedding).

        Args:
            residuals: (N, D) float32, descriptor minus word, or the mean of several. words: (N,) int64.

        Returns:
            (N, ceil(D / 8)) uint8: bit j, from the left, is whether number j of the projected residual is above its
            median in the word; the bits beyond D are 0.
        """
        return np.packbits(residuals @ self.projection.T > self.medians[words], axis=1)

    def save(self, path: Path) -> None:
        """Write all that makes up the codebook."""
        with ArrayWriter(path, KIND, {**asdict(self.options), "dimensions": self.dimensions, "size": len(self),
                                      "model": self.model}) as writer:
            for array in self._arrays():
                writer.write(array)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, comparing the hash: everything depends on it.

        Raises:
            CollectionError: the file is missing, damaged or foreign.
        """
        file = ArrayFile.open(path, KIND)
        file.verify()
        options, size = read_header(file)
        dimensions = file.integer("dimensions", minimum=1)
        if file.integer("bytes") != size * (2 * dimensions + 2) + 4 * dimensions**2:
            raise file.damaged("its size is not that of its words")
        content = file.bytes()
        projection = np.array(content[: 4 * dimensions**2]).view(np.float32).reshape(dimensions, dimensions)
        if not np.isfinite(projection).all():
            raise file.damaged("it holds numbers that are not finite")
        numbers = content[4 * dimensions**2 :].view(np.int8)
        rows = numbers[: 2 * size * dimensions].reshape(2, size, dimensions)
        exponents = numbers[2 * size * dimensions :].reshape(2, size)
        words, medians = (_Rounded(np.array(rows[part]), np.array(exponents[part])).decoded() for part in (0, 1))
        return cls(words, medians, projection, options=options, model=str(file.fields.get("model", "")))

    def _arrays(self) -> list[NDArray[Any]]:
        return [self.projection, self._words.numbers, self._medians.numbers, self._words.exponents,
                self._medians.exponents]

    def _nearest(self, descriptors: FloatArray, count: int) -> IntArray:
        """As `assign`, for as many descriptors as are compared at a time.

        In each group of words the nearest one is found; so many groups as words are wanted have words as near as the
        farthest of these, and others need not be looked at. What is left is compared in double precision.
        """
        closeness = np.empty((len(descriptors), -(-len(self) // GROUP), GROUP), np.float32)
        flat = closeness.reshape(len(descriptors), -1)
        flat[:, len(self) :] = -np.inf
        near = np.matmul(descriptors, self.words.T, out=flat[:, : len(self)])
        near -= self._halves.astype(np.float32)  # of equal descriptors, the larger the nearer
        best = closeness.max(axis=2)
        least = np.full((len(descriptors), 1), np.finfo(np.float32).min, np.float32)
        if best.shape[1] >= count:
            least = np.partition(best, -count, axis=1)[:, -count, None]
            least -= np.float32(ROUNDING) * (1 + np.abs(least))
        rows, groups = np.nonzero(best >= least)
        items, members = np.nonzero(closeness[rows, groups] >= least[rows])
        rows, words = rows[items], groups[items] * GROUP + members
        exact = np.einsum("nd,nd->n", descriptors[rows].astype(np.float64), self.words[words]) - self._halves[words]
        order = np.lexsort((words, -exact, rows))
        first = np.searchsorted(rows, np.arange(len(descriptors)))
        found: IntArray = words[order][first[:, None] + np.arange(count)]
        return found

    @cached_property
    def _halves(self) -> NDArray[np.float64]:
        """(W,) half of the squared length of each word: a descriptor is the nearer, the more its product exceeds it."""
        return np.asarray(np.square(self.words, dtype=np.float64).sum(axis=1) / 2)

    @cached_property
    def _exact(self) -> Any:
        index = faiss.IndexFlatL2(self.dimensions)
        index.add(self.words)
        return index

    @cached_property
    def _quantised(self) -> Any:
        index = _quantised_index(self.dimensions, len(self))
        index.train(self.words)
        index.add(self.words)
        return index


def read_header(file: ArrayFile) -> tuple[CodebookOptions, int]:
    """The options of a codebook's file and the number of its words, without reading these."""
    try:
        options = CodebookOptions(**{field.name: file.integer(field.name) for field in fields(CodebookOptions)})
    except OptionError as error:
        raise file.damaged(str(error)) from None
    return options, file.integer("size", minimum=1)


@dataclass(frozen=True)
class _Rounded:
    """Rows of numbers as 8-bit integers and a power of two for each row. Rounding what is rounded changes nothing.

    numbers: (W, D) int8. exponents: (W,) int8.
    """

    numbers: NDArray[np.int8]
    exponents: NDArray[np.int8]

    @classmethod
    def of(cls, rows: FloatArray) -> Self:
        """The smallest power of two by which the largest number of a row is 127 or less."""
        fractions, exponents = np.frexp(np.abs(rows).max(axis=1, initial=0.0) / np.float32(127))
        exponents = np.clip(exponents - (fractions == 0.5), -100, 100)
        numbers = np.rint(np.ldexp(np.asarray(rows, np.float32), -exponents[:, None]))
        return cls(np.clip(numbers, -127, 127).astype(np.int8), exponents.astype(np.int8))

    def decoded(self) -> FloatArray:
        """(W, D) float32."""
        return np.ldexp(self.numbers.astype(np.float32), self.exponents[:, None])


def _quantised_index(dimensions: int, words: int) -> Any:
    """An empty index for so many product-quantised vectors that are compared in registers (André, Kermarrec and Le
    Scouarnec, VLDB 2015), the best of which are compared with the vectors themselves.
    """
    parts = dimensions // 2 if dimensions % 2 == 0 else dimensions
    if words < CELLS_FROM:
        index = faiss.IndexPQFastScan(dimensions, parts, 4)
    else:
        cells = 2 ** round(math.log2(words) / 2)
        index = faiss.IndexIVFPQFastScan(faiss.IndexFlatL2(dimensions), dimensions, cells, parts, 4)
        index.nprobe = min(PROBES, cells)
        index.cp.niter, index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 4, 1, 16
    index.pq.cp.min_points_per_centroid = 1  # or faiss writes to stderr
    index = faiss.IndexRefineFlat(index)
    index.k_factor = CANDIDATES  # of k-means, which asks for one word
    return index


def _orthogonal(dimensions: int, seed: int) -> FloatArray:
    """A random rotation: the orthogonal factor of a matrix of normal numbers, its signs made unambiguous."""
    factor, triangle = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))
    return (factor * np.where(np.diag(triangle) < 0, -1.0, 1.0)).astype(np.float32)


def _medians(codebook: Codebook, sample: FloatArray, projection: FloatArray) -> FloatArray:
    """(W, D) medians of the projected residuals of the sample in each word; 0 where a word has none."""
    assigned = np.concatenate([codebook.assign(sample[start : start + BLOCK])[:, 0]
                               for start in range(0, len(sample), BLOCK)])
    order = np.argsort(assigned, kind="stable")
    bounds = np.searchsorted(assigned[order], np.arange(len(codebook) + 1))
    medians = np.zeros_like(codebook.words)
    for word in np.flatnonzero(np.diff(bounds)):
        rows = order[bounds[word] : bounds[word + 1]]
        medians[word] = np.median((sample[rows] - codebook.words[word]) @ projection.T, axis=0)
    return medians
