"""Exact search: every query against every stored 8-bit code.

One matrix product of a block of queries and a block of decoded codes at a time. The product is nearly all the
work (2 Q N D operations); what keeps the selection cheap beside it is the threshold: once k candidates of a
query are known, only scores above the worst of them are looked at, one in many thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from delf.codes import Codes, decode
from delf.index.contract import Index, Mask, Quantiser, nothing, rescored
from delf.index.storage import ArrayFile, ArrayWriter
from delf.types import FloatArray, IntArray, Neighbours

QUERIES, ROWS = 1024, 4096  # of one matrix product at most
SCORES = 1 << 19  # of one matrix product: 2 MB stay in a core's own cache, where they are looked through
MARGIN = 8  # candidates beyond k, for those whose order the rounding of the matrix product may swap
KIND = "exact"


class ExactIndex(Index):
    """Stored codes, searched by brute force.

    codes: (N, D) int8, usually memory-mapped. Nothing is decoded ahead: a search takes about 35 MB besides
    the codes, at any N.
    """

    def __init__(self, codes: Codes, file: ArrayFile | None = None) -> None:
        if codes.ndim != 2 or codes.dtype != np.int8:
            raise ValueError(f"codes must be (N, D) int8, not {codes.shape} {codes.dtype}")
        self._codes = codes
        self._file = file

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self._codes.shape[1])

    @property
    def nbytes(self) -> int:
        """N D: one byte per number."""
        return self._codes.nbytes

    def __len__(self) -> int:
        return len(self._codes)

    def verify(self) -> None:
        """Compare the file with the hash in its header; codes that came without a file have none."""
        if self._file is not None:
            self._file.verify()

    def _search(self, queries: FloatArray, k: int, keep: Mask | None) -> Neighbours:
        answer = nothing(len(queries), k)
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            candidates = self._candidates(queries[part], min(k, len(self)) + MARGIN, keep)
            found = rescored(queries[part], self._codes, candidates, k)
            answer.ids[part], answer.similarities[part] = found.ids, found.similarities
        return answer

    def _candidates(self, queries: FloatArray, count: int, keep: Mask | None) -> IntArray:
        shortlist = Shortlist(len(queries), count)
        height = min(ROWS, SCORES // len(queries))
        scores = np.empty((len(queries), height), np.float32)  # kept: new memory costs page faults
        for rows, vectors in self._decoded(min(4 * count, height), height, keep):
            shortlist.offer(np.matmul(queries, vectors.T, out=scores[:, : len(rows)]), rows)
        return shortlist.ids()

    def _decoded(self, first: int, height: int, keep: Mask | None) -> Iterator[tuple[IntArray, FloatArray]]:
        """The rows to search and their vectors, `height` at a time; first only `first`, as nothing can be cut from
        them.
        """
        start = 0
        while start < len(self):
            stop = start + (height if start else first)
            codes = self._codes[start:stop]
            rows = np.arange(start, start + len(codes))
            if keep is not None:
                codes, rows = codes[keep[start:stop]], rows[keep[start:stop]]
            if len(rows):
                yield rows, decode(codes)
            start = stop


class Shortlist:
    """The best `count` candidates of each query so far, found in one pass over blocks of scores.

    Scores above a query's threshold (the worst that it keeps) are put aside, and sorted in when there are
    many.
    """

    def __init__(self, queries: int, count: int) -> None:
        self._ids = np.full((queries, count), -1, np.int64)
        self._scores = np.full((queries, count), -np.inf, np.float32)
        self._pending: list[tuple[NDArray[np.intp], IntArray, FloatArray]] = []
        self._waiting = 0

    def offer(self, scores: FloatArray, rows: IntArray) -> None:
        """Take what is good enough of scores (Q, B) of the given rows (B,), which rise from call to call."""
        # A later row must beat the threshold, not equal it: of equals the lower id is kept.
        hits = np.flatnonzero(scores > self._scores[:, -1:])
        if len(hits):
            queries, columns = np.divmod(hits, len(rows))
            self._pending.append((queries, rows[columns], scores[queries, columns]))
            self._waiting += len(hits)
        if 2 * self._waiting > self._ids.size:
            self._settle()

    def ids(self) -> IntArray:
        """(Q, count) rows, best first, -1 where there are fewer."""
        self._settle()
        return self._ids

    def _settle(self) -> None:
        """Sort the scores put aside into the kept ones."""
        if not self._pending:
            return
        queries, rows, scores = (np.concatenate(part) for part in zip(*self._pending, strict=True))
        order = np.lexsort((-scores, queries))  # stable: of equals the lower row, as rows rise within a query
        queries, rows, scores = queries[order], rows[order], scores[order]
        counts = np.bincount(queries, minlength=len(self._ids))
        slot = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
        # No more than count of each query: one whose similarities rise with the rows has thousands.
        count = self._ids.shape[1]
        best = slot < count
        queries, rows, scores, slot = queries[best], rows[best], scores[best], slot[best]
        ids = np.pad(self._ids, ((0, 0), (0, slot.max() + 1)), constant_values=-1)
        values = np.pad(self._scores, ((0, 0), (0, slot.max() + 1)), constant_values=-np.inf)
        ids[queries, count + slot], values[queries, count + slot] = rows, scores
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]  # stable: of equals the lower id
        self._ids = np.take_along_axis(ids, order, axis=1)
        self._scores = np.take_along_axis(values, order, axis=1)
        self._pending, self._waiting = [], 0


class Unquantised(Quantiser):
    """The quantiser of exact search: there is nothing to learn, segments share only the number of
    dimensions.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    @classmethod
    def train(cls, sample: FloatArray) -> Self:
        """Learn nothing from the sample (S, D) but D."""
        return cls(sample.shape[1])

    @property
    def dimensions(self) -> int:
        """D."""
        return self._dimensions

    def save(self, path: Path) -> None:
        """Write the number of dimensions."""
        with ArrayWriter(path, f"{KIND} quantiser", {"dimensions": self._dimensions}):
            pass

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(ArrayFile.open(path, f"{KIND} quantiser").integer("dimensions", minimum=1))

    def build(self, blocks: Iterable[Codes], path: Path) -> ExactIndex:
        """Write the codes to a file."""
        with ArrayWriter(path, KIND, {"dimensions": self._dimensions}) as writer:
            for block in blocks:
                writer.write(checked(block, self._dimensions))
        return self.open(path)

    def open(self, path: Path) -> ExactIndex:
        """Map the codes of a file."""
        file = ArrayFile.open(path, KIND)
        file.require("dimensions", self._dimensions)
        return ExactIndex(file.array(np.int8, self._dimensions), file)


def checked(block: Codes, dimensions: int) -> Codes:
    """The block, if it is (n, D) int8; `ValueError` otherwise."""
    if block.ndim != 2 or block.shape[1] != dimensions or block.dtype != np.int8:
        raise ValueError(f"code blocks must be (n, {dimensions}) int8, not {block.shape} {block.dtype}")
    return block
