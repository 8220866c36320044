"""What every way of finding candidates promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.ranking import Candidates
from delf.types import Features, Matches, Verification

Mask = NDArray[np.bool_]
Alive = Any  # a mask (n,) of the images that may be found, or what says the same of images that lie elsewhere


class Retriever(ABC):
    """Finds candidates among the images of a collection, in the state that it was opened in.

    reads: the kinds of `Collection.bytes_by_kind` that it needs; None for all. learnt: whether it has learnt anything
    from the very images that it searches, which a benchmark should say. comparable: whether its scores are similarities
    from 0 to 1 that mean the same for any query and collection, so that a probability may be judged by them.
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
        """Tentative matches with an image, where the method has its own idea of them."""
        return None

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Alive) -> Candidates | None:
        """Candidates of a second look, with what verified images add to the query; None where there is none.

        found: the candidates of the first look. verified: the best of them, in their order, and what geometry says.
        """
        return None
