"""Votes of neighbours (Noh et al., ICCV 2017, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from delf.collection import Snapshot, Stored
from delf.errors import OptionError
from delf.indexing import open_index
from delf.ranking import Candidates, count_votes
from delf.retrieval.contract import Alive, Mask, Retriever
from delf.settings import Options
from delf.types import Features, FloatArray, IntArray, Neighbours


@dataclass(frozen=True)
class VoteOptions(Options):
    """Votes of neighbours, as in the paper.

    neighbours: K, the stored features for which each query feature votes. power: see `ranking.count_votes`.
    """

    neighbours: int = 60
    power: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise OptionError("neighbours must be 1 or more")


class StoredFeatures(Protocol):
    """The stored descriptors of images, on this machine or on others."""

    def nearest(self, descriptors: FloatArray, count: int, alive: Alive) -> tuple[Neighbours, IntArray]:
        """The nearest stored features of each of Q descriptors, and (Q, count) ordinals of their images, 0 for none."""
        ...


class IndexedFeatures:
    """Descriptors on this machine, in the index of their collection."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._index = snapshot, open_index(snapshot)

    def nearest(self, descriptors: FloatArray, count: int, alive: Mask) -> tuple[Neighbours, IntArray]:
        """As `StoredFeatures` has it."""
        keep = None if alive.all() else np.repeat(alive, np.diff(self._snapshot.starts))
        neighbours = self._index.search(descriptors, count, keep)
        return neighbours, np.where(neighbours.ids >= 0, self._snapshot.images_of(neighbours.ids), 0)


class VoteSearch(Retriever):
    """Each feature of a query votes for the images of its nearest stored features."""

    reads = ("descriptors", "index")

    def __init__(self, features: StoredFeatures, options: VoteOptions) -> None:
        self._features, self._options = features, options

    def candidates(self, query: Features, alive: Alive) -> Candidates:
        """All images that got a vote."""
        neighbours, images = self._features.nearest(query.descriptors, self._options.neighbours, alive)
        return count_votes(neighbours, images, power=self._options.power)


class VoteRetriever(VoteSearch):
    """Searches a collection on this machine."""

    def __init__(self, collection: Stored, options: VoteOptions,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        super().__init__(IndexedFeatures(collection.snapshot), options)
