"""Global descriptors: candidates by the cosine of one vector for each image, as in DIR (Gordo et al., IJCV 2017)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Snapshot, Stored
from delf.errors import CollectionError, OptionError
from delf.ranking import Candidates, in_order
from delf.ranking.expansion import RerankOptions, Rows, augment, expand, rerank
from delf.retrieval.contract import Mask, Retriever
from delf.types import Features, FloatArray

BLOCK = 32_768  # descriptors that are in memory at a time: 32 MB where they have 256 dimensions


@dataclass(frozen=True)
class GlobalRetrieval:
    """Candidates by global descriptors.

    expansion: how many of the best images join the query for a second search; 0 is off, and 5 was best on classes of
        landmarks that no training saw, as alpha was (`benchmarks/global_choice.py`). alpha: how much more those count
        that are more similar (`ranking.expansion.expand`).
    augmentation: by how many of its neighbours each stored descriptor is moved, with the same alpha; 0 is off. That is
        done when a collection is opened, and takes n * n comparisons: seconds for 10,000 images, minutes for 100,000.
    rerank: how the best images are ranked anew, if they are.
    limit: candidates at most.
    """

    expansion: int = 0
    alpha: float = 1.0
    augmentation: int = 0
    rerank: RerankOptions | None = None
    limit: int = 10_000

    def __post_init__(self) -> None:
        if self.expansion < 0 or self.augmentation < 0 or self.limit < 1:
            raise OptionError("expansion and augmentation are 0 or more images, and limit 1 or more, not "
                              f"{self.expansion!r}, {self.augmentation!r} and {self.limit!r}")
        if not 0 <= self.alpha <= 100:
            raise OptionError(f"alpha is a number from 0 to 100, not {self.alpha!r}")


class GlobalRetriever(Retriever):
    """Compares the global descriptor of a query with those of all images, block by block."""

    reads = ("globals",)

    def __init__(self, collection: Stored, options: GlobalRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the descriptors of a collection, and augment them where that is asked for.

        Args:
            progress: called with (images done, images to do) while they are augmented.

        Raises:
            CollectionError: the collection has no global descriptors.
        """
        self._options = options
        snapshot = collection.snapshot
        self._rows: Rows = StoredDescriptors([segment.globals for segment in snapshot.segments])
        widths = {segment.globals.shape[1] for segment in snapshot.segments}
        if widths and (len(widths) > 1 or 0 in widths):
            raise CollectionError(f"the images in {collection.folder} have no global descriptors, or not all of them "
                                  "have: search with a method that does without, such as 'delf', or index the photos "
                                  "again")
        if options.augmentation and len(self._rows):
            self._rows = self._augmented(snapshot, progress)

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """The most similar images, with their cosines (with `rerank`, the best with scores from it)."""
        return self.best(self.scores(self.looked_up(query, alive), alive))

    def looked_up(self, query: Features, alive: Mask) -> FloatArray:
        """The vector that is searched with: that of the query, expanded by its best images."""
        vector = self.vector(query)
        if not self._options.expansion:
            return vector
        return self.expanded_by(vector, _top(self._similarities(vector, alive), self._options.expansion))

    def expanded_by(self, vector: FloatArray, images: Sequence[int] | NDArray[np.int64]) -> FloatArray:
        """A vector, moved towards given images."""
        if not len(images):
            return vector
        return expand(vector, np.asarray(self._rows[np.asarray(images)], np.float32), self._options.alpha)

    def vector(self, query: Features) -> FloatArray:
        """The global descriptor of a query.

        Raises:
            OptionError: it has none, or one of another length than those of the collection.
        """
        vector, width = query.global_descriptor, self._rows[:0].shape[1]
        if vector is None or (len(self._rows) and vector.shape != (width,)):
            length = "none" if vector is None else str(len(vector))
            raise OptionError(f"the query needs a global descriptor of {width} dimensions (it has {length}): extract "
                              "its features with the model of the collection")
        return vector

    def scores(self, vector: FloatArray, alive: Mask) -> FloatArray:
        """(n,) score of each image; -inf where it is not alive."""
        similarities = self._similarities(vector, alive)
        if self._options.rerank is None:
            return similarities
        best = _top(similarities, self._options.rerank.depth)
        anew = rerank(vector, np.asarray(self._rows[best], np.float32), self._options.rerank)
        similarities[best] = -np.inf
        if len(best):  # the others stay behind, in their order
            similarities -= max(similarities.max() - anew.min() + 1e-6, 0.0)
        similarities[best] = anew
        return similarities

    def best(self, scores: FloatArray) -> Candidates:
        """The images with the best scores, of those that have one."""
        images = _top(scores, self._options.limit)
        return Candidates(images, scores[images])

    def _similarities(self, vector: FloatArray, alive: Mask) -> FloatArray:
        found = np.empty(len(self._rows), np.float32)
        for start in range(0, len(found), BLOCK):
            # Not a matrix product, whose roundings depend on a row's place: equal images shall score alike.
            found[start : start + BLOCK] = np.einsum(
                "ng,g->n", np.asarray(self._rows[start : start + BLOCK], np.float32), vector)
        return np.where(alive, found, -np.inf).astype(np.float32)

    def _augmented(self, snapshot: Snapshot, progress: Callable[[int, int], None]) -> Rows:
        """The descriptors, augmented, in a file that is kept as long as the retriever lives."""
        shape, done = (len(self._rows), self._rows[:0].shape[1]), 0
        try:
            with tempfile.TemporaryFile(prefix="delf-") as file:
                for block in augment(self._rows, self._options.augmentation, self._options.alpha, snapshot.alive):
                    file.write(block.astype(np.float16).data)
                    done += len(block)
                    progress(done, shape[0])
                file.flush()
                return np.memmap(file, np.float16, "r", shape=shape)  # it lives as long as it is mapped
        except OSError as error:
            raise CollectionError(f"there is no room in the temporary folder for the descriptors of {shape[0]:,} "
                                  f"images ({error.strerror}); make room, or search without augmentation") from error


class StoredDescriptors:
    """The global descriptors of several segments, as if they were one array; they stay on the disk."""

    def __init__(self, parts: Sequence[NDArray[np.float16]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Any) -> NDArray[np.float16]:
        """(N, G) float16 copies of the rows of a slice (without a step) or of an array of numbers."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._joined([part[max(start - first, 0) : max(stop - first, 0)]
                                 for part, first in zip(self._parts, self._starts, strict=False)])
        number = np.searchsorted(self._starts, rows, side="right") - 1
        found = self._joined([part[:0] for part in self._parts], len(rows))
        for place in np.unique(number):
            chosen = number == place
            found[chosen] = self._parts[place][rows[chosen] - self._starts[place]]
        return found

    def _joined(self, parts: list[NDArray[np.float16]], length: int = 0) -> NDArray[np.float16]:
        width = self._parts[0].shape[1] if self._parts else 0
        return np.concatenate([*parts, np.zeros((length, width), np.float16)])


def _top(scores: FloatArray, count: int) -> NDArray[np.int64]:
    """The images with the `count` best scores, best first and, of equals, the lower ordinal first."""
    images = np.flatnonzero(scores > -np.inf)
    if len(images) > count:
        last = np.partition(scores[images], len(images) - count)[len(images) - count]
        images = images[scores[images] >= last]
    return in_order(images, scores[images]).images[:count]
