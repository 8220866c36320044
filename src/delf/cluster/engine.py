"""Searches a store on the machines of a cluster: the engine of one machine, with its data elsewhere.

    with Cluster.open("s3://photos/places.store", address="auto") as cluster:
        engine = ClusterEngine(cluster)
        answer = engine.search("query.jpg")
        answer.missing                      # images that no machine held at that moment; normally 0
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar, cast

from delf.cluster.cluster import Cluster
from delf.cluster.fleet import Lease
from delf.cluster.gathered import GatheredFeatures, GatheredPooled, GatheredVerifier, GatheredWords
from delf.cluster.parts import Verifying, WordsKey
from delf.cluster.requests import WordCounts
from delf.cluster.session import SegmentsLostError, Session
from delf.cluster.snapshot import ClusterSnapshot
from delf.collection import Snapshot, Stored
from delf.errors import OptionError
from delf.extractors import Own
from delf.index.asmk import Asmk, word_weights
from delf.index.words import Codebook
from delf.methods import DEFAULT_METHOD, METHODS, SearchOptions
from delf.query import Query
from delf.ranking import Candidates
from delf.retrieval import (
    AsmkRetrieval,
    FusedRetrieval,
    GlobalRetrieval,
    Retriever,
    VoteOptions,
)
from delf.retrieval.asmk import AsmkSearch
from delf.retrieval.descriptors import GlobalSearch
from delf.retrieval.fused import FusedSearch
from delf.retrieval.votes import VoteSearch
from delf.search import Check, SearchEngine, SearchState, unchecked
from delf.types import Features, ImageMatch, SearchResult

_AGAIN = 16  # how often a search begins again because machines have died

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Words:
    """Visual words by which the machines search. lease: as long as it lives, the machines keep the words.

    learnt: the words were learnt from the photos of the store, and do not belong to the model.
    """

    asmk: Asmk
    lease: Lease
    learnt: bool


@dataclass(frozen=True, eq=False)
class _ClusterState(SearchState):
    """words: the visual words of the method, if it has any. shown: the snapshot with its own type."""

    words: _Words | None = None
    shown: ClusterSnapshot | None = None


class ClusterEngine(SearchEngine):
    """Searches a store on the machines of a cluster as `SearchEngine` searches a collection, with the same ranks,
    scores and probabilities. While no machine holds a segment, an answer covers the other segments, and `missing` says
    how many images it could not search.

    Several threads may search at once.
    """

    def __init__(self, cluster: Cluster | ClusterSnapshot, extractor: Own | None = None, *,
                 method: str = DEFAULT_METHOD, options: SearchOptions | None = None,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Have the machines prepare the method.

        Args:
            cluster: a cluster, or one of its snapshots, which the engine then never leaves. All other arguments are
                those of `SearchEngine`.

        Raises:
            OptionError: the method is unknown, or does not work on several machines. CollectionError: as
                `SearchEngine`.
        """
        self.cluster = cluster
        super().__init__(cast(Stored, cluster), extractor, method=method, options=options, progress=progress)

    def _opened(self, snapshot: Snapshot, progress: Callable[[int, int], None]) -> SearchState:
        shown = cast(ClusterSnapshot, snapshot)
        self._require_comparable(snapshot)
        require_spread(self.method, self.options)
        return self._state_of(shown, self._words(shown), shown.session())

    def _at_work(self, check: Check = unchecked) -> SearchState:
        state = cast(_ClusterState, self._state)
        assert state.shown is not None, "it is given when the state is opened"
        return self._state_of(state.shown, state.words, state.shown.session(check))

    def _state_of(self, shown: ClusterSnapshot, words: _Words | None, session: Session) -> _ClusterState:
        """The retriever and the verifier of one piece of work."""
        options, session.keeps = self.options, words
        verifier = GatheredVerifier(session, self._pool, Verifying(
            options.matching, options.verification, options.screening, options.details))
        return _ClusterState(cast(Snapshot, shown), self._retriever(options.retrieval, shown, words, session), verifier,
                             missing=lambda: session.missing, words=words, shown=shown)

    def _retriever(self, options: Any, shown: ClusterSnapshot, words: _Words | None, session: Session) -> Retriever:
        if isinstance(options, AsmkRetrieval):
            if words is None:
                return AsmkSearch(None, None, options.support, learnt=False)
            return AsmkSearch(words.asmk, GatheredWords(session, words.lease.key), options.support, learnt=words.learnt)
        if isinstance(options, VoteOptions):
            return VoteSearch(GatheredFeatures(session), options)
        if isinstance(options, GlobalRetrieval):
            return GlobalSearch(GatheredPooled(session, shown.width), options)
        assert isinstance(options, FusedRetrieval), "others are refused when the engine is made"
        return FusedSearch(self._retriever(options.local, shown, words, session),
                           GlobalSearch(GatheredPooled(session, shown.width), options.pooled), options)

    def _words(self, shown: ClusterSnapshot) -> _Words | None:
        """The visual words of the method, after all machines have them; None if it needs none."""
        retrieval = getattr(self.options.retrieval, "local", self.options.retrieval)
        if not isinstance(retrieval, AsmkRetrieval) or not shown.rows:
            return None
        found = shown.codebook(retrieval.model or self.extractor.model_file, retrieval.words)
        asmk = Asmk(_plain(found.codebook), retrieval.asmk)
        key = WordsKey(asmk.codebook.fingerprint, asmk.options)
        lease = shown.fleet.learn(shown.edition, key, asmk)
        if asmk.options.idf:  # the weights of words are those of all images together
            counts = sum(shown.session().ask(WordCounts(key)))
            named = replace(key, weights=hashlib.sha256(counts.tobytes()).hexdigest()[:16])
            lease = shown.fleet.learn(shown.edition, named, asmk, word_weights(counts, shown.edition.images))
        return _Words(asmk, lease, found.learnt)

    def refresh(self, *, progress: Callable[[int, int], None] = lambda done, total: None) -> bool:
        """As `SearchEngine.refresh`: when the machines have the newest state of the store, it is searched, as a whole.

        Raises:
            CollectionError: as there, or the state is of a newer version of delf. The one before is searched still.
        """
        if isinstance(self.cluster, Cluster):
            self.cluster.refresh(progress=progress)
        return super().refresh(progress=progress)

    def answer(self, query: Query, *, top: int | None = 10, exclude: Sequence[int] = (), where: str | None = None,
               candidates: Candidates | None = None, check: Check = unchecked) -> SearchResult:
        """As `SearchEngine.answer`. `missing` says of how many images nothing could be said."""
        search = super().answer
        return self._again(lambda: search(query, top=top, exclude=exclude, where=where, candidates=candidates,
                                          check=check))

    def match(self, query: Query | Features, ordinal: int, *, check: Check = unchecked) -> ImageMatch:
        """As `SearchEngine.match`."""
        match = super().match
        return self._again(lambda: match(query, ordinal, check=check))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine of a cluster cannot be pickled: open the cluster where it is needed")

    def __repr__(self) -> str:
        return f"ClusterEngine({cast(Any, self.snapshot)!r}, method {self.method!r})"

    def _again(self, work: Callable[[], T]) -> T:
        """Some work; begun anew, with the segments that are left, where a machine dies that alone had one."""
        for _ in range(_AGAIN):
            try:
                return work()
            except SegmentsLostError:
                continue
        return work()


def is_spread(options: SearchOptions) -> bool:
    """Whether a cluster can search so."""
    retrieval = options.retrieval
    if isinstance(retrieval, FusedRetrieval):
        return is_spread(replace(options, retrieval=retrieval.pooled)) and is_spread(
            replace(options, retrieval=retrieval.local))
    if isinstance(retrieval, AsmkRetrieval):
        return retrieval.matching is None
    if isinstance(retrieval, GlobalRetrieval):
        return retrieval.rerank is None and not retrieval.augmentation
    return isinstance(retrieval, VoteOptions)


def require_spread(method: str, options: SearchOptions) -> None:
    """Make sure that a cluster can search so. Raises `OptionError` where it cannot; the text says what to do."""
    if not is_spread(options):
        others = ", ".join(name for name, one in METHODS.items() if is_spread(one))
        raise OptionError(f"the method {method!r}, or an option of it, is not searched by in a cluster, as what it "
                          f"needs is not spread over machines; take one of {others}, or search a collection on one "
                          "machine")


def _plain(codebook: Codebook) -> Codebook:
    """The same words, without what was made of them to assign, which cannot be sent."""
    return Codebook(codebook.words, codebook.medians, codebook.projection, options=codebook.options,
                    model=codebook.model)
