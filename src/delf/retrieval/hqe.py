"""Hamming query expansion (Tolias and Jégou, Pattern Recognition 2014): a second search, with what reliable images of
the first have in common added to the query.

Images that match well enough are reliable. Their visual words are ranked by how many of them have each, and accepted in
that order until so many new ones have come that the query lacks. In each word of the query and each accepted one, the
signatures of all features are pooled into one by the majority of each bit: what is searched with then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Stored
from delf.errors import OptionError
from delf.index.hamming import HammingIndex, HammingOptions, Signed
from delf.ranking import Candidates, in_order
from delf.retrieval.contract import Mask, Retriever
from delf.retrieval.word_matches import WordMatcher
from delf.retrieval.words import WordOptions, find_codebook
from delf.types import Features, FloatArray, IntArray, Matches, Verification

EXPANSIONS = ("verified", "correspondences", "none")


@dataclass(frozen=True)
class HqeRetrieval:
    """Candidates by Hamming embedding, with query expansion.

    hamming: how features are matched.
    expansion: the images that expand the query: those "verified" by geometry, with their features that lie where the
        query does; those with strong "correspondences", without geometry; or "none".
    shortlist: how many of the best images may be reliable.
    minimum_inliers: inliers from which a verified image is reliable.
    minimum_correspondences: c_t, how many matches must differ in at most `strict` of the bits.
    strict: h*, as a share of the bits (32 of 128).
    alpha: new words, as a share of those of the query.
    seed: for bits without a majority.
    words, model: as in `AsmkRetrieval`.
    """

    hamming: HammingOptions = field(default_factory=HammingOptions)
    expansion: str = "verified"
    shortlist: int = 100
    minimum_inliers: int = 5
    minimum_correspondences: int = 5
    strict: float = 0.25
    alpha: float = 0.5
    seed: int = 0
    words: WordOptions = field(default_factory=WordOptions)
    model: Path | None = None

    def __post_init__(self) -> None:
        if self.expansion not in EXPANSIONS:
            raise OptionError(f"the expansion is {', '.join(EXPANSIONS)}, not {self.expansion!r}")
        for name in ("shortlist", "minimum_inliers", "minimum_correspondences"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.strict <= 1 or not 0 <= self.alpha <= 100:
            raise OptionError("strict is a share of the bits, 0 to 1, and alpha from 0 to 100, not "
                              f"{self.strict} and {self.alpha}")
        if self.seed < 0:
            raise OptionError(f"the seed must be 0 or more, not {self.seed}")


class HqeRetriever(Retriever):
    """Scores all images by the matches of their features with those of a query, and then with an expanded one.

    learnt: whether the words were learnt from the images of the collection itself.
    """

    reads = ("hamming", "words")

    def __init__(self, collection: Stored, options: HqeRetrieval,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the signatures of a collection.

        Args:
            progress: called with (segments done, segments to do) while they are made.

        Raises:
            CollectionError: the codebook of the options does not fit, or there is no room for the signatures.
        """
        self.learnt = False
        self._snapshot, self._options = collection.snapshot, options
        self._matcher: WordMatcher | None = None
        self._ties = np.zeros((0, 0), np.uint8)
        if self._snapshot.rows:
            found = find_codebook(self._snapshot, options.model, options.words)
            self.learnt = found.learnt
            shape = (len(found.codebook), -(-found.codebook.dimensions // 8))
            self._ties = np.random.default_rng(options.seed).integers(0, 256, shape, np.uint8)
            self._matcher = WordMatcher(self._snapshot, found.codebook, options.hamming, progress)

    def candidates(self, query: Features, alive: Mask) -> Candidates:
        """All images with a score above 0; those of the second search, where no geometry is asked for."""
        if self._matcher is None:
            return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
        signed, index = self._matcher.signed(query), self._matcher.index
        found = _ranked(index, signed, alive)
        if self._options.expansion == "correspondences":
            strong = index.correspondences(signed, self._matcher.hamming.limit(self._options.strict))
            best = found.best(self._options.shortlist).images
            reliable = best[strong[best] >= self._options.minimum_correspondences].tolist()
            if reliable:
                found = _ranked(index, self._pooled(signed, [index.of_image(one) for one in reliable]), alive)
        return found

    def matches(self, query: Features, ordinal: int) -> Matches | None:
        """Pairs of features in one word with near signatures."""
        return self._matcher.matches(query, ordinal) if self._matcher is not None else None

    def expanded(self, query: Features, found: Candidates, verified: Sequence[tuple[int, Verification]],
                 alive: Mask) -> Candidates | None:
        """The candidates of a second search, if there are verified images to expand the query by."""
        if self._matcher is None or self._options.expansion != "verified":
            return None
        parts = []
        for ordinal, verification in verified[: self._options.shortlist]:
            if verification.transform is not None and len(verification) >= self._options.minimum_inliers:
                there = self._snapshot.features(ordinal).keypoints
                inside = in_query(query.keypoints, there, verification.transform)
                parts.append(self._matcher.index.of_image(ordinal).select(inside))
        if not parts:
            return None
        return _ranked(self._matcher.index, self._pooled(self._matcher.signed(query), parts), alive)

    def _pooled(self, query: Signed, parts: Sequence[Signed]) -> Signed:
        accepted = accepted_words(query.words, [part.words for part in parts], self._options.alpha)
        return pooled([query, *(part.select(np.isin(part.words, accepted)) for part in parts)], self._ties)


def _ranked(index: HammingIndex, query: Signed, alive: Mask) -> Candidates:
    scores = index.search(query)
    images = np.flatnonzero(alive & (scores > 0))
    return in_order(images, scores[images])


def in_query(query: FloatArray, points: FloatArray, transform: NDArray[np.float64]) -> Mask:
    """Which points of a database image lie where the query does.

    That is the bounding box of the query's features, as its box may be only a part of a picture.

    Args:
        query: (N, 2) keypoints of the query, at least one. points: (M, 2) of the database image. transform: (3, 3), as
            in `Verification`, which can be inverted.

    Returns:
        (M,) bool.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        back = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(transform).T
        depth = back[:, 2:]
        places = back[:, :2] / depth
    inside: Mask = ((places >= query.min(axis=0)) & (places <= query.max(axis=0)) & (depth > 0)).all(axis=1)
    return inside


def accepted_words(query: IntArray, images: Sequence[IntArray], alpha: float) -> IntArray:
    """The words of reliable images that are pooled.

    They come in the order of how many images have them, of equals the lower number first, up to the word with which
    floor(alpha times the number of different words of the query) new ones have come; words of the query are not new.

    Args:
        query: (Q,) words. images: (E,) words of the features of each image.
    """
    words, images_with = np.unique(np.concatenate([np.unique(image) for image in images]), return_counts=True)
    ranked = words[np.argsort(-images_with, kind="stable")]
    known = np.unique(query)
    allowed = int(alpha * len(known))
    if not allowed:
        return ranked[:0]
    new = np.cumsum(~np.isin(ranked, known))
    return ranked[: int(np.searchsorted(new, allowed)) + 1]


def pooled(parts: Sequence[Signed], ties: NDArray[np.uint8]) -> Signed:
    """One signature for each word, by the majority of each bit.

    Args:
        ties: (W, ceil(B / 8)) uint8, the bits that a word gets where as many are 1 as 0.
    """
    words = np.concatenate([part.words for part in parts])
    order = np.argsort(words, kind="stable")
    bits = np.unpackbits(np.concatenate([part.signatures for part in parts])[order], axis=1)
    starts = np.flatnonzero(np.diff(words[order], prepend=-1))
    if not len(starts):
        return parts[0]
    counts = np.diff(starts, append=len(words))[:, None]
    kept = words[order][starts]
    excess = 2 * np.add.reduceat(bits, starts, axis=0, dtype=np.int64) - counts
    signatures = np.packbits((excess > 0) | ((excess == 0) & (np.unpackbits(ties[kept], axis=1) > 0)), axis=1)
    return Signed(np.arange(len(kept)), kept, signatures)
