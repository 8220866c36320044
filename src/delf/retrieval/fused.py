"""Local and global descriptors together: the last rows of the paper's table (DELF+DIR+QE)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from delf.collection import Stored
from delf.errors import OptionError
from delf.ranking import CHANCE, Candidates
from delf.ranking.fusion import in_turns
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.contract import Alive, Retriever
from delf.retrieval.descriptors import GlobalRetrieval, GlobalRetriever, GlobalSearch
from delf.retrieval.votes import VoteOptions, VoteRetriever
from delf.types import Features, FloatArray, IntArray, Matches, Verification

EXPANSIONS = ("nearest", "verified")


@dataclass(frozen=True)
class FusedRetrieval:
    """Candidates by local features and by global descriptors.

    local: the retrieval by local features, `VoteOptions` as in the paper or `AsmkRetrieval`.
    pooled: how global descriptors are compared.
    expansion: the images that expand the query: the "nearest" ones, as in the paper, or those that geometry has
        "verified", after which all images are searched a second time. On classes that no training saw, more verified
        images with the same weight were better (`benchmarks/global_choice.py`).
    """

    local: VoteOptions | AsmkRetrieval = field(default_factory=VoteOptions)
    pooled: GlobalRetrieval = field(default_factory=lambda: GlobalRetrieval(expansion=12, alpha=0.0))
    expansion: str = "verified"

    def __post_init__(self) -> None:
        if self.expansion not in EXPANSIONS:
            raise OptionError(f"the expansion is by images that are {' or '.join(EXPANSIONS)}, not {self.expansion!r}")


class FusedSearch(Retriever):
    """The candidates of two retrievers in turns, so that the first N, which are verified, have the best of both.

    Their scores are those of the global descriptors alone; `ranking.fusion.fused` adds the inliers.
    """

    def __init__(self, local: Retriever, pooled: GlobalSearch, options: FusedRetrieval) -> None:
        self._local, self._pooled, self._options = local, pooled, options
        self.reads = (*(local.reads or ()), *GlobalSearch.reads)
        self.learnt = local.learnt

    def candidates(self, query: Features, alive: Alive) -> Candidates:
        """The images of both retrievers, in turns, with the scores of their global descriptors."""
        if self._options.expansion == "verified":
            vector = self._pooled.vector(query)
        else:
            vector = self._pooled.looked_up(query, alive)
        return self._joined(self._local.candidates(query, alive).images, vector, alive)

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """The matches of the local retriever."""
        return self._local.matches(query, ordinal)

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Alive) -> Candidates | None:
        """Candidates of the query expanded by the images with the most inliers, more than chance gives; or None."""
        order = sorted(verified, key=lambda one: (-len(one[1]), one[0]))
        sure = [ordinal for ordinal, one in order if len(one) > CHANCE][: self._options.pooled.expansion]
        if self._options.expansion != "verified" or not sure:
            return None
        vector = self._pooled.expanded_by(self._pooled.vector(query), sure)
        return self._joined(np.array([ordinal for ordinal, _ in order]), vector, alive)

    def _joined(self, images: IntArray, vector: FloatArray, alive: Alive) -> Candidates:
        scores = self._pooled.scores(vector, alive)
        joined = in_turns(images, self._pooled.best(scores).images)
        return Candidates(joined, scores.of(joined))


class FusedRetriever(FusedSearch):
    """Searches a collection on this machine."""

    def __init__(self, collection: Stored, options: FusedRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        snapshot = collection.snapshot
        pooled = GlobalRetriever(snapshot, options.pooled, progress)
        local: Retriever
        if isinstance(options.local, VoteOptions):
            local = VoteRetriever(snapshot, options.local, progress)
        else:
            local = AsmkRetriever(snapshot, options.local, progress)
        super().__init__(local, pooled, options)
