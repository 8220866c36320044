"""Retrieval: the first half of a search, which finds candidate images for a query, before any geometry.

A retriever is made by its options; to add one, add a line to `RETRIEVERS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import OptionError
from delf.indexing import open_index
from delf.ranking import Candidates, count_votes
from delf.types import Features, Matches, Verification

Mask = NDArray[np.bool_]


class Retriever(ABC):
    """Finds candidates among the images of a collection, in the state that it was opened in."""

    @abstractmethod
    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """The images that may show what a query shows, best first.

        alive: (n,) which images of the collection may be found.
        """

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """Tentative matches with an image, where the method has its own idea of them."""
        return None

    def expanded(self, query: Features, verified: Sequence[tuple[int, Verification]], alive: Mask) -> Candidates | None:
        """Candidates of a second look, with what verified images add to the query; None where there is none."""
        return None


@dataclass(frozen=True)
class VoteOptions:
    """Votes of neighbours, as in the paper.

    neighbours: K, the stored features that each query feature votes for. power: see `ranking.count_votes`.
    """

    neighbours: int = 60
    power: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise OptionError("neighbours must be 1 or more")


class VoteRetriever(Retriever):
    """Each feature of a query votes for the images of its nearest stored features."""

    def __init__(self, collection: Collection, options: VoteOptions) -> None:
        self._collection, self._options = collection, options
        self._index = open_index(collection)

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images that got a vote."""
        keep = None if alive.all() else np.repeat(alive, np.diff(self._collection.starts))
        neighbours = self._index.search(query.descriptors, self._options.neighbours, keep)
        images = np.where(neighbours.ids >= 0, self._collection.images_of(neighbours.ids), 0)
        return count_votes(neighbours, images, power=self._options.power)


RETRIEVERS: dict[type, Callable[[Collection, Any], Retriever]] = {VoteOptions: VoteRetriever}
"""The retriever of each kind of options."""


def open_retriever(collection: Collection, options: Any) -> Retriever:
    """The retriever that its options ask for, on a collection."""
    return RETRIEVERS[type(options)](collection, options)
