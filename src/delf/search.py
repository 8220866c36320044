"""Search: the one place that joins the stages.

    image -> features -> candidates -> verified matches -> ranking
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from delf.collection import Collection
from delf.errors import CollectionError, ModelError, OptionError
from delf.features import Delf
from delf.images import crop, display_path, load, read_image
from delf.ranking import MATCH_PROBABILITY, RANKINGS, Candidates, evidence, probability
from delf.retrieval import RETRIEVERS, Mask, VoteOptions, open_retriever
from delf.types import Box, Features, ImageArray, ImageMatch, Result, SearchResult, Verification
from delf.verification import MatchingOptions, VerificationOptions, match_features, verify
from delf.verification.matching import REFERENCE

_Verified = tuple[int, Features, Verification]  # ordinal, features of the image, what geometry says of it


@dataclass(frozen=True)
class SearchOptions:
    """How a search is done.

    retrieval: what finds the candidates, a key of `delf.retrieval.RETRIEVERS`.
    candidates: how many of them, best first, are verified; 0 leaves their order as it is.
    ranking: a key of `delf.ranking.RANKINGS`. minimum_probability: from which the best image counts as a match.
    """

    retrieval: Any = field(default_factory=VoteOptions)
    candidates: int = 100
    ranking: str = "joint"
    minimum_probability: float = MATCH_PROBABILITY
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    verification: VerificationOptions = field(default_factory=VerificationOptions)

    def __post_init__(self) -> None:
        if self.ranking not in RANKINGS:
            raise OptionError(f"unknown ranking {self.ranking!r}; known are {', '.join(RANKINGS)}")
        if type(self.retrieval) not in RETRIEVERS:
            raise OptionError(f"retrieval is one of {', '.join(kind.__name__ for kind in RETRIEVERS)}, not "
                              f"{type(self.retrieval).__name__}")
        if self.candidates < 0:
            raise OptionError("candidates must be 0 or more")


METHODS: dict[str, SearchOptions] = {
    "delf": SearchOptions(),
    "delf-paper": SearchOptions(ranking="inliers", matching=REFERENCE,
                                verification=VerificationOptions(verifier="affine", threshold=20.0)),
    "delf-votes": SearchOptions(ranking="votes", candidates=0),
}
"""Search methods by name: the recommended one, the paper's (votes find, inliers rank), and votes alone."""


class SearchEngine:
    """Searches a collection. Several threads may search at once.

        engine = SearchEngine(Collection.open("places.delf"))
        answer = engine.search("query.jpg")
    """

    def __init__(self, collection: Collection, extractor: Delf | None = None, *,
                 method: str = "delf", options: SearchOptions | None = None) -> None:
        """Open the index of a collection.

        Args:
            extractor: of the very model and options that the collection was made with; loaded by name if not given.
            method: a key of `METHODS`. options: instead of those of the method.

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
        self.retriever = open_retriever(collection, self.options.retrieval)
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
        seconds: dict[str, float] = {}
        query = self.extract(image, box=box, seconds=seconds)
        name = str(image) if isinstance(image, (str, Path)) else ""
        return self.search_features(query, name=name, top=top, exclude=exclude, seconds=seconds)

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

    def retrieve(self, query: Features, *, exclude: Sequence[int] = (),
                 seconds: dict[str, float] | None = None) -> Candidates:
        """The candidates of a query: the second step of `search`, which methods of the same retrieval can share.

        Args:
            seconds: gets the time of the stage "retrieve".
        """
        with _timed({} if seconds is None else seconds, "retrieve"):
            return self.retriever.candidates(query, self._alive(exclude))

    def search_features(self, query: Features, *, name: str = "", top: int | None = 10, exclude: Sequence[int] = (),
                        candidates: Candidates | None = None,
                        seconds: dict[str, float] | None = None) -> SearchResult:
        """As `search`, for features that are extracted already.

        Args:
            candidates: of this query, from `retrieve` with the same `exclude`. seconds: of the stages before, which
                go into the result.
        """
        seconds = dict(seconds or {})
        if candidates is None:
            candidates = self.retrieve(query, exclude=exclude, seconds=seconds)
        with _timed(seconds, "verify"):
            verified = self._verify(query, candidates)
            expanded = self.retriever.expanded(query, [(ordinal, one) for ordinal, _, one in verified],
                                                self._alive(exclude))
            if expanded is not None:
                candidates, verified = expanded, self._verify(query, expanded)
        with _timed(seconds, "rank"):
            results = self._rank(query, candidates, verified, top)
        return SearchResult(query=name, method=self.method, results=results, seconds=seconds,
                            match=bool(results) and results[0].probability >= self.options.minimum_probability)

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

    def _verify(self, query: Features, candidates: Candidates) -> list[_Verified]:
        def one(ordinal: int) -> _Verified:
            database = self.collection.features(ordinal)
            matches = self.retriever.matches(query, ordinal)
            if matches is None:
                matches = match_features(query, database, self.options.matching)
            return ordinal, database, verify(query, database, matches, self.options.verification)

        return list(self._pool.map(one, candidates.images[: self.options.candidates].tolist()))

    def _rank(self, query: Features, candidates: Candidates, verified: list[_Verified],
              top: int | None) -> tuple[Result, ...]:
        inliers = np.zeros(len(candidates), np.int64)
        inliers[: len(verified)] = [len(verification) for _, _, verification in verified]
        scores = RANKINGS[self.options.ranking](candidates.scores, inliers)
        order = np.argsort(-scores, kind="stable")[:top]
        return tuple(self._result(rank, query, int(candidates.images[i]), float(scores[i]),
                                  verified[i] if i < len(verified) else None)
                     for rank, i in enumerate(order, start=1))

    def _result(self, rank: int, query: Features, ordinal: int, score: float,
                verified: _Verified | None) -> Result:
        match = self._evidence(query, verified)
        return Result(rank=rank, image=self.collection.image(ordinal).path, score=score, inliers=match.inliers,
                      probability=match.probability, transform=match.transform, inlier_points=match.inlier_points,
                      evidence=match.evidence)

    def _evidence(self, query: Features, verified: _Verified | None) -> ImageMatch:
        weights, images = self.extractor.runtime.config.probability, int(self.collection.alive.sum())
        if verified is None:
            return no_match(query, images, weights)
        return image_match(query, *verified[1:], images=images, weights=weights)


def match(image0: ImageArray | str | Path, image1: ImageArray | str | Path, extractor: Delf | None = None, *,
          matching: MatchingOptions | None = None, verification: VerificationOptions | None = None) -> ImageMatch:
    """Match two images directly: the points of the first that were found in the second, and how sure one may be."""
    extractor = extractor or Delf.load()
    query, database = (_extract(extractor, image) for image in (image0, image1))
    matches = match_features(query, database, matching)
    return image_match(query, database, verify(query, database, matches, verification),
                       weights=extractor.runtime.config.probability)


def image_match(query: Features, database: Features, verification: Verification, *, images: int = 1,
                weights: Mapping[str, float] | None = None) -> ImageMatch:
    """The points and the probability of a verified pair.

    Args:
        images: how many the database image was found among. weights: as for `delf.ranking.probability`.
    """
    points = np.hstack([query.keypoints[verification.inliers[:, 0]], database.keypoints[verification.inliers[:, 1]]])
    found = evidence(query, database, verification, images)
    return ImageMatch(inlier_points=points, transform=verification.transform, inliers=len(verification),
                      tentative=verification.tentative, probability=probability(found, weights), evidence=found)


def no_match(query: Features, images: int = 1, weights: Mapping[str, float] | None = None) -> ImageMatch:
    """The evidence of a pair that was not looked at."""
    nothing = Verification(np.zeros((0, 2), np.int64), None, 0)
    return image_match(query, query, nothing, images=images, weights=weights)


def load_extractor(collection: Collection) -> Delf:
    """The extractor that a collection was made with, found by the name of its model.

    Raises:
        CollectionError: a model of that name is not there, or is another one by now.
    """
    stored = collection.about
    try:
        extractor = Delf.load(stored["model"]["name"], **stored["options"])
    except ModelError as error:
        raise CollectionError(f"{display_path(collection.folder)} was made with the model {stored['model']['name']!r}, "
                              f"which is not found: {error}") from error
    collection.require(extractor)
    return extractor


def shifted(features: Features, offset: tuple[int, int]) -> Features:
    """The features of a part of an image, with keypoints in pixels of the whole."""
    return replace(features, keypoints=features.keypoints + np.asarray(offset, np.float32))


def _extract(extractor: Delf, image: ImageArray | str | Path) -> Features:
    if isinstance(image, np.ndarray):
        return extractor.extract(read_image(image))
    loaded = load(image, shrink_to=extractor.longest_side)
    return extractor.extract(loaded.pixels, image_size=loaded.size)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
