"""Inverted lists of product-quantised residuals (IVF-PQ; Jégou, Douze and Schmid, PAMI 2011), searched by
faiss.

A descriptor x is given to its most similar coarse word c, and the residual x - c is cut into M subvectors of
which each is replaced by one of 2^bits centroids: M bits / 8 bytes. A query is compared with the descriptors
of its few most similar words, itself uncompressed (asymmetric distance).

The metric is the inner product: <q, c + r> = <q, c> + <q, r>, where <q, r> is a sum of M numbers from a table
made once a query. Euclidean distance would need a table for each word and query, or one of words x M x 2^bits
kept in memory by every segment. A similarity is the cosine up to the error of quantisation; a reconstruction
is not renormalised.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.errors import CollectionError, OptionError
from delf.index.contract import Index, Mask, Quantiser, best, rescored
from delf.index.exact import checked
from delf.index.filling import Spill, spilling
from delf.index.storage import PAGE, ArrayFile, ArrayWriter, InFile
from delf.settings import Options
from delf.types import FloatArray, IntArray, Neighbours

faiss: Any = _faiss  # its type stubs do not know what its Python layer adds
KIND = "ivfpq"
BLOCK = 65536  # rows that are quantised at a time
RANGES = {"words": (1, 2**24), "subquantizers": (1, 4096), "bits": (4, 8), "probes": (1, 2**24),
          "iterations": (1, 1000), "seed": (0, 2**31 - 1), "refine": (1, 1000)}
FINE_BELOW = 64  # dimensions, of fewer of which four are a subvector, and else eight
POINTS_PER_WORD = 39  # fewer make faiss warn that a centroid is badly estimated


@dataclass(frozen=True)
class IvfPqOptions(Options):
    """How to quantise and how far to search.

    words: of the coarse quantiser; None takes 4 sqrt(N), and no more than the sample can teach.
    subquantizers: M, a divisor of D; None takes D / 8 for 64 dimensions or more, which is 16 for 128 (by which
    votes order images as well as by twice as many: `benchmarks/CHOICES.md`), and D / 4 for fewer, which is 10
    for 40. bits: of a subquantiser, 4 to 8. probes: words searched for a query. iterations: of k-means. refine:
    where the 8-bit codes are at hand, how many times k candidates are ranked by them; 1 leaves the quantised
    order.
    """

    words: int | None = None
    subquantizers: int | None = None
    bits: int = 8
    probes: int = 32
    iterations: int = 10
    seed: int = 0
    refine: int = 4

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(f"The option {name} of the ivfpq index must be {low} to {high}, "
                                  f"not {value}.")


PAPER = IvfPqOptions(words=8192, subquantizers=10, bits=5, probes=5)
"""Noh et al. (ICCV 2017): 50 bits for 40 dimensions, 8K words of which five are searched. Their further
division of each word's cell (k-d tree and locally optimised product quantisation) is not part of this
index, but of `delf.index.lopq`."""


class IvfPqQuantiser(Quantiser):
    """Coarse words and subquantiser centroids.

    words: (W, D) float32 unit vectors. centroids: (M, 2^bits, D / M) float32.
    """

    def __init__(self, words: FloatArray, centroids: FloatArray, options: IvfPqOptions) -> None:
        self._words, self._centroids, self.options = words, centroids, options
        self.fingerprint = hashlib.sha256(words.tobytes() + centroids.tobytes()).hexdigest()

    @classmethod
    def train(cls, sample: FloatArray, options: IvfPqOptions | None = None, total: int | None = None) -> Self:
        """Learn from a sample (S, D) of the unit vectors to be stored; the same sample and seed give the same
        words.

        total: how many descriptors the collection is expected to hold, for the number of words; None means S.
        A sample of fewer than 2^bits is repeated until it is enough. `CollectionError` where the sample is
        empty or not finite, `OptionError` where the options do not fit its size.
        """
        options = options or IvfPqOptions()
        if not len(sample) or not np.isfinite(sample).all():
            raise CollectionError("An ivfpq index cannot be trained, as its sample of descriptors is empty or "
                                  "not finite; add photos with features, or use the exact index.")
        subquantizers = _subquantizers(options, sample.shape[1])
        words = teachable_words(options, len(sample), total or len(sample))
        if words > len(sample):
            raise OptionError(f"{words} words cannot be learnt from a sample of {len(sample)} descriptors; "
                              "give more photos, or leave the option words to be chosen.")
        enough = max(words, 2**options.bits)
        index = _faiss_index(sample.shape[1], words, subquantizers, options.bits)
        index.cp.niter = index.pq.cp.niter = options.iterations
        index.cp.seed = index.pq.cp.seed = options.seed
        index.cp.min_points_per_centroid = 1  # or faiss writes to stderr
        index.pq.cp.min_points_per_centroid = 1
        if len(sample) < enough:  # else no copy is made: the sample is what takes the memory
            sample = np.resize(sample, (enough, sample.shape[1]))
        index.train(np.ascontiguousarray(sample, np.float32))
        centroids = faiss.vector_to_array(index.pq.centroids)
        return cls(index.quantizer.reconstruct_n(0, words),
                   centroids.reshape(subquantizers, 2**options.bits, -1), options)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self._words.shape[1])

    @property
    def words(self) -> int:
        """How many coarse words there are."""
        return len(self._words)

    @property
    def code_size(self) -> int:
        """Bytes of a quantised descriptor, without its id (8 bytes)."""
        return math.ceil(len(self._centroids) * self.options.bits / 8)

    def save(self, path: Path) -> None:
        """Write words, centroids and options."""
        resolved = {"words": self.words, "subquantizers": len(self._centroids), "dimensions": self.dimensions}
        with ArrayWriter(path, f"{KIND} quantiser", asdict(self.options) | resolved) as writer:
            writer.write(self._words)
            writer.write(self._centroids)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, comparing the hash: the file is small and everything depends on it."""
        file = ArrayFile.open(path, f"{KIND} quantiser")
        file.verify()
        try:
            options = IvfPqOptions(**{name: file.integer(name) for name in IvfPqOptions.__dataclass_fields__})
        except OptionError as error:
            raise file.damaged(str(error)) from None
        dimensions = file.integer("dimensions", minimum=1)
        words, subquantizers = file.integer("words", minimum=1), file.integer("subquantizers", minimum=1)
        size = words * dimensions
        if dimensions % subquantizers or file.integer("bytes") != 4 * (size + 2**options.bits * dimensions):
            raise file.damaged("its size is not that of its words and centroids")
        numbers = file.bytes().view(np.float32)
        if not np.isfinite(numbers).all():
            raise file.damaged("it holds numbers that are not finite")
        shape = (subquantizers, 2**options.bits, dimensions // subquantizers)
        coarse, centroids = np.array(numbers[:size]), np.array(numbers[size:])
        return cls(coarse.reshape(words, dimensions), centroids.reshape(shape), options)

    def build(self, blocks: Iterable[Codes], path: Path) -> IvfPqIndex:
        """Write the inverted lists of the codes.

        Two passes (`delf.index.filling`) of quantised codes and their words.
        """
        with spilling(path, self.words, code=(np.uint8, (self.code_size,))) as spill:
            self._spill(blocks, spill)
            fields = {"dimensions": self.dimensions, "quantiser": self.fingerprint, "rows": len(spill)}
            with ArrayWriter(path, KIND, fields) as writer:
                writer.write(spill.sizes)
                _fill(writer.reserve(len(spill) * (self.code_size + 8)), spill, self.code_size)
        return self.open(path)

    def open(self, path: Path, codes: Codes | None = None, probes: int | None = None) -> IvfPqIndex:
        """Map the inverted lists of a file.

        codes: (N, D) int8, the codes the index was built from, for refinement. probes: other than the options
        say.
        """
        file = ArrayFile.open(path, KIND)
        file.require("dimensions", self.dimensions)
        file.require("quantiser", self.fingerprint)
        return IvfPqIndex(self, file, codes, probes or self.options.probes)

    def faiss_index(self) -> Any:
        """A trained and empty `faiss.IndexIVFPQ`."""
        index = _faiss_index(self.dimensions, self.words, len(self._centroids), self.options.bits)
        index.quantizer.add(self._words)
        faiss.copy_array_to_vector(self._centroids.ravel(), index.pq.centroids)
        index.is_trained = True
        return index

    def _spill(self, blocks: Iterable[Codes], spill: Spill) -> None:
        """Add the quantised codes, in the order of their rows."""
        index = self.faiss_index()
        for block in blocks:
            for start in range(0, len(checked(block, self.dimensions)), BLOCK):
                vectors = decode(block[start : start + BLOCK])
                words = index.quantizer.assign(vectors, 1).ravel()
                spill.add(words, code=_quantised(index, vectors, words))


class IvfPqIndex(InFile, Index):
    """The inverted lists of one segment, memory-mapped. Made by `IvfPqQuantiser.open`."""

    def __init__(self, quantiser: IvfPqQuantiser, file: ArrayFile, codes: Codes | None, probes: int) -> None:
        self._file, self._codes = file, codes
        self._rows = file.integer("rows")
        self._probes = min(probes, quantiser.words)
        self._refine = quantiser.options.refine if codes is not None else 1
        self._dimensions = quantiser.dimensions
        if codes is not None and codes.shape != (self._rows, self._dimensions):
            raise file.damaged(f"it is of {self._rows} descriptors of {self._dimensions} dimensions, and there are "
                               f"{codes.shape[0]} of {codes.shape[1]}")
        self._lists = _mapped_lists(file, quantiser.words, quantiser.code_size, self._rows)
        self._index = quantiser.faiss_index()
        self._index.replace_invlists(self._lists, False)
        self._index.ntotal = self._rows

    @property
    def dimensions(self) -> int:
        """D."""
        return self._dimensions

    def __len__(self) -> int:
        return self._rows

    def _search(self, queries: FloatArray, k: int, keep: Mask | None) -> Neighbours:
        bitmap = None if keep is None else faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
        options = faiss.SearchParametersIVF(nprobe=self._probes, sel=bitmap)
        similarities, ids = self._index.search(queries, min(k * self._refine, self._rows), params=options)
        if ids.max() >= self._rows or ids.min() < -1:
            raise self._file.damaged("it names rows that it does not have")
        if self._refine > 1 and self._codes is not None:
            return rescored(queries, self._codes, ids, k)
        similarities[ids < 0] = -np.inf
        return best(ids, similarities, k)


def _subquantizers(options: IvfPqOptions, dimensions: int) -> int:
    coarse = dimensions >= FINE_BELOW and dimensions % 8 == 0
    subquantizers = options.subquantizers or max(1, dimensions // (8 if coarse else 4))
    if dimensions % subquantizers:
        raise OptionError(f"The ivfpq index cannot cut {dimensions} dimensions into {subquantizers} equal "
                          "parts; set the option subquantizers to a divisor of the dimensions.")
    return subquantizers


def teachable_words(options: IvfPqOptions, sample: int, total: int) -> int:
    """How many words a sample teaches of `total` descriptors: those that are asked for, or what suits the number."""
    return options.words or max(1, min(round(4 * math.sqrt(total)), sample // POINTS_PER_WORD))


def _faiss_index(dimensions: int, words: int, subquantizers: int, bits: int) -> Any:
    coarse = faiss.IndexFlatIP(dimensions)
    return faiss.IndexIVFPQ(coarse, dimensions, words, subquantizers, bits, faiss.METRIC_INNER_PRODUCT)


def _quantised(index: Any, vectors: FloatArray, words: IntArray) -> NDArray[np.uint8]:
    codes = np.empty((len(vectors), index.code_size), np.uint8)
    index.encode_vectors(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(words), faiss.swig_ptr(codes))
    return codes


def _list_starts(sizes: IntArray, entry: int) -> IntArray:
    """Where each list starts, in bytes: a list is its codes and then its ids, as faiss reads them."""
    return (np.cumsum(sizes) - sizes) * entry


def _fill(content: NDArray[np.uint8], spill: Spill, code_size: int) -> None:
    """Put the codes and the numbers of their rows into their lists in `content`."""
    sizes = spill.sizes
    starts, firsts = _list_starts(sizes, code_size + 8), np.cumsum(sizes) - sizes
    for block in spill.in_lists():
        words, place = block.words, block.places - firsts[block.words]
        content[(starts[words] + place * code_size)[:, None] + np.arange(code_size)] = block.fields["code"]
        ids = block.rows.astype(np.int64)[:, None].view(np.uint8)
        content[(starts[words] + sizes[words] * code_size + place * 8)[:, None] + np.arange(8)] = ids


def _mapped_lists(file: ArrayFile, words: int, code_size: int, rows: int) -> Any:
    """The lists of a file as `faiss.OnDiskInvertedLists`; `CollectionError` where their sizes do not add up.

    faiss is told where each list lies rather than given a file to parse, so that no content can lead it
    astray.
    """
    content, table = file.bytes(), words * 8
    if len(content) != table + rows * (code_size + 8):
        raise file.damaged("its size is not that of its rows")
    sizes = np.array(content[:table]).view(np.int64)
    if sizes.min() < 0 or sizes.max() > rows or sizes.sum() != rows:
        raise file.damaged("the sizes of its lists do not add up")
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.read_only, lists.prefetch_nthread = words, code_size, True, 0
    lists.filename, lists.totsize = str(file.path), len(content) + PAGE
    lists.lists.resize(words)
    offsets = lists.totsize - len(content) + table + _list_starts(sizes, code_size + 8)
    places = np.column_stack([sizes, sizes, offsets])  # size, capacity, offset: faiss.OnDiskOneList
    faiss.memcpy(lists.lists.data(), faiss.swig_ptr(places), places.nbytes)
    if rows:  # an empty table of lists has nothing to map
        try:
            lists.do_mmap()
        except RuntimeError:
            raise file.damaged("it cannot be mapped") from None
    return lists
