"""Search: the one place that joins the stages.

    query -> features -> candidates -> verified matches -> ranking
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection, Snapshot, Stored, StoredImage
from delf.errors import CollectionError
from delf.extractors import Extractor, Own, as_extractor
from delf.features import load_stored
from delf.images import ImageSource, display_path
from delf.looks import Effort, Look, Looking, TurningOptions, seen_turned, turn_by_details, upright
from delf.methods import DEFAULT_METHOD, SearchOptions, method_options
from delf.pair import image_match
from delf.pools import Pool
from delf.query import Query, timed
from delf.ranking import CHANCE, DISTINCT, LARGEST, RANKINGS, SMALLEST, WORDS, Candidates
from delf.retrieval import Retriever, open_retriever, reads_global
from delf.types import Box, Features, ImageMatch, IntArray, Result, Results, SearchResult, require_top
from delf.verification import single_threaded_products
from delf.verifying import Verified, Verifier

LOOKED_UP = 1000  # most results that are looked up at once, in a tenth of a second; beyond that, each when it is read
NO_POINTS = np.zeros((0, 4), np.float32)
Check = Callable[[], None]


def unchecked() -> None:
    """The check of a search that nobody may end."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """What an engine works with until it is refreshed.

    missing: returns how many images could not be searched, because no machine of a cluster has them.
    """

    snapshot: Snapshot
    retriever: Retriever
    verifier: Verifier
    missing: Callable[[], int] = lambda: 0


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Images in the order of the results.

    ordinals: (R,) int64. scores: (R,) float64. matches: by ordinal, of the images that geometry examined.
    """

    ordinals: IntArray
    scores: NDArray[np.float64]
    matches: Mapping[int, ImageMatch]

    def __len__(self) -> int:
        return len(self.ordinals)


class SearchEngine:
    """Searches a collection in the state that it had when the engine was made or refreshed. Several threads may search
    at once.

        engine = SearchEngine(Collection.open("places.delf"))
        answer = engine.search("query.jpg")
    """

    def __init__(self, collection: Stored, extractor: Own | None = None, *,
                 method: str = DEFAULT_METHOD, options: SearchOptions | None = None,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the index of a collection, and make the files that the method needs if they are missing.

        Args:
            extractor: `Delf` or any other (`delf.extractors`), with the model and the options with which the collection
                was made; by default it is loaded by the name that the collection gives. Where a method compares local
                features alone, a model of the same space will do as well: `delf-r18` may ask a collection of
                `delf-lite`, which learnt from it.
            method: a key of `METHODS`. options: replace those of the method.
            progress: called with (segments done, segments to do) while files are made.

        Raises:
            OptionError: unknown method. CollectionError, ModelError: the model of the collection cannot be loaded.
        """
        self.collection = collection
        self.method = method
        usual = method_options(method)  # raises for an unknown method
        self.options = options or usual
        self.extractor = load_extractor(collection) if extractor is None else as_extractor(extractor)
        # If features are the same at any angle, turning the query finds nothing new.
        self._turning = TurningOptions() if self.extractor.knows_turns else self.options.turning
        self._pool = Pool(self.extractor.threads, "delf-verify")
        self._state = self._opened(collection.snapshot, progress)

    def _opened(self, snapshot: Snapshot, progress: Callable[[int, int], None]) -> SearchState:
        self._require_comparable(snapshot)
        retriever = open_retriever(snapshot, self.options.retrieval, model_file=self.extractor.model_file,
                                   progress=progress)
        options = self.options
        return SearchState(snapshot, retriever, Verifier(
            snapshot, retriever, self._pool, matching=options.matching, verification=options.verification,
            screening=options.screening, details=options.details))

    def _require_comparable(self, snapshot: Snapshot) -> None:
        """Make sure that queries can be compared with the images. Raises `CollectionError` where they cannot."""
        if reads_global(self.options.retrieval):
            snapshot.require(self.extractor)
        snapshot.require_comparable(self.extractor)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle collection, extractor, method and options; unpickling opens the state that is on the disk by then."""
        return _reopened, (self.collection, self.extractor, self.method, self.options)

    def __repr__(self) -> str:
        now = self.snapshot
        return (f"SearchEngine({display_path(now.folder)!r}, method {self.method!r}, {len(now):,} images, "
                f"model {self.extractor.name!r})")

    @property
    def snapshot(self) -> Snapshot:
        """The state of the collection that it searches, to which the ordinals of its results belong."""
        return self._state.snapshot

    @property
    def retriever(self) -> Retriever:
        """The retriever, which finds the candidates."""
        return self._state.retriever

    def refresh(self, *, progress: Callable[[int, int], None] = lambda done, total: None) -> bool:
        """Search the newest state of the collection from now on. Returns whether the state is a new one.

        Searches that have begun finish with the state with which they began. Segments that are open stay open.

        Raises:
            CollectionError: the collection was renewed with another model or other options. The engine still searches
                the state that it has; to search the new one, make a new engine.
        """
        if isinstance(self.collection, Collection):
            self.collection.refresh()
        newest = self.collection.snapshot
        if newest.same_as(self.snapshot):
            return False
        try:
            self._require_comparable(newest)
        except CollectionError as error:
            raise CollectionError(f"{display_path(newest.folder)} was renewed with another model "
                                  f"({newest.about['model']['name']}) or with other options, which this engine cannot "
                                  "search: it still searches the previous state. Make a new engine, "
                                  "SearchEngine(collection), to search the new state") from error
        self._state = self._opened(newest, progress)
        return True

    def search(self, image: ImageSource, *, box: Box | None = None, top: int | None = 10,
               exclude: Sequence[int] = (), where: str | None = None) -> SearchResult:
        """The images of the collection that show what a query shows, best first.

        Args:
            image: a path, the bytes of a file, a binary file object, a Pillow image, or an (H, W, 3) array.
            box: the part of the query to search for, in pixels of the upright query; it is cut out before anything
                else. Transforms and points are in pixels of the whole query all the same.
            top: most results; None gives all candidates. Of more than a thousand results, each is looked up in the
                catalogue when it is read, for which the collection must be open (`delf.types.Results`).
            exclude: ordinals of images that are not searched.
            where: a condition on the images that may be found, such as `"folder = holidays and date >= 2019-06"`
                (`delf.collection.where`). The weights of visual words do not depend on it.

        Raises:
            ImageError: the query cannot be read. OptionError: the box or the condition is not valid.
        """
        return self.answer(self.query(image, box=box), top=top, exclude=exclude, where=where)

    def query(self, image: ImageSource, *, box: Box | None = None) -> Query:
        """Make a query for `answer`, which several engines with the same model can share."""
        return Query.of_photo(self.extractor, image, box=box)

    def search_features(self, features: Features, *, name: str = "", top: int | None = 10,
                        exclude: Sequence[int] = (), where: str | None = None) -> SearchResult:
        """As `search`, for features that were extracted before. The query is not tried at other angles, since that
        needs its photo.
        """
        return self.answer(Query.of_features(features, name), top=top, exclude=exclude, where=where)

    def retrieve(self, query: Features, *, exclude: Sequence[int] = (), where: str | None = None) -> Candidates:
        """The candidates of a query: the second step of a search, which methods with the same retrieval can share."""
        state = self._at_work()
        return state.retriever.candidates(query, state.snapshot.findable(exclude, where))

    def verify(self, query: Features, candidates: Candidates) -> list[Verified]:
        """Verify the best candidates by geometry: the third step of a search."""
        return self._at_work().verifier.verify(query, candidates.best(self.options.candidates).images.tolist(),
                                               thorough=self.options.thorough)

    def answer(self, query: Query, *, top: int | None = 10, exclude: Sequence[int] = (), where: str | None = None,
               candidates: Candidates | None = None, check: Check = unchecked) -> SearchResult:
        """As `search`, for a query whose features may be known already.

        Args:
            candidates: of this query, from `retrieve` with the same `exclude` and `where`. check: called between the
                steps; an error that it raises ends the search.
        """
        require_top(top)
        state, options = self._at_work(check), self.options
        alive, features = state.snapshot.findable(exclude, where), query.features
        check()
        seconds = dict(query.seconds)
        looking = Looking(state.retriever, state.verifier, alive, candidates=options.candidates,
                          thorough=options.thorough, turning=self._turning, check=check)
        if candidates is None:
            with timed(seconds, "retrieve"):
                candidates = state.retriever.candidates(features, alive)
        with timed(seconds, "verify"):
            first = looking.look(features, candidates)
        with timed(seconds, "rank"):
            ranked = self._ranked(state, [first], top)
        if self._turning.angles:
            with timed(seconds, "turn"):
                if not self._is_match(ranked) or first.turn_by_details is not None:
                    # Two threads gain nothing on such small products, and spin while they wait for the next one.
                    with single_threaded_products():
                        looks = looking.turned(query, first, partial(self._probability, state))
                    ranked = self._ranked(state, looks, top) if len(looks) > 1 else ranked
        return SearchResult(query=query.name, method=self.method, results=_results(state.snapshot, ranked, top),
                            seconds=seconds, box=query.box,
                            match=self._is_match(ranked) if self.options.verifies else None,
                            order=self.options.order, threshold=self.options.minimum_probability,
                            missing=state.missing())

    def _at_work(self, check: Check = unchecked) -> SearchState:
        """The state for one piece of work, from its beginning to its end. check: as for `answer`."""
        return self._state

    def extract(self, image: ImageSource, *, box: Box | None = None) -> Features:
        """The features of a query, in pixels of the whole query even if `box` selects a part."""
        return self.query(image, box=box).features

    def match(self, query: Query | Features, ordinal: int, *, check: Check = unchecked) -> ImageMatch:
        """The evidence that one image shows the same thing as a query, examined like the best candidates."""
        query = Query.of_features(query) if isinstance(query, Features) else query
        state, turning = self._at_work(check), self._turning
        looked = state.verifier.look_at(query.features, ordinal)
        first = self._match(state, query.features, looked)
        degrees = turn_by_details(looked, query.features) if turning.angles else None
        if degrees is None and first.probability >= self.options.minimum_probability:
            return first

        def seen(degrees: float, effort: Effort) -> tuple[Features, Verified] | None:
            check()
            turned = seen_turned(query, degrees, effort)
            return None if turned is None else (turned, state.verifier.look_at(turned, ordinal))

        if degrees is None:
            quick = turning.best_quick(lambda degrees: seen(degrees, turning.glance), lambda one: one[1].inliers)
            close = None if quick is None else seen(upright(quick[1], quick[0]), turning.close)
            if close is None or not close[1].inliers:
                return first
            degrees = upright(close[1], close[0])
        lying = seen_turned(query, degrees, turning.thorough, whole=True)
        if lying is None:
            return first
        again = self._match(state, lying, state.verifier.look_at(lying, ordinal))
        return max(first, again, key=lambda one: one.inliers)

    def _match(self, state: SearchState, query: Features, seen: Verified) -> ImageMatch:
        if not (state.retriever.comparable and self.extractor.weights(by_words=True)):
            return image_match(query, seen.features, seen.found, seen.details, images=len(state.snapshot),
                               weights=self.extractor.weights())
        found = state.retriever.candidates(query, state.snapshot.findable())  # as sure as a search is, or nearly
        return self._evidence(state, Look(query, found, found, [seen]), seen, len(state.snapshot))

    def _probability(self, state: SearchState, look: Look) -> float:
        """The probability of the best image of a look."""
        found = (self._evidence(state, look, one, len(state.snapshot)).probability for one in look.verified)
        return max(found, default=0.0)

    def _is_match(self, ranked: _Ranked) -> bool:
        return any(map(self._is_sure, ranked.matches.values()))

    def _is_sure(self, match: ImageMatch) -> bool:
        return match.probability >= self.options.minimum_probability

    def _ranked(self, state: SearchState, looks: Sequence[Look], top: int | None) -> _Ranked:
        """The images that the first look found, or a turned one where geometry confirms it, best first: all that were
        verified, and as many others as may be among the best.
        """
        first, turned = looks[0], self._best_turned(looks[1:])
        most = None if top is None else len(first.verified) + len(turned) + top
        candidates, scores = self._scored(first, most)
        shown = {one.ordinal: (score, first, one) for one, score in
                 zip(first.verified, scores.tolist(), strict=False)}
        for ordinal, found in turned.items():
            if ordinal not in shown or found[0] > shown[ordinal][0]:
                shown[ordinal] = found
        total = len(state.snapshot)
        matches = {ordinal: self._evidence(state, look, one, total) for ordinal, (_, look, one) in shown.items()}
        # In the order of retrieval, which a ranking without inliers keeps; what was found turned comes after that.
        places = {one.ordinal: place for place, one in enumerate(first.verified)}
        places |= {ordinal: len(first.candidates) + place for place, ordinal in enumerate(turned)}
        others = np.flatnonzero(~np.isin(candidates.images, list(shown)))[:top]
        ordinals = np.concatenate([np.array(list(shown), np.int64), candidates.images[others]])
        scores = np.concatenate([[score for score, *_ in shown.values()], scores[others]])
        unsure = np.ones(len(ordinals), np.bool_)
        unsure[: len(shown)] = [not (self.options.sure_first and self._is_sure(matches[one])) for one in shown]
        order = np.lexsort((np.concatenate([[places[one] for one in shown], others]), -scores, unsure))
        return _Ranked(ordinals[order], scores[order], matches)

    def _best_turned(self, looks: Sequence[Look]) -> dict[int, tuple[float, Look, Verified]]:
        """For each image with more inliers than chance gives, the look that scores it best."""
        best: dict[int, tuple[float, Look, Verified]] = {}
        for look in looks:
            scores = self._scored(look, len(look.verified))[1]
            for one, score in zip(look.verified, scores.tolist(), strict=False):
                if one.confirmed > CHANCE and score > best.get(one.ordinal, (0.0,))[0]:
                    best[one.ordinal] = (score, look, one)
        return best

    def _scored(self, look: Look, most: int | None) -> tuple[Candidates, NDArray[np.float64]]:
        """The candidates of a look with their scores; the best so many of them, where others would have to be put in
        order for it.
        """
        candidates = look.candidates if most is None or look.candidates.ordered else look.candidates.best(most)
        inliers = np.zeros(len(candidates))
        inliers[: len(look.verified)] = [look.counts[one.ordinal] if self.options.inliers == "distinct"
                                         else one.inliers for one in look.verified]
        return candidates, RANKINGS[self.options.ranking](candidates.scores, inliers)

    def _evidence(self, state: SearchState, look: Look, one: Verified, total: int) -> ImageMatch:
        """total: how many images were searched."""
        more, weights = {}, self.extractor.weights()
        if self.options.inliers == "distinct":
            more[DISTINCT] = math.log1p(look.distinct[one.ordinal])
        if state.retriever.comparable:
            more[WORDS] = look.words_of(one)
            by_words = self.extractor.weights(by_words=True)
            if one.confirmed and by_words:  # without any, there is nothing that could be shown
                weights, total = by_words, min(max(total, SMALLEST), LARGEST)
        return image_match(look.query, one.features, one.found, one.details, images=total, weights=weights, more=more)


def _reopened(collection: Stored, extractor: Extractor, method: str, options: SearchOptions) -> SearchEngine:
    """Make the engine that `__reduce__` has pickled."""
    return SearchEngine(collection, extractor, method=method, options=options)


def _results(snapshot: Snapshot, ranked: _Ranked, top: int | None) -> Sequence[Result]:
    if top is not None or len(ranked) <= LOOKED_UP:
        stored = snapshot.images_at(ranked.ordinals[:top].tolist())
        return tuple(_result(ranked, place, one) for place, one in enumerate(stored))

    def result(place: int) -> Result:
        return _result(ranked, place, snapshot.image(int(ranked.ordinals[place])))

    return Results(ranked.ordinals, result, partial(_key, snapshot, ranked),
                   np.flatnonzero(np.isin(ranked.ordinals, list(ranked.matches))).tolist())


def _key(snapshot: Snapshot, ranked: _Ranked, place: int) -> str:
    """The key of the image at a place of the results."""
    return snapshot.key_of(int(ranked.ordinals[place]))


def _result(ranked: _Ranked, place: int, stored: StoredImage) -> Result:
    """The image at a place of the results, as it is in the catalogue now."""
    ordinal = int(ranked.ordinals[place])
    match = ranked.matches.get(ordinal)
    found = Result(rank=place + 1, image=stored.path, score=float(ranked.scores[place]), inliers=0, probability=None,
                   transform=None, inlier_points=NO_POINTS, ordinal=ordinal, key=stored.key, file=stored.file,
                   files=stored.files, keys=stored.keys, metadata=stored.metadata, second=stored.second)
    if match is None:
        return found
    return replace(found, inliers=match.inliers, probability=match.probability, transform=match.transform,
                   inlier_points=match.inlier_points, evidence=match.evidence, examined=True,
                   tentative=match.tentative)


def load_extractor(collection: Stored) -> Extractor:
    """The extractor that a collection was made with, found by the name of its model.

    Raises:
        CollectionError: a model of that name is not there, or is another one by now.
    """
    extractor = load_stored(collection.snapshot.about, collection.folder)
    collection.snapshot.require(extractor)
    return extractor
