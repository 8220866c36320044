"""Requests of a search to the machines of a cluster. A machine answers a request for some of its segments.

A request and its payloads contain everything that the answer depends on; payloads may be large, and are sent to each
machine once. So every machine with the segments gives the same answer, and another one can be asked if one dies.
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
    """Something that machines can be asked."""

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> Any:
        """The answer for some segments. check: raises an error when nobody waits for the answer any more."""
        ...


@dataclass(frozen=True, eq=False)
class Best:
    """The best candidates, in order.

    images: (k,) ordinals. scores: (k,), in the precision in which they were computed. count: how many candidates there
    are in all. spread: of the scores of all.
    """

    images: IntArray
    scores: NDArray[Any]
    count: int
    spread: Spread = field(default_factory=Spread)

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Candidates]], most: int | None, *, spread: bool = False) -> Best:
        """The best of the candidates of several segments, each with its base. most: how many; None for all."""
        counts = [len(candidates) for _, candidates in parts]
        chosen = [(base, candidates.leading(count if most is None else min(most, count)))
                  for (base, candidates), count in zip(parts, counts, strict=True)]
        merged = cls.first([cls(images + base, scores, 0) for base, (images, scores) in chosen], most)
        spreads = [Spread.of(candidates.scores_without([])) for _, candidates in parts if spread and len(candidates)]
        return cls(merged.images, merged.scores, sum(counts), Spread.sum_of(spreads))

    @classmethod
    def first(cls, parts: Sequence[Best], most: int | None) -> Best:
        """The best of several parts, in the order that they would have in one collection."""
        images = np.concatenate([np.zeros(0, np.int64), *(part.images for part in parts)])
        scores = np.concatenate([part.scores for part in parts]) if parts else np.zeros(0, np.float32)
        count = len(images) if most is None else min(most, len(images))
        images, scores = in_order(images, scores).leading(count) if count else (images[:0], scores[:0])
        return cls(images, scores, sum(part.count for part in parts), Spread.sum_of(part.spread for part in parts))


class Scored(Protocol):
    """A request for candidates, which other requests can refer to.

    token: by which machines keep the candidates for a while. most: how many of them are sent; None for all.
    """

    token: str
    most: int | None

    def candidates(self, shelf: Shelf, segment: Slice, *payloads: Any) -> Candidates:
        """The candidates in one segment, by their positions in it."""
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

    def candidates(self, shelf: Shelf, segment: Slice, query: Aggregate) -> Candidates:
        """As `Scored` has it."""
        def make() -> Candidates:
            part = shelf.part(segment)
            images = part.images(shelf.index(segment, self.words))
            alive = self.findable.mask(part.snapshot, segment)
            return _none() if images is None else images.found(query, alive)

        found: Candidates = shelf.kept.get((self.token, segment.id), make, lambda one: 12 * len(one) + 100)
        return found


@dataclass(frozen=True)
class Supported:
    """The candidates of `found`, with the support of confirmed images added to their scores (`delf.ranking.support`).

    Payloads: the aggregate of the query, and the support (`Said`).
    """

    token: str
    found: ByWords
    most: int | None

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, query: Aggregate, said: Said) -> Best:
        """As `Request` has it."""
        return Best.of(_each(self, shelf, slices, check, query, said), self.most)

    def candidates(self, shelf: Shelf, segment: Slice, query: Aggregate, said: Said) -> Candidates:
        """As `Scored` has it."""
        def make() -> Candidates:
            part = shelf.part(segment)
            if not part.snapshot.rows:
                return _none()
            alive = self.found.findable.mask(part.snapshot, segment)
            found = self.found.candidates(shelf, segment, query)
            return said.supported(found, shelf.index(segment, self.found.words), alive, segment.base)

        found: Candidates = shelf.kept.get((self.token, segment.id), make, lambda one: 16 * len(one) + 100)
        return found


@dataclass(frozen=True)
class ScoresOf:
    """The scores of some images among the candidates of a request, by ordinal. Payloads: those of `found`."""

    found: Any
    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> dict[int, float]:
        """As `Request` has it."""
        scores: dict[int, float] = {}
        for base, candidates in _each(self.found, shelf, slices, check, *payloads):
            scores |= {base + place: score for place, score in
                       candidates.scores_of([image - base for image in self.images]).items()}
        return scores


@dataclass(frozen=True)
class Within:
    """All scores in the bins from `low` to `high`, among the candidates of a request. Payloads: those of `found`."""

    found: Any
    low: int
    high: int

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, *payloads: Any) -> FloatArray:
        """As `Request` has it."""
        scores = [np.zeros(0, np.float32)]
        for _, candidates in _each(self.found, shelf, slices, check, *payloads):
            part = candidates.scores_without([])
            bins = bins_of(part)
            scores.append(part[(bins >= self.low) & (bins <= self.high)])
        return np.concatenate(scores)


@dataclass(frozen=True)
class StoredWords:
    """The stored visual words of some images, by ordinal."""

    words: WordsKey
    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, Aggregate]:
        """As `Request` has it."""
        return {segment.base + place: shelf.index(segment, self.words).stored(place)
                for segment, place in places(slices, self.images)}


@dataclass(frozen=True)
class WordCounts:
    """In how many images each word occurs: (W,), int64."""

    words: WordsKey

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> IntArray:
        """As `Request` has it."""
        asmk = shelf.asmk(self.words)
        counts = np.zeros(len(asmk.codebook), np.int64)
        for segment in slices:
            check()
            part = shelf.part(segment)
            if part.snapshot.rows:
                counts += images_with_words(opened_lists(asmk, part.snapshot, part), len(counts))
        return counts


@dataclass(frozen=True)
class Nearest:
    """The `count` nearest stored features of each descriptor, and the ordinals of their images.

    Payload: the descriptors (Q, D).
    """

    count: int
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check,
               descriptors: FloatArray) -> tuple[Neighbours, IntArray]:
        """As `Request` has it."""
        def nearest(segment: Slice) -> tuple[Neighbours, IntArray]:
            check()
            part = shelf.part(segment)
            found, images = part.features.nearest(descriptors, self.count, self.findable.mask(part.snapshot, segment))
            ids = np.where(found.ids < 0, -1, found.ids + segment.row)
            return Neighbours(ids, found.similarities), images + segment.base

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
    """The `count` images with the most similar global descriptors. Payload: the global descriptor of the query."""

    count: int
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, vector: FloatArray) -> Best:
        """As `Request` has it."""
        def similar(segment: Slice) -> tuple[int, Candidates]:
            check()
            part = shelf.part(segment)
            alive = self.findable.mask(part.snapshot, segment)
            return segment.base, part.pooled.similar(vector, alive).best(self.count)

        return Best.of(side_by_side(shelf.pool, similar, slices), self.count)


@dataclass(frozen=True)
class SimilaritiesOf:
    """The similarities of some images to a vector, by ordinal. Payload: the vector."""

    images: tuple[int, ...]
    findable: Findable

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, vector: FloatArray) -> dict[int, float]:
        """As `Request` has it."""
        scores: dict[int, float] = {}
        for segment in slices:
            check()
            part, places = shelf.part(segment), segment.inside(np.asarray(self.images, np.int64))
            if len(places):
                similar = part.pooled.similar(vector, self.findable.mask(part.snapshot, segment))
                scores |= dict(zip((places + segment.base).tolist(), similar.of(places).tolist(), strict=True))
        return scores


@dataclass(frozen=True)
class PooledRows:
    """The global descriptors of some images, by ordinal."""

    images: tuple[int, ...]

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check) -> dict[int, FloatArray]:
        """As `Request` has it."""
        return {segment.base + place: shelf.part(segment).pooled.rows(np.array([place], np.int64))[0]
                for segment, place in places(slices, self.images)}


@dataclass(frozen=True)
class Looks:
    """Verifies some images, each alone, by ordinal. Payload: the features of the query.

    thorough: images that are matched with all features at once. glance: as for `Verifier.look_at`.
    """

    options: Verifying
    images: tuple[int, ...]
    thorough: frozenset[int]
    glance: bool

    def answer(self, shelf: Shelf, slices: Sequence[Slice], check: Check, query: Features) -> dict[int, Sent]:
        """As `Request` has it."""
        def look(image: tuple[Slice, int]) -> tuple[int, Sent]:
            check()
            segment, place = image
            verifier, ordinal = shelf.part(segment).verifier(self.options, shelf.pool), segment.base + place
            seen = verifier.look_at(query, place, thorough=ordinal in self.thorough, glance=self.glance)
            return ordinal, Sent.of(seen, ordinal)

        return dict(side_by_side(shelf.pool, look, places(slices, self.images)))


def _each(request: Any, shelf: Shelf, slices: Sequence[Slice], check: Check,
          *payloads: Any) -> list[tuple[int, Candidates]]:
    """The candidates of each segment, with its base; segments are searched in parallel."""
    def candidates(segment: Slice) -> tuple[int, Candidates]:
        check()
        return segment.base, request.candidates(shelf, segment, *payloads)

    return side_by_side(shelf.pool, candidates, slices)


def places(slices: Sequence[Slice], images: Sequence[int]) -> list[tuple[Slice, int]]:
    """The segment of each image and its position there, without images that are in none of the segments."""
    return [(segment, image - segment.base) for image in images for segment in slices
            if segment.base <= image < segment.base + segment.images]


def _none() -> Candidates:
    return in_order(np.zeros(0, np.int64), np.zeros(0, np.float32))
