"""The contract of retrievers, which find candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.ranking import Candidates
from delf.types import Features, Matches, Verification

Mask = NDArray[np.bool_]
Alive = Any  # a mask (n,) of the images that may be found, or its counterpart for images on other machines


class Retriever(ABC):
    """Finds candidates among the images of a collection, in the state in which it was opened.

    reads: the kinds of `Collection.bytes_by_kind` that it needs; None for all.
    learnt: whether it has learnt anything from the images that it searches, which a benchmark should mention.
    comparable: whether its scores are similarities from 0 to 1 that mean the same for all queries and collections, so
        that they can be evidence for a probability.
    """

    reads: tuple[str, ...] | None = None
    learnt = False
    comparable = False

    @abstractmethod
    def candidates(self, query: Features, alive: Alive) -> Candidates:
        """The images that may show what a query shows, best first.

        alive: which images of the collection may be found, as `Snapshot.findable` gives it.
        """

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """Tentative matches with an image, if the method finds them in its own way; otherwise None."""
        return None

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Alive) -> Candidates | None:
        """Candidates of a second retrieval, which also uses the verified images; None if there is none.

        found: the candidates of the first retrieval. verified: the ordinals of the best of them, in their order, with
        their verifications.
        """
        return None
