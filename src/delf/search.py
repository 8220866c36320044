"""Search: the one place that joins the stages.

    image -> features -> candidates -> verified matches -> ranking
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import OptionError
from delf.features import Delf, extract_turned, load_stored
from delf.images import crop, load, read_image
from delf.methods import DEFAULT_METHOD, METHODS, SearchOptions
from delf.pair import image_match, no_match
from delf.ranking import (
    CHANCE,
    DISTINCT,
    DISTINCT_CHANCE,
    RANKINGS,
    WORDS,
    Candidates,
    distinct_inliers,
    words_evidence,
)
from delf.retrieval import Mask, open_retriever
from delf.types import (
    Box,
    Features,
    FloatArray,
    ImageArray,
    ImageMatch,
    Result,
    SearchResult,
    Verification,
    require_top,
)
from delf.verification import angle, match_and_verify, single_threaded_products, verify

_Verified = tuple[int, Features, Verification]  # ordinal, features of the image, what geometry says of it
Turned = Callable[..., Sequence[Features]]  # `SearchEngine.turned` of a query
QUICK_SCALE = 1.0  # the largest level of a quick look; the one that is left out takes half of the time
QUICK_CANDIDATES = 30  # that a quick look verifies
FOLLOWED = 2  # quick looks of a group of turns, the best ones, that thorough ones may follow
PROMISING = 10  # inliers of a quick look from which a thorough one follows: half of what chance gives
_Found = TypeVar("_Found", "_Look", ImageMatch)


@dataclass(frozen=True, eq=False)
class _Look:
    """What was found with the features of a query as it is, or turned.

    found: the candidates of the first search. candidates: those of the last. verified: the first of the latter.
    """

    query: Features
    found: Candidates
    candidates: Candidates
    verified: Sequence[_Verified]

    def evidence_of(self, ordinal: int) -> float:
        """What the score of an image in the first search says, where that is a similarity by words."""
        return words_evidence(self._scores.get(ordinal, 0.0))

    @cached_property
    def distinct(self) -> dict[int, float]:
        """The distinct inliers of each image that was verified."""
        counts = distinct_inliers([one for *_, one in self.verified])
        return dict(zip([one[0] for one in self.verified], counts.tolist(), strict=True))

    @property
    def inliers(self) -> int:
        """Of the image that has most."""
        return max((len(one) for *_, one in self.verified), default=0)

    @property
    def confirmed(self) -> float:
        """Distinct inliers beyond those that chance gives, of all images together."""
        return sum(max(0.0, count - DISTINCT_CHANCE) for count in self.distinct.values())

    @property
    def upright(self) -> float:
        """By how many degrees the query must be turned left to lie as in the image that has most inliers."""
        best = max((one for *_, one in self.verified), key=len)
        return _upright(best.transform, self.query.keypoints[best.inliers[:, 0]])

    @cached_property
    def _scores(self) -> dict[int, float]:
        return dict(zip(self.found.images.tolist(), self.found.scores.tolist(), strict=True))


class SearchEngine:
    """Searches a collection. Several threads may search at once.

        engine = SearchEngine(Collection.open("places.delf"))
        answer = engine.search("query.jpg")
    """

    def __init__(self, collection: Collection, extractor: Delf | None = None, *,
                 method: str = DEFAULT_METHOD, options: SearchOptions | None = None,
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Open the index of a collection; what the method needs beside the features is made where it is missing.

        Args:
            extractor: of the very model and options that the collection was made with; loaded by name if not given.
            method: a key of `METHODS`. options: instead of those of the method.
            progress: called with (segments done, segments to do) while something is made.

        Raises:
            OptionError: unknown method. CollectionError, ModelError: the model of the collection is not to be had.
        """
        if method not in METHODS:
            raise OptionError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
        self.collection = collection
        self.method = method
        self.options = options or METHODS[method]
        self.extractor = extractor or load_extractor(collection)
        collection.require(self.extractor)
        self.retriever = open_retriever(collection, self.options.retrieval, model_file=self.extractor.model_file,
                                        progress=progress)
        self._pool = ThreadPoolExecutor(self.extractor.threads, thread_name_prefix="delf-verify")

    def search(self, image: ImageArray | str | Path, *, box: Box | None = None, top: int | None = 10,
               exclude: Sequence[int] = ()) -> SearchResult:
        """The images of the collection that show what a query shows, best first.

        Args:
            image: a path, or (H, W, 3) uint8 RGB.
            box: the part of the query to search for, in pixels of the upright query; it is cut out before anything
                else. Transforms and points are in pixels of the whole query all the same.
            top: how many results at most; None gives every image that got a vote.
            exclude: ordinals of images to leave out, as if they were not there.
        """
        require_top(top)  # before the photo is read, which takes a while
        seconds: dict[str, float] = {}
        query = self.extract(image, box=box, seconds=seconds)
        name = str(image) if isinstance(image, (str, Path)) else ""
        answer = self.search_features(query, name=name, top=top, exclude=exclude, seconds=seconds,
                                      turned=partial(self.turned, image, box=box))
        return answer if box is None else replace(answer, box=box)

    def extract(self, image: ImageArray | str | Path, *, box: Box | None = None,
                seconds: dict[str, float] | None = None) -> Features:
        """The features of a query: the first half of `search`, for those who search with them more than once.

        Args:
            seconds: gets the time of the stages "decode" and "extract".
        """
        seconds = {} if seconds is None else seconds
        with _timed(seconds, "decode"):
            pixels, size, offset = self._query_pixels(image, box)
        with _timed(seconds, "extract"):
            return shifted(self.extractor.extract(pixels, image_size=size), offset)

    def turned(self, image: ImageArray | str | Path, *, degrees: Sequence[float], box: Box | None = None,
               quick: bool = False) -> list[Features]:
        """The features of a query as it looks turned left by each angle, with keypoints where they are in the query
        as it is.

        Args:
            quick: leave out the levels that are larger than the query, which takes a fourth of the time.
        """
        pixels, size, offset = self._query_pixels(image, box)
        extractor = self.extractor.limited(QUICK_SCALE) if quick else self.extractor
        return [shifted(extract_turned(extractor, pixels, size, one), offset) for one in degrees]

    def retrieve(self, query: Features, *, exclude: Sequence[int] = (),
                 seconds: dict[str, float] | None = None) -> Candidates:
        """The candidates of a query: the second step of `search`, which methods of the same retrieval can share.

        Args:
            seconds: gets the time of the stage "retrieve".
        """
        with _timed({} if seconds is None else seconds, "retrieve"):
            return self.retriever.candidates(query, self._alive(exclude))

    def search_features(self, query: Features, *, name: str = "", top: int | None = 10, exclude: Sequence[int] = (),
                        candidates: Candidates | None = None, turned: Turned | None = None,
                        seconds: dict[str, float] | None = None) -> SearchResult:
        """As `search`, for features that are extracted already.

        Args:
            candidates: of this query, from `retrieve` with the same `exclude`. turned: gives what the method `turned`
                does; without it a query is not looked at turned. seconds: of the stages before, which go into the
                result.
        """
        require_top(top)
        seconds = dict(seconds or {})
        if candidates is None:
            candidates = self.retrieve(query, exclude=exclude, seconds=seconds)
        with _timed(seconds, "verify"):
            first = self._look(query, candidates, exclude)
        with _timed(seconds, "rank"):
            results = self._rank([first], top)
        if self.options.turns:
            with _timed(seconds, "turn"):
                if turned is not None and not self._is_match(results):
                    results = self._rank(self._turned_looks(first, turned, exclude), top)
        return SearchResult(query=name, method=self.method, results=results, seconds=seconds,
                            match=self._is_match(results))

    def match(self, query: Features, ordinal: int, *, turned: Turned | None = None) -> ImageMatch:
        """The evidence that one image shows what a query does, looked at as one of the best, by geometry alone.

        Args:
            turned: as for `search_features`.
        """
        looks = [self._match(query, ordinal)]
        if turned is None or looks[0].probability >= self.options.minimum_probability:
            return looks[0]
        for degrees in self.options.turns:
            quick = [self._match(one, ordinal) for one in turned(degrees=degrees, quick=True)]
            looks += quick
            for best in _promising(quick):
                upright = _upright(best.transform, best.inlier_points[:, :2])
                looks += [self._match(one, ordinal) for one in turned(degrees=(upright,))]
                if max(looks, key=_inliers).probability >= self.options.minimum_probability:
                    return max(looks, key=_inliers)
        return max(looks, key=_inliers)

    def _match(self, query: Features, ordinal: int) -> ImageMatch:
        _, database, found = self._verified(query, ordinal, thorough=True)
        return image_match(query, database, found, images=int(self.collection.alive.sum()),
                           weights=self.extractor.runtime.config.probability)

    def _is_match(self, results: Sequence[Result]) -> bool:
        return bool(results) and results[0].probability >= self.options.minimum_probability

    def _turned_looks(self, first: _Look, turned: Turned, exclude: Sequence[int]) -> list[_Look]:
        """Looks at a query that is turned, and the first one; foremost that by which all images are ranked.

        After a quick look at each turn, the transforms of the best of them say how the query may lie, if they promise
        anything. It is turned upright by one after the other, and looked at thoroughly, until there is a match.
        """
        def look(query: Features, count: int | None = None) -> _Look:
            return self._look(query, self.retrieve(query, exclude=exclude), exclude, count)

        looks, quick = [first], list[_Look]()
        for degrees in self.options.turns:
            found = [look(query, QUICK_CANDIDATES) for query in turned(degrees=degrees, quick=True)]
            quick += found
            for best in _promising(found):
                looks += [look(query) for query in turned(degrees=(best.upright,))]
                looks.sort(key=lambda one: -one.confirmed)
                if self._is_match(self._rank([*looks, *quick], 1)):
                    return [*looks, *quick]
        return [*looks, *quick]

    def _look(self, query: Features, candidates: Candidates, exclude: Sequence[int],
              count: int | None = None) -> _Look:
        """count: at most so many candidates are verified."""
        verified = self._verify(query, candidates, count)
        expanded = self.retriever.expanded(query, candidates, [(ordinal, one) for ordinal, _, one in verified],
                                           self._alive(exclude))
        if expanded is None:
            return _Look(query, candidates, candidates, verified)
        return _Look(query, candidates, expanded, self._verify(query, expanded, count, known=verified))

    def _query_pixels(self, image: ImageArray | str | Path,
                      box: Box | None) -> tuple[ImageArray, tuple[int, int], tuple[int, int]]:
        """Pixels, the size that they stand for, and the place of their corner in the query."""
        if box is not None:
            pixels, offset = crop(read_image(image), box)
            return pixels, (pixels.shape[1], pixels.shape[0]), offset
        if isinstance(image, np.ndarray):
            pixels = read_image(image)
            return pixels, (pixels.shape[1], pixels.shape[0]), (0, 0)
        loaded = load(image, shrink_to=self.extractor.longest_side)
        return loaded.pixels, loaded.size, (0, 0)

    def _alive(self, exclude: Sequence[int]) -> Mask:
        alive = self.collection.alive
        return alive & ~np.isin(np.arange(len(alive)), np.asarray(exclude)) if len(exclude) else alive

    def _verify(self, query: Features, candidates: Candidates, count: int | None = None,
                known: Sequence[_Verified] = ()) -> list[_Verified]:
        """The best candidates, verified: each is one task, which computes on one thread.

        count: at most so many, none of them thoroughly. known: of this query, which are not verified again.
        """
        limit = self.options.candidates if count is None else min(count, self.options.candidates)
        ordinals = candidates.images[:limit].tolist()
        found = {one[0]: one for one in known}
        best = set(ordinals[: self.options.thorough]) if count is None else set()
        new = [ordinal for ordinal in ordinals if ordinal not in found]
        if new:
            with single_threaded_products():
                verified = self._pool.map(lambda ordinal: self._verified(query, ordinal, ordinal in best), new)
                found |= {one[0]: one for one in verified}
        return [found[ordinal] for ordinal in ordinals]

    def _verified(self, query: Features, ordinal: int, thorough: bool) -> _Verified:
        options, database = self.options, self.collection.features(ordinal)
        matches = self.retriever.matches(query, ordinal)
        if matches is not None:
            return ordinal, database, verify(query, database, matches, options.verification)
        return ordinal, database, match_and_verify(query, database, options.matching, options.verification,
                                                   None if thorough else options.screening)

    def _rank(self, looks: Sequence[_Look], top: int | None) -> tuple[Result, ...]:
        """The images that the first look found, or a turned one where geometry confirms it, best first."""
        first, turned = looks[0], self._best_turned(looks[1:])
        places = {ordinal: place for place, ordinal in enumerate(first.candidates.images.tolist())} if turned else {}
        for ordinal in turned:
            places.setdefault(ordinal, len(places))
        images = np.array(list(places), np.int64) if turned else first.candidates.images
        scores = np.pad(self._scores(first), (0, len(images) - len(first.candidates)))
        shown: dict[int, tuple[_Look, _Verified]] = {one[0]: (first, one) for one in first.verified}
        for ordinal, (score, look, one) in turned.items():
            if score > scores[places[ordinal]]:
                scores[places[ordinal]], shown[ordinal] = score, (look, one)
        order = np.argsort(-scores, kind="stable")[:top]
        total = int(self.collection.alive.sum())
        return tuple(self._result(rank, int(images[place]), float(scores[place]), total,
                                  *shown.get(int(images[place]), (first, None)))
                     for rank, place in enumerate(order.tolist(), start=1))

    def _best_turned(self, looks: Sequence[_Look]) -> dict[int, tuple[float, _Look, _Verified]]:
        """Of each image with more inliers than chance gives, the look that scores it best."""
        best: dict[int, tuple[float, _Look, _Verified]] = {}
        for look in looks:
            for one, score in zip(look.verified, self._scores(look).tolist(), strict=False):
                if len(one[2]) > CHANCE and score > best.get(one[0], (0.0,))[0]:
                    best[one[0]] = (score, look, one)
        return best

    def _scores(self, look: _Look) -> NDArray[np.float64]:
        inliers = np.zeros(len(look.candidates))
        inliers[: len(look.verified)] = [look.distinct[ordinal] if self.options.inliers == "distinct" else len(one)
                                         for ordinal, _, one in look.verified]
        return RANKINGS[self.options.ranking](look.candidates.scores, inliers)

    def _result(self, rank: int, ordinal: int, score: float, total: int, look: _Look,
                verified: _Verified | None) -> Result:
        """total: how many images were searched."""
        config = self.extractor.runtime.config
        if verified is None:
            match = no_match(look.query, total, config.probability)
        else:
            more, weights = {}, config.probability
            if self.options.inliers == "distinct":
                more[DISTINCT] = math.log1p(look.distinct[ordinal])
            if self.retriever.comparable:
                more[WORDS], weights = look.evidence_of(ordinal), config.probability_by_words or weights
            match = image_match(look.query, *verified[1:], images=total, weights=weights, more=more)
        return Result(rank=rank, image=self.collection.image(ordinal).path, score=score, inliers=match.inliers,
                      probability=match.probability, transform=match.transform, inlier_points=match.inlier_points,
                      evidence=match.evidence, ordinal=ordinal, examined=verified is not None)


def load_extractor(collection: Collection) -> Delf:
    """The extractor that a collection was made with, found by the name of its model.

    Raises:
        CollectionError: a model of that name is not there, or is another one by now.
    """
    extractor = load_stored(collection.about, collection.folder)
    collection.require(extractor)
    return extractor


def shifted(features: Features, offset: tuple[int, int]) -> Features:
    """The features of a part of an image, with keypoints in pixels of the whole."""
    return replace(features, keypoints=features.keypoints + np.asarray(offset, np.float32))


def _inliers(found: _Look | ImageMatch) -> int:
    return found.inliers


def _promising(quick: Sequence[_Found]) -> list[_Found]:
    """The quick looks that thorough ones follow, best first."""
    best = sorted(quick, key=_inliers, reverse=True)[:FOLLOWED]
    return [look for look in best if look.inliers >= PROMISING]


def _upright(transform: NDArray[np.float64] | None, points: FloatArray) -> float:
    """By how many whole degrees a query must be turned left to lie as in an image, from points (M, 2) in it."""
    assert transform is not None, "an image with inliers has a transform"
    return float(round(-angle(transform, points.astype(np.float64))))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
