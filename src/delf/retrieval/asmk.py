"""ASMK*: candidates by aggregated visual words (`delf.index.asmk`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.collection import Snapshot, Stored
from delf.collection.segment import Segment
from delf.errors import OptionError
from delf.index.asmk import Aggregate, Asmk, AsmkIndex, AsmkLists, AsmkOptions
from delf.index.hamming import HammingOptions
from delf.ranking import Candidates, SupportOptions, distinct_inliers, in_order, support, supporters
from delf.retrieval.contract import Alive, Mask, Retriever
from delf.retrieval.lists import open_lists
from delf.retrieval.word_matches import WordMatcher
from delf.retrieval.words import WordOptions, find_codebook
from delf.types import Features, IntArray, Matches, Verification


@dataclass(frozen=True)
class AsmkRetrieval:
    """Candidates by ASMK*.

    asmk: how images are aggregated and compared.
    words: where the visual words come from.
    model: the model file, beside which they may lie; by default that of the collection's packaged model.
    matching: how tentative matches are found by visual words and signatures; None matches by descriptors.
    support: how much confirmed images raise images that resemble them; None leaves this out.
    held: most bytes of lists that count as memory of the process. None holds all pages that were read, which the system
        takes back when it needs room. Releasing pages takes nearly as long as scanning them.
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


@dataclass(frozen=True, eq=False)
class Said:
    """The support of confirmed images for the others (`delf.ranking.support`).

    aggregates: the stored words of K confirmed images. images: (K,) their ordinals. weights: (K,) how far each is
    believed, above 0 and up to 1. gain: the factor of the support in a score.
    """

    aggregates: Sequence[Aggregate]
    images: IntArray
    weights: NDArray[np.float64]
    gain: float

    def supported(self, found: Candidates, index: AsmkIndex, alive: Mask, base: int = 0) -> Candidates:
        """Candidates with the support of each image added to its score.

        base: the ordinal of the first image of the index, if the index is a part of a collection.
        """
        scores = np.zeros(len(alive))
        found.add_to(scores)
        for first, similarities in index.similarities(self.aggregates):
            supports = support(self.images, self.weights, similarities, base + first)
            scores[first : first + len(supports)] += self.gain * supports
        return ranked(scores, alive)


class AsmkImages(Protocol):
    """Images and their inverted lists, on this machine or on others. `alive` as for `Retriever.candidates`."""

    def found(self, query: Aggregate, alive: Alive) -> Candidates:
        """All images with a score above 0."""
        ...

    def stored(self, images: IntArray) -> list[Aggregate]:
        """The stored visual words of images."""
        ...

    def supported(self, found: Candidates, said: Said, alive: Alive) -> Candidates:
        """The candidates of `found`, with the support of confirmed images added to the scores of all images."""
        ...


class ListedImages:
    """Images whose inverted lists are on this machine."""

    def __init__(self, index: AsmkIndex) -> None:
        self._index = index

    def found(self, query: Aggregate, alive: Mask) -> Candidates:
        """As `AsmkImages` has it."""
        return ranked(self._index.scores(query), alive)

    def stored(self, images: IntArray) -> list[Aggregate]:
        """As `AsmkImages` has it."""
        return [self._index.stored(image) for image in images.tolist()]

    def supported(self, found: Candidates, said: Said, alive: Mask) -> Candidates:
        """As `AsmkImages` has it."""
        return said.supported(found, self._index, alive)


class AsmkSearch(Retriever):
    """Scores all images by the visual words that they share with a query."""

    reads: tuple[str, ...] = ("asmk", "words")

    def __init__(self, asmk: Asmk | None, images: AsmkImages | None, support: SupportOptions | None, *,
                 learnt: bool) -> None:
        """asmk, images: None if there are no features. learnt: whether the words were learnt from the collection."""
        self._asmk, self._images, self._support, self.learnt = asmk, images, support, learnt
        self.comparable = asmk is not None and not learnt and asmk.options == AsmkOptions()

    def candidates(self, query: Features, alive: Alive) -> Candidates:
        """All images with a score above 0."""
        if self._asmk is None or self._images is None:
            return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
        return self._images.found(self._asmk.query(query.descriptors), alive)

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Alive) -> Candidates | None:
        """All images, with the support of confirmed images added to their scores; None if none is confirmed."""
        if self._images is None or self._support is None:
            return None
        if max((len(one) for _, one in verified), default=0) <= self._support.inliers:
            return None  # there are never more distinct inliers than inliers
        verifications = [verification for _, verification in verified]
        inliers = distinct_inliers(verifications)
        # An image that is wrong raises all that resemble it: so many inliers must be there, whatever they are worth.
        few = inliers <= self._support.inliers * np.array([one.worth for one in verifications])
        images, weights = supporters(found.best(len(verified)), np.where(few, 0.0, inliers), self._support)
        if not len(images):
            return None
        said = Said(self._images.stored(images), images, weights, self._support.gain)
        return self._images.supported(found, said, alive)


class AsmkRetriever(AsmkSearch):
    """Searches a collection on this machine.

    learnt: whether the words were learnt from the images of the collection.

    The lists of a segment are in its folder. They are made if they are missing, damaged, or of other images; if they
    cannot be written there, they are kept in a temporary folder as long as the retriever lives.
    """

    def __init__(self, collection: Stored, options: AsmkRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the lists of a collection.

        Args:
            progress: called with (segments done, segments to do) while lists are made.

        Raises:
            CollectionError: the codebook of the options does not fit, or there is no room for the lists.
        """
        self._matcher: WordMatcher | None = None
        snapshot = collection.snapshot
        if not snapshot.rows:
            super().__init__(None, None, options.support, learnt=False)
            return
        found = find_codebook(snapshot, options.model, options.words)
        asmk = Asmk(found.codebook, options.asmk)
        index = AsmkIndex(asmk, opened_lists(asmk, snapshot, self, progress), held=options.held)
        super().__init__(asmk, ListedImages(index), options.support, learnt=found.learnt)
        if options.matching is not None:
            self.reads = (*self.reads, "hamming")
            self._matcher = WordMatcher(snapshot, found.codebook, options.matching, progress)

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """Tentative matches: features of one word with similar signatures. None if the options leave that out."""
        return self._matcher.matches(query, ordinal) if self._matcher is not None else None


def opened_lists(asmk: Asmk, snapshot: Snapshot, keeper: object,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> list[AsmkLists]:
    """The lists of each segment. keeper, progress: as for `open_lists`."""
    return open_lists(asmk, snapshot.segments, lambda segment: lists_of(segment, asmk), keeper=keeper,
                      progress=progress)


def ranked(scores: NDArray[np.floating[Any]], alive: Mask) -> Candidates:
    """The images with a score above 0, among those that may be found."""
    images = np.flatnonzero(alive & (scores > 0))
    return in_order(images, scores[images])


def lists_of(segment: Segment, asmk: Asmk) -> Path:
    """The file of a segment's lists. Its name contains everything that its content depends on."""
    kind = "" if asmk.options.signatures == "signs" else f"-{asmk.options.signatures}"
    return segment.folder / f"asmk-{asmk.codebook.fingerprint[:16]}{kind}.lists"
