"""Global retrieval: one descriptor for each image, compared by cosine, with query expansion (as DIR has it)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.ranking import Candidates, in_order
from delf.ranking.expansion import expand
from delf.retrieval.contract import Mask, Retriever
from delf.types import Features, FloatArray

BLOCK = 65536  # descriptors that are compared at a time


@dataclass(frozen=True)
class GlobalRetrieval:
    """Candidates by the cosine of their global descriptors.

    expansion: how many of the nearest images are added to the query, which is then compared again; 0 for none.
    alpha: see `ranking.expansion.expand`.
    """

    expansion: int = 0
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.expansion < 0 or not 0 <= self.alpha <= 100:
            raise OptionError("expansion is 0 or more images, and alpha from 0 to 100, not "
                              f"{self.expansion!r} and {self.alpha!r}")


class GlobalRetriever(Retriever):
    """Compares the global descriptor of a query with all stored ones."""

    reads = ("globals",)

    def __init__(self, collection: Collection, options: GlobalRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open a collection.

        Raises:
            CollectionError: its images have no global descriptors.
        """
        self._options = options
        self._parts = [segment.globals for segment in collection.segments]
        if any(not part.shape[1] for part in self._parts):
            raise CollectionError(f"the images of {collection.folder} have no global descriptors; index them again "
                                  "with a model that has them, or use another search method")

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images."""
        vector = query.global_descriptor
        if vector is None or not self._parts:
            return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
        images = np.flatnonzero(alive)
        found = in_order(images, self._cosines(vector)[images])
        if self._options.expansion:
            nearest = slice(0, self._options.expansion)
            vector = expand(vector, found.scores[nearest], self._vectors(found.images[nearest]),
                            alpha=self._options.alpha)
            found = in_order(images, self._cosines(vector)[images])
        return found

    def _cosines(self, vector: FloatArray) -> FloatArray:
        """(n,) of all images, removed ones too; a block of the memory-mapped descriptors is decoded at a time."""
        return np.concatenate([part[start : start + BLOCK].astype(np.float32) @ vector for part in self._parts
                               for start in range(0, len(part), BLOCK)])

    def _vectors(self, images: NDArray[np.int64]) -> FloatArray:
        """(k, G) descriptors of some images."""
        bases = np.cumsum([0, *(len(part) for part in self._parts)])
        places = np.searchsorted(bases, images, side="right") - 1
        return np.stack([self._parts[place][image - bases[place]] for place, image in
                         zip(places.tolist(), images.tolist(), strict=True)]).astype(np.float32)
