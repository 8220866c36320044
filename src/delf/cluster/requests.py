"""What a machine of a cluster is asked: each request says what is wanted of some segments, and computes it there.

A request says all that its answer depends on, beside its payloads, which are sent once and may be large. So any machine
that has the segments gives the same answer: after one has died, another one is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from delf.cluster.lean import Sent
from delf.cluster.parts import Findable, Shelf, Slice, Verifying, WordsKey
from delf.cluster.spread import Spread, bins_of
from delf.index.asmk import Aggregate, images_with_words
from delf.index.contract import best
from delf.ranking import Candidates, in_order
from delf.retrieval.asmk import Said, opened_lists
from delf.types import Features, FloatArray, IntArray, Neighbours
from delf.verifying import side_by_side

Check = Callable[[], None]


class Request(Protocol):
    """Something that is asked of machines."""

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> Any:
        """The answer for some segments. check: raises where nobody waits for it any more."""
        ...


@dataclass(frozen=True, eq=False)
class Best:
    """The best of the images that were found, in their order.

    images: (k,) ordinals. scores: (k,) as they were found. count: how many there are. spread: of all their scores.
    """

    images: IntArray
    scores: NDArray[Any]
    count: int
    spread: Spread = field(default_factory=Spread)

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Candidates]], most: int | None, *, spread: bool = False) -> Best:
        """Of the candidates of several segments, each with its base. most: how many; None for all."""
        counts = [len(one) for _, one in parts]
        chosen = [(base, one.leading(len(one) if most is None else min(most, len(one)))) for base, one in parts]
        merged = cls.first([cls(images + base, scores, 0) for base, (images, scores) in chosen], most)
        spreads = [Spread.of(one.scores_without([])) for _, one in parts if spread and len(one)]
        return cls(merged.images, merged.scores, sum(counts), Spread.sum_of(spreads))

    @classmethod
    def first(cls, parts: Sequence[Best], most: int | None) -> Best:
        """The best of several parts, in the order that they would have in one collection."""
        images = np.concatenate([np.zeros(0, np.int64), *(one.images for one in parts)])
        scores = np.concatenate([one.scores for one in parts]) if parts else np.zeros(0, np.float32)
        count = len(images) if most is None else min(most, len(images))
        images, scores = in_order(images, scores).leading(count) if count else (images[:0], scores[:0])
        return cls(images, scores, sum(one.count for one in parts), Spread.sum_of(one.spread for one in parts))


class Scored(Protocol):
    """A request whose candidates may be looked at again. most: how many are answered; None for all."""

    token: str
    most: int | None

    def candidates(self, shelf: Shelf, there: Slice, *payloads: Any) -> Candidates:
        """Those of one segment, by positions in it."""
        ...


@dataclass(frozen=True)
class ByWords:
    """The images that share visual words with a query. Payload: the aggregate of the query."""

    token: str
    words: WordsKey
    findable: Findable
    most: int | None

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, query: Aggregate) -> Best:
        """As `Request` has it."""
        return Best.of(_each(self, shelf, slices, check, query), self.most, spread=True)

    def candidates(self, shelf: Shelf, there: Slice, query: Aggregate) -> Candidates:
        """As `Scored` has it."""
        def make() -> Candidates:
            part = shelf.part(there)
            images = part.images(shelf.index(there, self.words))
            alive = self.findable.mask(part.snapshot, there)
            return _none() if images is None else images.found(query, alive)

        found: Candidates = shelf.kept.get((self.token, there.id), make, lambda one: 12 * len(one) + 100)
        return found


@dataclass(frozen=True)
class Supported:
    """The same images, with what confirmed ones say added. Payloads: the aggregate of the query, and what is said."""

    token: str
    found: ByWords
    most: int | None

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, query: Aggregate, said: Said) -> Best:
        """As `Request` has it."""
        return Best.of(_each(self, shelf, slices, check, query, said), self.most)

    def candidates(self, shelf: Shelf, there: Slice, query: Aggregate, said: Said) -> Candidates:
        """As `Scored` has it."""
        def make() -> Candidates:
            part = shelf.part(there)
            if not part.snapshot.rows:
                return _none()
            alive = self.found.findable.mask(part.snapshot, there)
            found = self.found.candidates(shelf, there, query)
            return said.supported(found, shelf.index(there, self.found.words), alive, there.base)

        found: Candidates = shelf.kept.get((self.token, there.id), make, lambda one: 16 * len(one) + 100)
        return found


@dataclass(frozen=True)
class ScoresOf:
    """The scores of some images of what was found, (ordinals, scores). Payloads: those of `found`."""

    found: Any
    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> dict[int, float]:
        """As `Request` has it."""
        scores: dict[int, float] = {}
        for base, one in _each(self.found, shelf, slices, check, *payloads):
            scores |= {base + place: score for place, score in
                       one.scores_of([image - base for image in self.images]).items()}
        return scores


@dataclass(frozen=True)
class Within:
    """All scores of what was found in the bins from one to another. Payloads: those of `found`."""

    found: Any
    low: int
    high: int

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> FloatArray:
        """As `Request` has it."""
        scores = [one.scores_without([]) for _, one in _each(self.found, shelf, slices, check, *payloads)]
        bins = [bins_of(one) for one in scores]
        return np.concatenate([np.zeros(0, np.float32), *(one[(at >= self.low) & (at <= self.high)]
                                                          for one, at in zip(scores, bins, strict=True))])


@dataclass(frozen=True)
class StoredWords:
    """The words that some images are stored with, by ordinal."""

    words: WordsKey
    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, Aggregate]:
        """As `Request` has it."""
        return {there.base + place: shelf.index(there, self.words).stored(place)
                for there, place in places(slices, self.images)}


@dataclass(frozen=True)
class WordCounts:
    """(W,) in how many images each word is."""

    words: WordsKey

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> IntArray:
        """As `Request` has it."""
        asmk = shelf.asmk(self.words)
        counts = np.zeros(len(asmk.codebook), np.int64)
        for there in slices:
            check()
            part = shelf.part(there)
            if part.snapshot.rows:
                counts += images_with_words(opened_lists(asmk, part.snapshot, part), len(counts))
        return counts


@dataclass(frozen=True)
class Nearest:
    """The nearest stored features. Payload: the descriptors. Answers with them and the ordinals of their images."""

    count: int
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check,
               descriptors: FloatArray) -> tuple[Neighbours, IntArray]:
        """As `Request` has it."""
        def nearest(there: Slice) -> tuple[Neighbours, IntArray]:
            check()
            part = shelf.part(there)
            found, images = part.features.nearest(descriptors, self.count, self.findable.mask(part.snapshot, there))
            ids = np.where(found.ids < 0, -1, found.ids + there.row)
            return Neighbours(ids, found.similarities), images + there.base

        return merged_neighbours(side_by_side(shelf.pool, nearest, slices), len(descriptors), self.count)


def merged_neighbours(parts: Sequence[tuple[Neighbours, IntArray]], queries: int,
                      count: int) -> tuple[Neighbours, IntArray]:
    """The nearest features of several parts, as `delf.index.Joined` joins them, and the images that they belong to."""
    ids = np.hstack([np.zeros((queries, 0), np.int64), *(found.ids for found, _ in parts)])
    similarities = np.hstack([np.zeros((queries, 0), np.float32), *(found.similarities for found, _ in parts)])
    owners = np.hstack([np.zeros((queries, 0), np.int64), *(images for _, images in parts)])
    order = np.lexsort((ids, -similarities))[:, :count]
    images = np.zeros((queries, count), np.int64)
    images[:, : order.shape[1]] = np.take_along_axis(owners, order, axis=1)
    found = best(ids, similarities, count)
    return found, np.where(found.ids >= 0, images, 0)


@dataclass(frozen=True)
class Similar:
    """The images whose global descriptors are most similar. Payload: a vector."""

    count: int
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, vector: FloatArray) -> Best:
        """As `Request` has it."""
        def similar(there: Slice) -> tuple[int, Candidates]:
            check()
            part = shelf.part(there)
            return there.base, part.pooled.similar(vector, self.findable.mask(part.snapshot, there)).best(self.count)

        return Best.of(side_by_side(shelf.pool, similar, slices), self.count)


@dataclass(frozen=True)
class SimilaritiesOf:
    """The similarities of some images to a vector, by ordinal. Payload: the vector."""

    images: tuple[int, ...]
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, vector: FloatArray) -> dict[int, float]:
        """As `Request` has it."""
        scores: dict[int, float] = {}
        for there in slices:
            check()
            part, places = shelf.part(there), there.inside(np.asarray(self.images, np.int64))
            if len(places):
                similar = part.pooled.similar(vector, self.findable.mask(part.snapshot, there))
                scores |= dict(zip((places + there.base).tolist(), similar.of(places).tolist(), strict=True))
        return scores


@dataclass(frozen=True)
class PooledRows:
    """The global descriptors of some images, by ordinal."""

    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, FloatArray]:
        """As `Request` has it."""
        return {there.base + place: shelf.part(there).pooled.rows(np.array([place], np.int64))[0]
                for there, place in places(slices, self.images)}


@dataclass(frozen=True)
class Looks:
    """What geometry says of some images, each alone, by ordinal. Payload: the features of the query.

    thorough: which have no quick look first. glance: as for `Verifier.look_at`.
    """

    options: Verifying
    images: tuple[int, ...]
    thorough: frozenset[int]
    glance: bool

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, query: Features) -> dict[int, Sent]:
        """As `Request` has it."""
        def look(one: tuple[Slice, int]) -> tuple[int, Sent]:
            check()
            there, place = one
            verifier, ordinal = shelf.part(there).verifier(self.options, shelf.pool), there.base + place
            seen = verifier.look_at(query, place, thorough=ordinal in self.thorough, glance=self.glance)
            return ordinal, Sent.of(seen, ordinal)

        return dict(side_by_side(shelf.pool, look, places(slices, self.images)))


def _each(request: Any, shelf: Shelf, slices: Sequence[Slice], check: Check,
          *payloads: Any) -> list[tuple[int, Candidates]]:
    """The candidates of each segment, with its base; segments are looked through beside one another."""
    def candidates(there: Slice) -> tuple[int, Candidates]:
        check()
        return there.base, request.candidates(shelf, there, *payloads)

    return side_by_side(shelf.pool, candidates, slices)


def places(slices: Sequence[Slice], images: Sequence[int]) -> list[tuple[Slice, int]]:
    """Which segment each of some images is in, and where, of those that are in any."""
    return [(there, image - there.base) for image in images for there in slices
            if there.base <= image < there.base + there.images]


def _none() -> Candidates:
    return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
