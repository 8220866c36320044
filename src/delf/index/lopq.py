"""The index of the paper: cells of coarse words, divided by k-d trees, with locally optimised product quantisation.

Noh et al. (ICCV 2017, section 5) write that 40 dimensions are coded in 50 bits, 10 subvectors with 2^5 centroids each,
and that queries are not coded (asymmetric distance); that there is an inverted index with a codebook of 8K words; that
a k-d tree partitions the Voronoi cell of each word, and each subtree of fewer than 30K features has a locally optimised
product quantiser (Kalantidis and Avrithis, CVPR 2014); and that a query feature is given to five words, and up to 10K
leaves of each tree are searched. Their index was not released. What is inferred here:

- The trees belong to the quantiser and are grown from its sample, in which a feature stands for total / sample features
  of the collection; so that segments share them. Where the sample has too few features to divide a cell further, a part
  has more than 30K.
- A leaf of the paper is one feature, as it is in the k-d trees of FLANN, whose `checks` counts leaves: five words with
  10K features each and 1000 query features are 50 million codes, which a processor compares in the two seconds that
  the paper states. If leaves were parts of 30K, 10K of them would be more than any tree has. So `leaves` is a number of
  features of a segment that are compared in one tree. Leaves of the trees here, in which features lie together, have a
  few hundred; they are taken by their distance from the query until so many features have been compared.
- Cells, trees and parts are made of unit vectors by Euclidean distance. A similarity is 1 - distance^2 / 2 to what the
  code stands for.

Codes lie in the order of the leaves, packed to the bit with no gap between leaves (50 bits take 6.25 bytes), and so do
the numbers of the rows (19 bits for 300,000 features).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.errors import CollectionError, OptionError
from delf.index import kdtrees, products
from delf.index.closest import Closest
from delf.index.contract import Index, Mask, Quantiser, best, rescored
from delf.index.exact import checked
from delf.index.filling import spilling
from delf.index.kdtrees import Forest
from delf.index.packing import numbers_at, packed_bytes, put, run
from delf.index.products import Products, Reduction
from delf.index.storage import ArrayFile, ArrayWriter, InFile, Layout
from delf.settings import Options
from delf.types import FloatArray, IntArray, Neighbours

faiss: Any = _faiss
KIND = "lopq"
_SIZES = ("input", "reduced", "words", "dimensions", "nodes", "leaves", "parts", "segments", "rotations", "books")
DISTANCES = 1 << 18  # that are added up at a time: 1 MB stay in a core's own cache
BLOCK, QUERIES = 16384, 1024  # rows that are quantised, and queries that are answered, at a time
WORDS = 8192
RANGES = {"words": (1, 2**24), "segments": (1, 4096), "bits": (1, 8), "assignments": (1, 2**24), "leaves": (1, 2**48),
          "part": (1, 2**48), "leaf": (1, 2**48), "dimensions": (1, 2**16), "iterations": (1, 1000),
          "seed": (0, 2**31 - 1), "refine": (1, 1000)}


@dataclass(frozen=True)
class LopqOptions(Options):
    """How to quantise, and how far to search.

    words: words of the coarse quantiser; None takes 4 sqrt(N), at most 8192, and no more than the sample teaches.
    dimensions: d, to which a PCA of the sample reduces descriptors; None leaves them as they are.
    segments: M, a divisor of d; None takes d / 4.
    bits: bits of a segment, 1 to 8.
    part: a part with a quantiser of its own has fewer features of the collection than this.
    leaf: features that lie together in a leaf of a tree.
    assignments: words that are searched for a query feature.
    leaves: about how many features are compared in the cell of each word, at most.
    local: whether parts have axes and centroids of their own; False is plain product quantisation, along the principal
        axes.
    iterations, seed: of k-means.
    refine: if the 8-bit codes are available, they rank this many times k candidates; 1 keeps the quantised order.
    """

    words: int | None = None
    dimensions: int | None = None
    segments: int | None = None
    bits: int = 8
    part: int = 30_000
    leaf: int = 1000
    assignments: int = 32
    leaves: int = 10_000
    local: bool = True
    iterations: int = 10
    seed: int = 0
    refine: int = 4

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("words", "dimensions", "segments"):
                continue
            if type(value) is not int or not low <= value <= high:
                raise OptionError(f"The option {name} of the lopq index must be {low} to {high}, not {value}.")
        if type(self.local) is not bool:
            raise OptionError(f"The option local of the lopq index is true or false, not {self.local!r}.")


LOPQ_PAPER = LopqOptions(words=WORDS, dimensions=40, segments=10, bits=5, assignments=5)
"""Noh et al. (ICCV 2017): 50 bits for 40 dimensions, 8K words of which five are searched, parts of fewer than 30K
features, and up to 10K leaves."""


def lopq_words(options: LopqOptions, sample: int, total: int, dimensions: int) -> int:
    """How many words a sample teaches of `total` descriptors of D dimensions: those that are asked for, or what suits
    the number, so that about half of the cells have enough features of the sample for axes of their own.
    """
    enough = max(products.POINTS_PER_CENTROID, products.POINTS_PER_AXIS * (options.dimensions or dimensions))
    return options.words or max(1, min(round(4 * math.sqrt(total)), sample // enough, WORDS))


class LopqQuantiser(Quantiser):
    """Coarse words, their k-d trees, and the product quantisers of their parts.

    words: (W, d) float32, where features are after the reduction.
    """

    def __init__(self, words: FloatArray, reduction: Reduction, forest: Forest, local: Products,
                 options: LopqOptions) -> None:
        self._words, self.reduction, self.forest, self.products, self.options = words, reduction, forest, local, options
        self._coarse = _searched(words)
        digest = hashlib.sha256()
        for array in self._arrays().values():
            digest.update(str(array.shape).encode() + array.tobytes())
        self.fingerprint = digest.hexdigest()

    @classmethod
    def train(cls, sample: FloatArray, options: LopqOptions | None = None, total: int | None = None) -> Self:
        """Learn from a sample (S, D) of the unit vectors to be stored; the same sample and seed give the same.

        total: how many descriptors the collection is expected to hold, for the number of words and the size of parts;
        None means S. `CollectionError` where the sample is empty or not finite, `OptionError` where the options do not
        fit its size.
        """
        options, total = options or LopqOptions(), max(total or 0, len(sample))
        if not len(sample) or not np.isfinite(sample).all():
            raise CollectionError("A lopq index cannot be trained, as its sample of descriptors is empty or not "
                                  "finite; add photos with features, or use the exact index.")
        reduction = Reduction.learn(sample, options.dimensions)
        vectors = np.ascontiguousarray(reduction(sample), np.float32)
        segments, words = _segments(options, vectors.shape[1]), lopq_words(options, len(sample), total, sample.shape[1])
        if words > len(sample):
            raise OptionError(f"{words} words cannot be learnt from a sample of {len(sample)} descriptors; "
                              "give more photos, or leave the option words to be chosen.")
        coarse = _learnt_words(vectors, words, options)
        assigned = _searched(coarse).search(vectors, 1)[1][:, 0]
        share = len(sample) / total
        forest = kdtrees.grow(vectors, assigned, words, part=options.part * share, leaf=options.leaf * share)
        parts = forest.parts[forest.leaves(vectors, assigned)]
        owners = np.searchsorted(forest.firsts, np.flatnonzero(np.diff(forest.parts, prepend=-1)), side="right") - 1
        local = products.learn(vectors, parts, coarse[owners], segments=segments, bits=options.bits,
                               iterations=options.iterations, seed=options.seed, local=options.local)
        return cls(coarse, reduction, forest, local, options)

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.reduction.mean)

    @property
    def words(self) -> int:
        """How many coarse words there are."""
        return len(self._words)

    @property
    def segments(self) -> int:
        """M, the numbers of a code."""
        return self.products.segments

    def save(self, path: Path) -> None:
        """Write all that was learnt, and the options."""
        options = {name: value for name, value in asdict(self.options).items() if value is not None}
        sizes, arrays = {f"{name}_size": size for name, size in self._sizes().items()}, self._arrays()
        layout = _quantiser_layout(**self._sizes(), bits=self.options.bits)
        with ArrayWriter(path, f"{KIND} quantiser", options | sizes) as writer:
            content = writer.reserve(layout.nbytes)
            for name in layout:
                layout.view(content, name)[...] = arrays[name]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, comparing the hash: everything depends on it."""
        file = ArrayFile.open(path, f"{KIND} quantiser")
        file.verify()
        try:
            options = LopqOptions(**{name: file.fields[name] for name in LopqOptions.__dataclass_fields__
                                     if name in file.fields})
            sizes = {name: file.integer(f"{name}_size", minimum=0 if name in ("reduced", "nodes") else 1)
                     for name in _SIZES}
            layout = _quantiser_layout(**sizes, bits=options.bits)
        except OptionError as error:
            raise file.damaged(str(error)) from None
        width = sizes["reduced"] or sizes["input"]
        if sizes["dimensions"] != width or width % sizes["segments"] or file.integer("bytes") != layout.nbytes:
            raise file.damaged("its size is not that of its words, trees and centroids")
        content = file.bytes()
        arrays = {name: np.array(layout.view(content, name)) for name in layout}
        forest = Forest(*(arrays[name] for name in Forest.__dataclass_fields__))
        local = Products(*(arrays[name] for name in Products.__dataclass_fields__))
        if not (forest.is_sound(sizes["dimensions"]) and local.is_sound() and len(local.centres) == forest.parts[-1] + 1
                and all(np.isfinite(arrays[name]).all() for name in ("words", "mean", "reduction"))):
            raise file.damaged("it holds numbers that are not finite, or of trees and parts that it does not have")
        return cls(arrays["words"], Reduction(arrays["mean"], arrays["reduction"]), forest, local, options)

    def build(self, blocks: Iterable[Codes], path: Path) -> LopqIndex:
        """Write the lists of the codes, in two passes (`delf.index.filling`)."""
        with spilling(path, len(self.forest.parts), code=(np.uint8, (self.segments,))) as spill:
            for block in blocks:
                for start in range(0, len(checked(block, self.dimensions)), BLOCK):
                    leaves, codes = self.encode(decode(block[start : start + BLOCK]))
                    spill.add(leaves, code=codes)
            layout = _layout(self, len(spill))
            fields = {"dimensions": self.dimensions, "quantiser": self.fingerprint, "rows": len(spill)}
            with ArrayWriter(path, KIND, fields) as writer:
                content = writer.reserve(layout.nbytes)
                arrays = {name: layout.view(content, name) for name in layout}
                arrays["sizes"][:] = spill.sizes
                for some in spill.in_lists():
                    put(arrays["codes"], some.places, some.fields["code"], self.options.bits)
                    put(arrays["rows"], some.places, some.rows.astype(np.uint32)[:, None], _row_bits(len(spill)))
        return self.open(path)

    def open(self, path: Path, codes: Codes | None = None, assignments: int | None = None) -> LopqIndex:
        """Map the lists of a file.

        codes: (N, D) int8, the codes the index was built from, for refinement. assignments: other than the options say.
        """
        file = ArrayFile.open(path, KIND)
        file.require("dimensions", self.dimensions)
        file.require("quantiser", self.fingerprint)
        return LopqIndex(self, file, codes, assignments or self.options.assignments)

    def encode(self, vectors: FloatArray) -> tuple[IntArray, NDArray[np.uint8]]:
        """(N,) the leaves and (N, M) the codes of descriptors (N, D)."""
        reduced = self.reduction(vectors)
        leaves = self.forest.leaves(reduced, self.assign(reduced, 1)[:, 0])
        return leaves, self.products.encode(reduced, self.forest.parts[leaves])

    def assign(self, reduced: FloatArray, count: int) -> IntArray:
        """(N, count) the nearest words of reduced descriptors (N, d), nearest first."""
        words: IntArray = self._coarse.search(np.ascontiguousarray(reduced, np.float32), min(count, self.words))[1]
        return words

    def _sizes(self) -> dict[str, int]:
        return {"input": self.dimensions, "reduced": self.reduction.axes.shape[1], "words": self.words,
                "dimensions": self._words.shape[1], "nodes": len(self.forest.axes), "leaves": len(self.forest.parts),
                "parts": len(self.products.centres), "segments": self.segments,
                "rotations": len(self.products.rotations), "books": len(self.products.books)}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"words": self._words, "mean": self.reduction.mean, "reduction": self.reduction.axes,
                **kdtrees.arrays(self.forest), **products.arrays(self.products)}


_Visit = tuple[IntArray, int, int, int]  # queries, a part, and where the features begin and end that they meet


class LopqIndex(InFile, Index):
    """The lists of one segment, memory-mapped. Made by `LopqQuantiser.open`."""

    def __init__(self, quantiser: LopqQuantiser, file: ArrayFile, codes: Codes | None, assignments: int) -> None:
        self._quantiser, self._file, self._codes, self._assignments = quantiser, file, codes, assignments
        self._count = file.integer("rows")
        if codes is not None and codes.shape != (self._count, quantiser.dimensions):
            raise file.damaged(f"it is of {self._count} descriptors of {quantiser.dimensions} dimensions, and there "
                               f"are {codes.shape[0]} of {codes.shape[1]}")
        layout, content = _layout(quantiser, self._count), file.bytes()
        if len(content) != layout.nbytes:
            raise file.damaged("its size is not that of its rows")
        sizes, self._packed, self._rows = (np.asarray(layout.view(content, name)) for name in layout)
        if sizes.sum(dtype=np.int64) != self._count:
            raise file.damaged("the sizes of its lists do not add up")
        forest = quantiser.forest
        self._starts: IntArray = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])  # of leaves
        firsts = np.flatnonzero(np.diff(forest.parts, prepend=-1, append=forest.parts[-1] + 1))  # leaves of parts
        self._runs = self._starts[firsts]  # of parts
        self._parts = np.append(forest.parts, forest.parts[-1] + 1)[forest.firsts]  # the first one of each word

    @property
    def dimensions(self) -> int:
        """D."""
        return self._quantiser.dimensions

    def __len__(self) -> int:
        return self._count

    def _search(self, queries: FloatArray, k: int, keep: Mask | None) -> Neighbours:
        refine = self._quantiser.options.refine if self._codes is not None else 1
        reduced = self._quantiser.reduction(queries)
        found = [self._closest(reduced[start : start + QUERIES], min(k * refine, self._count), keep)
                 for start in range(0, len(queries), QUERIES)]
        ids, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        if refine > 1 and self._codes is not None:
            return rescored(queries, self._codes, ids, k)
        similarities = np.where(ids < 0, -np.inf, 1 - distances / 2)
        return best(ids, similarities.astype(np.float32), k)

    def _closest(self, queries: FloatArray, count: int, keep: Mask | None) -> tuple[IntArray, NDArray[np.float64]]:
        """(Q, count) rows, -1 for none, and their squared distances."""
        closest, local = Closest(len(queries), count), self._quantiser.products
        for who, part, start, stop in self._visits(queries):
            step = max(8, DISTANCES // len(who) // 8 * 8)
            for first in range(start, stop, step):
                last = min(first + step, stop)
                places = np.arange(first, last)
                codes = run(self._packed, first, last, local.segments, self._quantiser.options.bits)
                if keep is not None:
                    kept = keep[self._rows_at(places)]
                    places, codes = places[kept], codes[kept]
                closest.offer(who, local.distances(part, queries[who], codes), places, self._rows_at)
        return closest.found()

    def _visits(self, queries: FloatArray) -> Iterator[_Visit]:
        """Which parts of which cells a query is compared with."""
        words = self._quantiser.assign(queries, self._assignments)
        order = np.argsort(words.ravel(), kind="stable")
        asking, sorted_words = order // words.shape[1], words.ravel()[order]
        for run_of in np.split(np.arange(len(order)), np.flatnonzero(np.diff(sorted_words)) + 1):
            word, who = int(sorted_words[run_of[0]]), asking[run_of]
            first, stop = self._parts[word], self._parts[word + 1]
            if self._runs[stop] - self._runs[first] > self._quantiser.options.leaves:
                yield from self._nearest_leaves(word, who, queries)
                continue
            for part in range(first, stop):
                if self._runs[part] < self._runs[part + 1]:
                    yield who, part, int(self._runs[part]), int(self._runs[part + 1])

    def _nearest_leaves(self, word: int, who: IntArray, queries: FloatArray) -> Iterator[_Visit]:
        """Visits to a word of more features than are compared: to its leaves, while the nearer ones have fewer."""
        forest = self._quantiser.forest
        starts = self._starts[forest.firsts[word] : forest.firsts[word + 1] + 1]
        sizes = np.diff(starts)
        order = np.argsort(forest.distances(word, queries[who]), axis=1, kind="stable")
        before = np.cumsum(sizes[order], axis=1) - sizes[order]
        wanted = np.zeros(order.shape, bool)
        np.put_along_axis(wanted, order, before < self._quantiser.options.leaves, axis=1)
        for leaf in np.flatnonzero(wanted.any(axis=0) & (sizes > 0)):
            part = int(forest.parts[forest.firsts[word] + leaf])
            yield who[wanted[:, leaf]], part, int(starts[leaf]), int(starts[leaf + 1])

    def _rows_at(self, places: IntArray) -> IntArray:
        rows = numbers_at(self._rows, places, _row_bits(self._count))
        if len(rows) and rows.max() >= self._count:
            raise self._file.damaged("it names rows that it does not have")
        return rows


def _segments(options: LopqOptions, dimensions: int) -> int:
    segments = options.segments or max(1, dimensions // 4)
    if dimensions % segments:
        raise OptionError(f"The lopq index cannot cut {dimensions} dimensions into {segments} equal parts; set the "
                          "option segments to a divisor of the dimensions.")
    return segments


def _learnt_words(vectors: FloatArray, words: int, options: LopqOptions) -> FloatArray:
    kmeans = faiss.Kmeans(vectors.shape[1], words, niter=options.iterations, seed=options.seed,
                          min_points_per_centroid=1)
    kmeans.train(vectors)
    return np.array(kmeans.centroids, np.float32)


def _searched(words: FloatArray) -> Any:
    coarse = faiss.IndexFlatL2(words.shape[1])
    coarse.add(words)
    return coarse


def _row_bits(rows: int) -> int:
    return max(1, (rows - 1).bit_length())


def _layout(quantiser: LopqQuantiser, rows: int) -> Layout:
    """Where the arrays of a segment lie."""
    width = quantiser.segments * quantiser.options.bits
    return Layout(sizes=(np.uint32, (len(quantiser.forest.parts),)), codes=(np.uint8, (packed_bytes(rows, width),)),
                  rows=(np.uint8, (packed_bytes(rows, _row_bits(rows)),)))


def _quantiser_layout(bits: int, **sizes: int) -> Layout:
    """Where the arrays of a quantiser lie, given the numbers of `LopqQuantiser._sizes`."""
    size, width = sizes, sizes["dimensions"]
    return Layout(
        words=(np.float32, (size["words"], width)), mean=(np.float32, (size["input"],)),
        reduction=(np.float32, (size["input"], size["reduced"])), roots=(np.int32, (size["words"],)),
        axes=(np.int32, (size["nodes"],)), children=(np.int32, (size["nodes"], 2)),
        values=(np.float32, (size["nodes"],)), firsts=(np.int32, (size["words"] + 1,)),
        parts=(np.int32, (size["leaves"],)), centres=(np.float32, (size["parts"], width)),
        bases=(np.int32, (size["parts"],)), centroids=(np.int32, (size["parts"],)),
        rotations=(np.float32, (size["rotations"], width, width)),
        books=(np.float32, (size["books"], size["segments"], 2**bits, width // size["segments"])))
