"""Global descriptors: candidates by the cosine of one vector for each image, as in DIR (Gordo et al., IJCV 2017)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.collection import Snapshot, Stored
from delf.errors import CollectionError, OptionError
from delf.ranking import Candidates, in_order
from delf.ranking.expansion import RerankOptions, Rows, augment, expand, rerank
from delf.retrieval.contract import Alive, Mask, Retriever
from delf.types import Features, FloatArray, IntArray

BLOCK = 32_768  # descriptors that are in memory at a time: 32 MB where they have 256 dimensions


@dataclass(frozen=True)
class GlobalRetrieval:
    """Candidates by global descriptors.

    expansion: how many of the best images join the query for a second search; 0 is off. On classes of landmarks that no
        training saw, 5 was best, and so was the default of alpha (`benchmarks/global_choice.py`).
    alpha: how much more similar images count more (`ranking.expansion.expand`).
    augmentation: by how many of its neighbours each stored descriptor is moved, with the same alpha; 0 is off. This is
        done when a collection is opened, and takes n * n comparisons: seconds for 10,000 images, minutes for 100,000.
    rerank: how the best images are ranked again; None leaves this out.
    limit: most candidates.
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


class Similarities(Protocol):
    """How similar the images that may be found are to a vector."""

    def best(self, count: int) -> Candidates:
        """The most similar so many; of equals the lower ordinal comes first."""
        ...

    def of(self, images: IntArray) -> FloatArray:
        """The scores of some images; -inf for one that may not be found."""
        ...


class PooledImages(Protocol):
    """Images as their global descriptors have them, wherever these lie. width: how long they are."""

    width: int

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def similar(self, vector: FloatArray, alive: Alive, reranked: RerankOptions | None = None) -> Similarities:
        """Their cosines with a vector; with `reranked`, the best have scores from that."""
        ...

    def rows(self, images: IntArray) -> FloatArray:
        """(N, G) the descriptors of some images."""
        ...


class Dense:
    """The scores of all images. scores: (n,) float32; -inf where one may not be found."""

    def __init__(self, scores: FloatArray) -> None:
        self.scores = scores

    def best(self, count: int) -> Candidates:
        """As `Similarities` has it."""
        images = _top(self.scores, count)
        return Candidates(images, self.scores[images])

    def of(self, images: IntArray) -> FloatArray:
        """As `Similarities` has it."""
        return self.scores[images]


class StoredImages:
    """The descriptors of images on this machine."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.width = int(rows[:0].shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, images: IntArray) -> FloatArray:
        """As `PooledImages` has it."""
        return np.asarray(self._rows[images], np.float32)

    def similar(self, vector: FloatArray, alive: Mask, reranked: RerankOptions | None = None) -> Dense:
        """As `PooledImages` has it."""
        found = np.empty(len(self._rows), np.float32)
        for start in range(0, len(found), BLOCK):
            # Not a matrix product, whose roundings depend on a row's place: equal images shall score alike.
            found[start : start + BLOCK] = np.einsum(
                "ng,g->n", np.asarray(self._rows[start : start + BLOCK], np.float32), vector)
        similarities = np.where(alive, found, -np.inf).astype(np.float32)
        return Dense(similarities if reranked is None else self._reranked(vector, similarities, reranked))

    def _reranked(self, vector: FloatArray, similarities: FloatArray, options: RerankOptions) -> FloatArray:
        best = _top(similarities, options.depth)
        anew = rerank(vector, self.rows(best), options)
        similarities[best] = -np.inf
        if len(best):  # the others stay behind, in their order
            similarities -= max(similarities.max() - anew.min() + 1e-6, 0.0)
        similarities[best] = anew
        return similarities


class GlobalSearch(Retriever):
    """Compares the global descriptor of a query with those of all images, wherever they lie."""

    reads = ("globals",)

    def __init__(self, images: PooledImages, options: GlobalRetrieval) -> None:
        self._images, self._options = images, options

    def candidates(self, query: Features, alive: Alive) -> Candidates:
        """The most similar images, with their cosines (with `rerank`, the best with scores from it)."""
        return self.best(self.scores(self.looked_up(query, alive), alive))

    def looked_up(self, query: Features, alive: Alive) -> FloatArray:
        """The vector that is searched with: that of the query, expanded by its best images."""
        vector = self.vector(query)
        if not self._options.expansion:
            return vector
        return self.expanded_by(vector, self._images.similar(vector, alive).best(self._options.expansion).images)

    def expanded_by(self, vector: FloatArray, images: Sequence[int] | IntArray) -> FloatArray:
        """A vector, moved towards given images."""
        if not len(images):
            return vector
        return expand(vector, self._images.rows(np.asarray(images, np.int64)), self._options.alpha)

    def vector(self, query: Features) -> FloatArray:
        """The global descriptor of a query.

        Raises:
            OptionError: it has none, or one of another length than those of the collection.
        """
        vector, width = query.global_descriptor, self._images.width
        if vector is None or (len(self._images) and vector.shape != (width,)):
            length = "none" if vector is None else str(len(vector))
            raise OptionError(f"the query needs a global descriptor of {width} dimensions (it has {length}): extract "
                              "its features with the model of the collection")
        return vector

    def scores(self, vector: FloatArray, alive: Alive) -> Similarities:
        """The score of each image."""
        return self._images.similar(vector, alive, self._options.rerank)

    def best(self, scores: Similarities) -> Candidates:
        """The images with the best scores, of those that may be found."""
        return scores.best(self._options.limit)


class GlobalRetriever(GlobalSearch):
    """The same of a collection on this machine, whose descriptors are compared block by block."""

    def __init__(self, collection: Stored, options: GlobalRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the descriptors of a collection, and augment them where that is asked for.

        Args:
            progress: called with (images done, images to do) while they are augmented.

        Raises:
            CollectionError: the collection has no global descriptors.
        """
        rows: Rows = stored_rows(collection.snapshot)
        if options.augmentation and len(rows):
            rows = _augmented(rows, options, collection.snapshot, progress)
        super().__init__(StoredImages(rows), options)


def stored_rows(snapshot: Snapshot) -> StoredDescriptors:
    """The global descriptors of a state of a collection.

    Raises:
        CollectionError: it has none, or not of all images.
    """
    widths = {segment.globals.shape[1] for segment in snapshot.segments}
    if widths and (len(widths) > 1 or 0 in widths):
        raise CollectionError(f"the images in {snapshot.folder} have no global descriptors, or not all of them have: "
                              "search with a method that does without, such as 'delf', or index the photos again")
    return StoredDescriptors([segment.globals for segment in snapshot.segments])


def _augmented(rows: Rows, options: GlobalRetrieval, snapshot: Snapshot,
               progress: Callable[[int, int], None]) -> Rows:
    """The descriptors, augmented, in a file that is kept as long as they are used."""
    shape, done = (len(rows), rows[:0].shape[1]), 0
    try:
        with tempfile.TemporaryFile(prefix="delf-") as file:
            for block in augment(rows, options.augmentation, options.alpha, snapshot.alive):
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
