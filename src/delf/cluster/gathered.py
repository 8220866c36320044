"""The data of retrievers and of the verifier, asked of several machines as if they were on one."""

from __future__ import annotations

from collections.abc import Sequence, Set
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.cluster.parts import Findable, Verifying, WordsKey
from delf.cluster.requests import (
    Best,
    ByWords,
    Looks,
    Nearest,
    PooledRows,
    ScoresOf,
    Similar,
    SimilaritiesOf,
    StoredWords,
    Supported,
    Within,
    merged_neighbours,
)
from delf.cluster.session import Session
from delf.errors import OptionError
from delf.index.asmk import Aggregate
from delf.ranking import Candidates
from delf.ranking.expansion import RerankOptions
from delf.retrieval.asmk import Said
from delf.types import Features, FloatArray, IntArray, Neighbours
from delf.verifying import Verified, Verifier


class GatheredCandidates(Candidates):
    """Candidates on several machines. The best of them are here; the others are fetched when they are needed."""

    def __init__(self, session: Session, request: Any, payloads: Sequence[Any], best: Best) -> None:
        """request, payloads: by which the candidates are found. best: the first of them, and the number of all."""
        self._session, self.request, self.payloads, self._best = session, request, tuple(payloads), best
        self.ordered = False

    @classmethod
    def found(cls, session: Session, request: Any, *payloads: Any) -> GatheredCandidates:
        """The candidates that a request finds."""
        return cls(session, request, payloads, Best.first(session.ask(request, *payloads), request.most))

    def __len__(self) -> int:
        return self._best.count

    @property
    def images(self) -> IntArray:
        """As `Candidates` has it: all are fetched."""
        return self.leading(len(self))[0]

    @property
    def scores(self) -> FloatArray:
        """As `Candidates` has it: all are fetched."""
        return self.leading(len(self))[1].astype(np.float32, copy=False)

    def leading(self, count: int) -> tuple[IntArray, NDArray[Any]]:
        """As `Candidates` has it; candidates that are not here are fetched."""
        if min(count, len(self)) > len(self._best.images):
            more = replace(self.request, most=None if count >= len(self) else count)
            spread = self._best.spread
            self._best = replace(Best.first(self._session.ask(more, *self.payloads), more.most), spread=spread)
        return self._best.images[:count], self._best.scores[:count]

    def scores_of(self, images: Sequence[int]) -> dict[int, float]:
        """As `Candidates` has it; scores that are not here are fetched."""
        here = dict(zip(self._best.images.tolist(), self._best.scores.astype(np.float32).tolist(), strict=True))
        known = {image: here[image] for image in images if image in here}
        others = np.array([image for image in images if image not in here], np.int64)
        if len(others) and len(here) < len(self):
            known |= self._session.of(ScoresOf(self.request, tuple(others.tolist())), others, *self.payloads)
        return known

    def scores_without(self, images: Sequence[int]) -> FloatArray:
        """As `Candidates` has it: all are fetched."""
        found, scores = self.leading(len(self))
        return scores[~np.isin(found, images)].astype(np.float32, copy=False)

    def quantile_without(self, images: Sequence[int], share: float) -> tuple[int, float]:
        """As `Candidates` has it; only the scores around the quantile are fetched."""
        if not len(self._best.spread):  # the request does not count scores
            return super().quantile_without(images, share)
        gone = np.array(list(self.scores_of(images).values()), np.float32)

        def within(low: int, high: int) -> FloatArray:
            parts = self._session.ask(Within(self.request, low, high), *self.payloads)
            return np.concatenate([np.zeros(0, np.float32), *parts])

        return self._best.spread.quantile_without(gone, share, within)

    def add_to(self, scores: NDArray[np.float64]) -> None:
        """As `Candidates` has it: all are fetched."""
        images, found = self.leading(len(self))
        scores[images] += found.astype(np.float32, copy=False)


class GatheredWords:
    """Images by visual words, as `delf.retrieval.asmk.AsmkImages` has them, on the machines of a cluster."""

    def __init__(self, session: Session, words: WordsKey) -> None:
        self._session, self._words = session, words

    def found(self, query: Aggregate, alive: Findable) -> Candidates:
        """As `AsmkImages` has it."""
        session = self._session
        request = ByWords(session.token(), self._words, alive, session.fleet.options.best)
        return GatheredCandidates.found(session, request, session.put(query))

    def stored(self, images: IntArray) -> list[Aggregate]:
        """As `AsmkImages` has it."""
        found = self._session.of(StoredWords(self._words, tuple(images.tolist())), images)
        return [found[image] for image in images.tolist()]

    def supported(self, found: Candidates, said: Said, alive: Findable) -> Candidates:
        """As `AsmkImages` has it."""
        assert isinstance(found, GatheredCandidates), "what `found` of this object gave"
        session = self._session
        request = Supported(session.token(), found.request, session.fleet.options.best)
        return GatheredCandidates.found(session, request, *found.payloads, session.put(said))


class GatheredFeatures:
    """Descriptors, as `delf.retrieval.votes.StoredFeatures` has them, on the machines of a cluster."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def nearest(self, descriptors: FloatArray, count: int, alive: Findable) -> tuple[Neighbours, IntArray]:
        """As `StoredFeatures` has it."""
        parts = self._session.ask(Nearest(count, alive), self._session.put(descriptors))
        return merged_neighbours(parts, len(descriptors), count)


class GatheredPooled:
    """Global descriptors, as `delf.retrieval.descriptors.PooledImages` has them, on the machines of a cluster."""

    def __init__(self, session: Session, width: int) -> None:
        self._session, self.width = session, width

    def __len__(self) -> int:
        return self._session.edition.images

    def similar(self, vector: FloatArray, alive: Findable, reranked: RerankOptions | None = None) -> GatheredSimilar:
        """As `PooledImages` has it."""
        if reranked is not None:
            raise OptionError("a cluster does not rank images again by refined descriptors: leave out "
                              "retrieval.rerank, or search a collection on one machine")
        return GatheredSimilar(self._session, vector, alive)

    def rows(self, images: IntArray) -> FloatArray:
        """As `PooledImages` has it."""
        found = self._session.of(PooledRows(tuple(images.tolist())), images)
        return np.stack([found[image] for image in images.tolist()])


class GatheredSimilar:
    """Similarities to a vector, as `delf.retrieval.descriptors.Similarities` has them."""

    def __init__(self, session: Session, vector: FloatArray, alive: Findable) -> None:
        self._session, self._alive, self._sent = session, alive, session.put(vector)

    def best(self, count: int) -> Candidates:
        """As `Similarities` has it."""
        found = Best.first(self._session.ask(Similar(count, self._alive), self._sent), count)
        return Candidates(found.images, found.scores)

    def of(self, images: IntArray) -> FloatArray:
        """As `Similarities` has it."""
        found = self._session.of(SimilaritiesOf(tuple(images.tolist()), self._alive), images, self._sent)
        return np.array([found.get(image, -np.inf) for image in images.tolist()], np.float32)


class GatheredVerifier(Verifier):
    """Verifies images where their features lie. What several of them say together is looked at here."""

    def __init__(self, session: Session, pool: Executor, options: Verifying) -> None:
        super().__init__(None, None, pool, matching=options.matching, verification=options.verification,
                         screening=options.screening, details=options.details)
        self._session, self._options = session, options
        self._sent: dict[int, tuple[Features, Any]] = {}

    def looked_at(self, query: Features, ordinals: Sequence[int], thorough: Set[int], glance: bool) -> list[Verified]:
        """As `Verifier` has it."""
        if not len(ordinals):
            return []
        wanted = tuple(map(int, ordinals))
        request = Looks(self._options, wanted, frozenset(thorough) & frozenset(wanted), glance)
        found = self._session.of(request, np.array(wanted, np.int64), self._put(query))
        return [found[ordinal].opened() for ordinal in wanted]

    def look_at(self, query: Features, ordinal: int, *, thorough: bool = True, glance: bool = False) -> Verified:
        """As `Verifier` has it."""
        return self.looked_at(query, [ordinal], {ordinal} if thorough else set(), glance)[0]

    def _put(self, query: Features) -> Any:
        """The features of a query, sent once."""
        if id(query) not in self._sent:
            self._sent[id(query)] = query, self._session.put(replace(query, global_descriptor=None))
        return self._sent[id(query)][1]
