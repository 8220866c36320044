"""What every index promises.

A `Quantiser` is what all segments of a collection share: it is trained once, from a sample, and makes the
index of one segment at a time. An `Index` answers for the descriptors it was built from, whose ids are their
row numbers, 0 to N-1. `Joined` searches several of them as one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes
from delf.types import FloatArray, IntArray, Neighbours

Mask = NDArray[np.bool_]


class Index(ABC):
    """N stored descriptors of D dimensions, searched by cosine."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """D."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes on disk of what a search reads, without the quantiser that segments share."""

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    def search(self, queries: FloatArray, k: int, keep: Mask | None = None) -> Neighbours:
        """The k nearest stored descriptors of each query.

        queries: (Q, D) float32, unit vectors. keep: (N,) bool, rows that are False never appear. The best
        come first and, of equally similar ones, the lower id. `ValueError` where shapes do not fit or a query
        is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimensions:
            raise ValueError(f"queries must be (Q, {self.dimensions}), not {queries.shape}")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite numbers")
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k}")
        if keep is not None and (keep.shape != (len(self),) or keep.dtype != np.bool_):
            raise ValueError(f"keep must be ({len(self)},) bool, not {keep.shape} {keep.dtype}")
        if not len(queries) or not len(self) or (keep is not None and not keep.any()):
            return nothing(len(queries), k)
        return self._search(queries, k, keep)

    @abstractmethod
    def _search(self, queries: FloatArray, k: int, keep: Mask | None) -> Neighbours:
        """`search`, with checked arguments: at least one query and one row to find."""

    def verify(self) -> None:  # noqa: B027 (an index without a file has nothing to verify)
        """Read everything that is stored and raise `CollectionError` where it is not what was written.

        Opening only looks at headers and sizes, so that it stays instant; this reads the whole file.
        """


class Quantiser(ABC):
    """What the segments of a collection share, and the maker of their indexes."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """D."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the quantiser to a file that `load` of the same class reads."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """The quantiser of a file; `CollectionError` where the file is missing, damaged or foreign."""

    @abstractmethod
    def build(self, blocks: Iterable[Codes], path: Path) -> Index:
        """Write the index of one segment, given the blocks of its codes in order, and open it.

        blocks: (n, D) int8 each (`delf.codes`); memory stays bounded by a block, whatever their number.
        """

    @abstractmethod
    def open(self, path: Path) -> Index:
        """The index in a file, memory-mapped; `CollectionError` where it is missing, damaged or foreign."""


class Joined(Index):
    """Several indexes searched as one: the ids of each start where those of the one before end."""

    def __init__(self, parts: Sequence[Index]) -> None:
        if not parts or len({part.dimensions for part in parts}) > 1:
            raise ValueError("Joined needs one or more indexes of the same dimensions")
        self._parts = tuple(parts)
        self._bases = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def dimensions(self) -> int:
        """D."""
        return self._parts[0].dimensions

    @property
    def nbytes(self) -> int:
        """The sum over the parts."""
        return sum(part.nbytes for part in self._parts)

    def __len__(self) -> int:
        return int(self._bases[-1])

    def _search(self, queries: FloatArray, k: int, keep: Mask | None) -> Neighbours:
        ids, similarities = [], []
        for part, start, stop in zip(self._parts, self._bases[:-1], self._bases[1:], strict=True):
            found = part.search(queries, k, None if keep is None else keep[start:stop])
            ids.append(np.where(found.ids < 0, -1, found.ids + start))
            similarities.append(found.similarities)
        return best(np.hstack(ids), np.hstack(similarities), k)

    def verify(self) -> None:
        """Verify every part."""
        for part in self._parts:
            part.verify()


def nothing(queries: int, k: int) -> Neighbours:
    """The answer where there is nothing to find."""
    return Neighbours(np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32))


def best(ids: IntArray, similarities: FloatArray, k: int) -> Neighbours:
    """The k best of each row of candidates, most similar first and, of equals, the lower id; padded to k.

    ids: (Q, C) int64, -1 for none. similarities: (Q, C) float32, -inf where the id is -1.
    """
    order = np.lexsort((ids, -similarities))[:, :k]
    answer = nothing(len(ids), k)
    answer.ids[:, : order.shape[1]] = np.take_along_axis(ids, order, axis=1)
    answer.similarities[:, : order.shape[1]] = np.take_along_axis(similarities, order, axis=1)
    return answer


def rescored(queries: FloatArray, codes: Codes, candidates: IntArray, k: int) -> Neighbours:
    """The k best of each query's candidates by the cosine to their 8-bit codes.

    candidates: (Q, C) int64 rows of codes, -1 for none. The cosine of a pair is summed in float64 and in one
    order, so that it does not depend on what else is searched, and duplicates are exactly equal.
    """
    similarities = np.full(candidates.shape, -np.inf, np.float32)
    for start in range(0, len(queries), 64):  # 64 queries x 240 candidates x 128 float64: 16 MB
        rows = candidates[start : start + 64]
        vectors = codes[np.maximum(rows, 0)].astype(np.float64)
        products = np.einsum("qd,qcd->qc", queries[start : start + 64].astype(np.float64), vectors)
        lengths = np.sqrt(np.einsum("qcd,qcd->qc", vectors, vectors))
        cosines = products / np.maximum(lengths, 1.0)
        similarities[start : start + 64] = np.where(rows < 0, -np.inf, cosines)
    return best(candidates, similarities, k)
