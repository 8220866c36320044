"""ASMK*: candidates by aggregated visual words (`delf.index.asmk`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Stored
from delf.collection.segment import Segment
from delf.errors import OptionError
from delf.index.asmk import Asmk, AsmkIndex, AsmkOptions
from delf.index.hamming import HammingOptions
from delf.ranking import Candidates, SupportOptions, distinct_inliers, in_order, support, supporters
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.lists import open_lists
from delf.retrieval.word_matches import WordMatcher
from delf.retrieval.words import WordOptions, find_codebook
from delf.types import Features, Matches, Verification


@dataclass(frozen=True)
class AsmkRetrieval:
    """Candidates by ASMK*.

    asmk: how images are aggregated and compared. words: where the visual words come from. model: the model file, beside
    which they may lie; by default the packaged one of the collection's model. matching: how tentative matches are found
    by visual words and signatures; None leaves it to the descriptors. support: how much images that geometry has
    confirmed say about others; None does not ask them. held: how many bytes of lists count as memory of the process at
    most; None holds all that it has read, which the system takes back where it needs room. To let go of them costs as
    long as to look through them, or nearly.
    """

    asmk: AsmkOptions = field(default_factory=AsmkOptions)
    words: WordOptions = field(default_factory=WordOptions)
    model: Path | None = None
    matching: HammingOptions | None = None
    support: SupportOptions | None = None
    held: int | None = None

    def __post_init__(self) -> None:
        if self.held is not None and (type(self.held) is not int or self.held < 0):
            raise OptionError(f"held is a number of bytes, or none for all that was read, not {self.held!r}")


class AsmkRetriever(Retriever):
    """Scores all images by the visual words that they share with a query.

    learnt: whether the words were learnt from the images of the collection itself.

    The lists of a segment lie in its folder, and are made where they are missing, damaged, or of other images; where
    they cannot be written there, they are kept in a temporary folder as long as the retriever lives.
    """

    reads: tuple[str, ...] = ("asmk", "words")

    def __init__(self, collection: Stored, options: AsmkRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the lists of a collection.

        Args:
            progress: called with (segments done, segments to do) while lists are made.

        Raises:
            CollectionError: the codebook of the options does not fit, or there is no room for the lists.
        """
        self.learnt = False
        self._index: AsmkIndex | None = None
        self._matcher: WordMatcher | None = None
        self._support = options.support
        snapshot = collection.snapshot
        if snapshot.rows:
            found = find_codebook(snapshot, options.model, options.words)
            self.learnt = found.learnt
            self.comparable = not found.learnt and options.asmk == AsmkOptions()
            asmk = Asmk(found.codebook, options.asmk)
            lists = open_lists(asmk, snapshot.segments, lambda segment: lists_of(segment, asmk), keeper=self,
                               progress=progress)
            self._index = AsmkIndex(asmk, lists, held=options.held)
            if options.matching is not None:
                self.reads = (*self.reads, "hamming")
                self._matcher = WordMatcher(snapshot, found.codebook, options.matching, progress)

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images with a score above 0."""
        if self._index is None:
            return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
        return _ranked(self._index.search(query.descriptors), alive)

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Mask) -> Candidates | None:
        """All images, with what confirmed ones say of them added to their scores."""
        if self._index is None or self._support is None:
            return None
        if max((len(verification) for _, verification in verified), default=0) <= self._support.inliers:
            return None  # distinct inliers are no more than all
        inliers = distinct_inliers([verification for _, verification in verified])
        images, weights = supporters(found.best(len(verified)), inliers, self._support)
        if not len(images):
            return None
        scores = np.zeros(len(alive))
        found.add_to(scores)
        for first, similarities in self._index.similarities(images):
            said = support(images, weights, similarities, first)
            scores[first : first + len(said)] += self._support.gain * said
        return _ranked(scores, alive)

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """Pairs of features in one word with near signatures, where the options say so."""
        return self._matcher.matches(query, ordinal) if self._matcher is not None else None


def _ranked(scores: NDArray[np.floating[Any]], alive: Mask) -> Candidates:
    images = np.flatnonzero(alive & (scores > 0))
    return in_order(images, scores[images])


def lists_of(segment: Segment, asmk: Asmk) -> Path:
    """The file of a segment's lists: named for all that what is in it depends on."""
    kind = "" if asmk.options.signatures == "signs" else f"-{asmk.options.signatures}"
    return segment.folder / f"asmk-{asmk.codebook.fingerprint[:16]}{kind}.lists"
