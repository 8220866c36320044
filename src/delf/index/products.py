"""Locally optimised product quantisers (Kalantidis and Avrithis, CVPR 2014): one for each part of a space.

In a part with the mean c, a vector x becomes y = R' (x - c), where the columns of R are the principal axes of the part.
They are put into M subspaces of equal size so that the products of their variances are nearly the same (Ge, He, Ke and
Sun, CVPR 2013), and each subvector of y is replaced by one of 2^b centroids.

A part has axes and centroids of its own where the sample has enough of its features to estimate them. Other parts share
those of all features around their means, as do parts with axes of their own, but too few features for centroids; these
take the shared order of axes by variance, so that subspaces mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import FloatArray, IntArray

faiss: Any = _faiss
POINTS_PER_AXIS = 2  # features for each axis that a part of its own axes has at least
POINTS_PER_CENTROID = 39  # fewer make faiss warn that a centroid is badly estimated
BLOCK = 65536  # vectors that are held in double precision at a time
CODED = 512  # vectors that are compared with centroids at a time: 34 MB for 32 segments of 8 bits
GRID = 2.0**-11  # centroids and rotated queries are multiples of it: products of them are exact

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reduction:
    """The PCA by which descriptors are reduced. mean: (D,) float32. axes: (D, d) float32; (D, 0) changes nothing."""

    mean: FloatArray
    axes: FloatArray

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """(N, D) -> (N, d) float32 unit vectors; the same ones where nothing is reduced."""
        if not self.axes.shape[1]:
            return vectors
        reduced = np.empty((len(vectors), self.axes.shape[1]), np.float32)
        for start in range(0, len(vectors), BLOCK):
            block = (vectors[start : start + BLOCK].astype(np.float64) - self.mean) @ self.axes.astype(np.float64)
            reduced[start : start + BLOCK] = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        return reduced

    @classmethod
    def learn(cls, sample: FloatArray, dimensions: int | None) -> Self:
        """Keep the axes of largest variance; `OptionError` where there are not so many."""
        if dimensions is None or dimensions == sample.shape[1]:
            return cls(np.zeros(sample.shape[1], np.float32), np.zeros((sample.shape[1], 0), np.float32))
        if dimensions > sample.shape[1]:
            raise OptionError(f"The lopq index cannot reduce {sample.shape[1]} dimensions to {dimensions}; set the "
                              "option dimensions to fewer, or leave it out.")
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        _, axes = principal_axes(sample - mean)
        return cls(mean, axes[:, :dimensions].astype(np.float32))


@dataclass(frozen=True, eq=False)
class Products:
    """The quantisers of P parts.

    centres: (P, d) float32. rotations: (R, d, d) float32, y = (x - c) @ rotation, and bases: (P,) int32, which
    each part has. books: (B, M, 2^b, d / M) float32, and centroids: (P,) int32, which each part has.
    """

    centres: FloatArray
    bases: NDArray[np.int32]
    centroids: NDArray[np.int32]
    rotations: FloatArray
    books: FloatArray

    @property
    def segments(self) -> int:
        """M."""
        return self.books.shape[1]

    def rotated(self, vectors: FloatArray, part: int) -> _Array:
        """(N, d) vectors along the axes of a part, from its mean."""
        shifted = vectors.astype(np.float64) - self.centres[part]
        return shifted @ self.rotations[self.bases[part]].astype(np.float64)

    def encode(self, vectors: FloatArray, parts: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """(N, M) the nearest centroid of each subvector of vectors (N, d), each in its part (N,)."""
        codes = np.zeros((len(vectors), self.segments), np.uint8)
        order = np.argsort(parts, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(parts[order])) + 1):
            for start in range(0, len(members), CODED):
                some = members[start : start + CODED]
                part = int(parts[some[0]])
                codes[some] = self._nearest(self.rotated(vectors[some], part), part).T
        return codes

    def decode(self, codes: NDArray[np.uint8], parts: NDArray[np.integer[Any]]) -> FloatArray:
        """(N, d) float32, what codes (N, M) stand for: centroids, rotated back."""
        subvectors = self.books[self.centroids[parts][:, None], np.arange(self.segments), codes]
        turned = np.einsum("nde,ne->nd", self.rotations[self.bases[parts]], subvectors.reshape(len(codes), -1))
        return (self.centres[parts] + turned).astype(np.float32)

    def distances(self, part: int, queries: FloatArray, codes: NDArray[np.uint8]) -> FloatArray:
        """(N, Q) squared distances between queries (Q, d) and what codes (N, M) of a part stand for.

        Queries are not coded (asymmetric distance). What is summed are multiples of `GRID`^2 below 4, which float32 has
        exactly: the result depends neither on what else is compared nor on the number of threads. Tables of distances
        to centroids would give the same sums; they are slower here, where several queries come to most parts.
        """
        rotated = (np.rint(self.rotated(queries, part) / GRID) * GRID).astype(np.float32)
        found = self._subvectors(part, codes)
        distances: FloatArray = found @ (-2 * rotated.T)
        distances += np.einsum("nd,nd->n", found, found)[:, None]
        distances += np.einsum("qd,qd->q", rotated, rotated)
        return distances

    def _subvectors(self, part: int, codes: NDArray[np.uint8]) -> FloatArray:
        """(N, d) the centroids of codes, one after another, along the axes of a part."""
        book = self.books[self.centroids[part]]
        rows = codes + np.arange(self.segments) * book.shape[1]
        return book.reshape(-1, book.shape[2]).take(rows, axis=0).reshape(len(codes), self.centres.shape[1])

    def _nearest(self, rotated: _Array, part: int) -> IntArray:
        """(M, N) which centroids are nearest."""
        book = self.books[self.centroids[part]].astype(np.float64)
        cut = rotated.reshape(len(rotated), self.segments, -1).transpose(1, 0, 2)
        near = np.matmul(cut, book.transpose(0, 2, 1))
        near -= np.square(book).sum(axis=2)[:, None] / 2
        return near.argmax(axis=2)

    def is_sound(self) -> bool:
        """Whether all numbers are of axes and centroids that there are, and finite."""
        return bool(all(np.isfinite(array).all() for array in (self.centres, self.rotations, self.books))
                    and ((self.bases >= 0) & (self.bases < len(self.rotations))).all()
                    and ((self.centroids >= 0) & (self.centroids < len(self.books))).all())


def learn(vectors: FloatArray, parts: NDArray[np.integer[Any]], empty: FloatArray, *, segments: int, bits: int,
          iterations: int, seed: int, local: bool = True) -> Products:
    """Learn the quantisers of parts from a sample (S, d) and the parts (S,) that its vectors are in.

    Args:
        empty: (P, d), the mean of a part without any.
        local: whether parts have axes and centroids of their own; False makes one product quantiser of all residuals.
    """
    counts = np.bincount(parts, minlength=len(empty))
    centres = empty.copy()
    groups = np.split(np.argsort(parts, kind="stable"), np.cumsum(counts)[:-1])
    for part in np.flatnonzero(counts):
        centres[part] = vectors[groups[part]].mean(axis=0, dtype=np.float64)
    rotated = vectors - centres[parts]  # residuals at first, and then along the axes of their parts
    has_axes = counts >= POINTS_PER_AXIS * vectors.shape[1] if local else np.zeros(len(counts), bool)
    has_centroids = has_axes & (counts >= POINTS_PER_CENTROID * 2**bits)
    shared_variances, shared = principal_axes(rotated)
    order = balanced(shared_variances, segments)
    rotations, bases = [shared[:, order]], np.zeros(len(counts), np.int32)
    for part in np.flatnonzero(has_axes):
        variances, own = principal_axes(rotated[groups[part]])
        bases[part] = len(rotations)
        rotations.append(own[:, balanced(variances, segments) if has_centroids[part] else order])
    for part in np.flatnonzero(counts):
        rotated[groups[part]] = rotated[groups[part]] @ rotations[bases[part]]
    centroids = np.where(has_centroids, np.cumsum(has_centroids), 0).astype(np.int32)
    rest = ~has_centroids[parts] | has_centroids.all()
    members = [np.flatnonzero(rest), *(groups[part] for part in np.flatnonzero(has_centroids))]
    books = [_centroids(rotated[one], segments, bits, iterations, seed) for one in members]
    return Products(centres, bases, centroids, np.stack(rotations).astype(np.float32), np.stack(books))


def principal_axes(residuals: FloatArray) -> tuple[_Array, _Array]:
    """(d,) variances of residuals (N, d), largest first, and (d, d) their axes, a column each."""
    products = np.zeros((residuals.shape[1], residuals.shape[1]))
    for start in range(0, len(residuals), BLOCK):
        block = residuals[start : start + BLOCK].astype(np.float64)
        products += np.einsum("ni,nj->ij", block, block)
    variances, axes = np.linalg.eigh(products / len(residuals))
    return variances[::-1].copy(), axes[:, ::-1].copy()


def balanced(variances: _Array, segments: int) -> IntArray:
    """(d,) which axis comes at which place, so that the products of variances in all subspaces are nearly the same.

    Each axis, of largest variance first, goes to the subspace whose product is the smallest so far, among those that
    are not full; of equal ones, to the first. Variances are divided by the smallest one, so that products only grow and
    their unit does not matter.
    """
    most = len(variances) // segments
    usable = np.maximum(variances, np.finfo(np.float32).eps * max(float(variances[0]), np.finfo(np.float64).tiny))
    logarithms = np.log(usable / usable.min())
    chosen: list[list[int]] = [[] for _ in range(segments)]
    products = np.zeros(segments)
    for axis, logarithm in enumerate(logarithms):
        open_ones = [number for number in range(segments) if len(chosen[number]) < most]
        least = min(open_ones, key=lambda number: products[number])
        chosen[least].append(axis)
        products[least] += logarithm
    return np.concatenate([np.array(one, np.int64) for one in chosen])


def _centroids(rotated: FloatArray, segments: int, bits: int, iterations: int, seed: int) -> FloatArray:
    """(M, 2^b, d / M) centroids of the subvectors of (N, d), by k-means; too few are repeated until they are enough."""
    quantiser = faiss.ProductQuantizer(rotated.shape[1], segments, bits)
    quantiser.cp.niter, quantiser.cp.seed, quantiser.cp.min_points_per_centroid = iterations, seed, 1
    enough = np.resize(rotated, (max(len(rotated), 2**bits), rotated.shape[1]))
    quantiser.train(np.ascontiguousarray(enough, np.float32))
    centroids = faiss.vector_to_array(quantiser.centroids).reshape(segments, 2**bits, -1)
    return np.asarray(np.rint(centroids / GRID) * GRID, np.float32)


def arrays(products: Products) -> dict[str, NDArray[Any]]:
    """The arrays of quantisers by name."""
    return {field.name: getattr(products, field.name) for field in fields(products)}
