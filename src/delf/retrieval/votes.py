"""Votes of neighbours (Noh et al., ICCV 2017, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delf.collection import Stored
from delf.errors import OptionError
from delf.indexing import open_index
from delf.ranking import Candidates, count_votes
from delf.retrieval.contract import Mask, Retriever
from delf.types import Features


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

    reads = ("descriptors", "index")

    def __init__(self, collection: Stored, options: VoteOptions,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        self._snapshot, self._options = collection.snapshot, options
        self._index = open_index(self._snapshot)

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images that got a vote."""
        keep = None if alive.all() else np.repeat(alive, np.diff(self._snapshot.starts))
        neighbours = self._index.search(query.descriptors, self._options.neighbours, keep)
        images = np.where(neighbours.ids >= 0, self._snapshot.images_of(neighbours.ids), 0)
        return count_votes(neighbours, images, power=self._options.power)
