"""Tentative matches by visual words: features of one word whose signatures differ little (`delf.index.hamming`)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from delf.collection import Stored
from delf.collection.segment import Segment
from delf.index.bits import as_integers, ones
from delf.index.hamming import Hamming, HammingIndex, HammingOptions, Signed
from delf.index.words import Codebook
from delf.pools import Lock
from delf.retrieval.lists import open_lists
from delf.types import Features, Matches


class WordMatcher:
    """Matches queries with the images of a collection by words and signatures, of which the stored ones are read.

    index: the signatures of the collection, which can be searched as well. Several threads may use it at once.
    """

    def __init__(self, collection: Stored, codebook: Codebook, options: HammingOptions | None = None,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the signatures of a collection, and make them where they are missing.

        Args:
            progress: called with (segments done, segments to do) while they are made.

        Raises:
            CollectionError: there is no room for them.
        """
        self.hamming = Hamming(codebook, options)
        self.index = HammingIndex(self.hamming, open_lists(
            self.hamming, collection.snapshot.segments, lambda segment: lists_of(segment, codebook), keeper=self,
            progress=progress))
        self._queries: weakref.WeakKeyDictionary[Features, Signed] = weakref.WeakKeyDictionary()
        self._lock = Lock()

    def signed(self, query: Features) -> Signed:
        """The words and signatures of a query, in the order of the words; made once for the same object."""
        with self._lock:
            signed = self._queries.get(query)
            if signed is None:
                found = self.hamming.query(query.descriptors)
                signed = self._queries[query] = found.select(np.argsort(found.words, kind="stable"))
            return signed

    def matches(self, query: Features, ordinal: int) -> Matches:
        """All pairs of features in one word whose signatures are near enough; a feature can be in several.

        Similar are those of which few of B bits differ: 1 - 2 h / B, which estimates a cosine.
        """
        wanted, stored = self.signed(query), self.index.of_image(ordinal)
        start, stop = (np.searchsorted(wanted.words, stored.words, side=side) for side in ("left", "right"))
        counts = stop - start
        there = np.repeat(np.arange(len(stored)), counts)
        here = np.arange(len(there)) + np.repeat(start - (np.cumsum(counts) - counts), counts)
        distances = ones(as_integers(wanted.signatures[here]) ^ as_integers(stored.signatures[there]))
        near = distances <= self.hamming.limit(self.hamming.options.threshold)
        similarities = 1.0 - 2.0 * distances[near] / self.hamming.bits
        return Matches(wanted.features[here[near]], there[near], similarities.astype(np.float32))


def lists_of(segment: Segment, codebook: Codebook) -> Path:
    """The file of a segment's signatures: named for the codebook, on which alone they depend."""
    return segment.folder / f"hamming-{codebook.fingerprint[:16]}.lists"
