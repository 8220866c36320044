"""A collection matched with itself: which pairs of its images show the same thing, by their stored features.

The candidates of an image are found as those of a query are, by ASMK*, and verified best first in rounds, until a round
has none that geometry confirms: an image that nothing else shows costs one round. A pair is judged once, and always
from the lower ordinal to the higher one, so that what is found does not depend on how often the work was interrupted.
It is judged beside the other candidates of the image that is looked at first, so that photos are not joined by a
watermark that they have in common with many others (`delf.verification.recurrence`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import OptionError
from delf.extractors import Extractor, Own, as_extractor
from delf.grouping.carrying import read_carried, write_carried
from delf.grouping.store import Judged, Pairs, PairStore, state_of
from delf.pair import image_match
from delf.ranking import spanned_area
from delf.retrieval import AsmkRetrieval, Retriever, open_retriever
from delf.search import load_extractor
from delf.settings import Options
from delf.types import Features, ImageMatch, Matches, Verification
from delf.verification import (
    DetailOptions,
    MatchingOptions,
    ScreeningOptions,
    VerificationOptions,
    match_and_verify,
    verify_details,
)
from delf.verifying import Beside, side_by_side, without_recurring

Progress = Callable[[int, int], None]
FEWEST = 500  # images that a pair is judged among, at least: what joins pairs was chosen on so many, and not on a few


@dataclass(frozen=True)
class PairOptions(Options):
    """How pairs are found.

    candidates: most candidates of each image that are verified.
    round: how many of them are verified before the next decision whether to go on.
    confirmed: inliers from which a candidate counts as confirmed; different things have up to twenty
        (`delf.ranking.order`).
    retrieval: how candidates are found. matching, verification: how they are verified.
    screening: a first look at the best features of each candidate; None examines all.
    details: how the details of confirmed pairs are verified, if they have any.
    """

    candidates: int = 30
    round: int = 10
    confirmed: int = 21
    retrieval: AsmkRetrieval = field(default_factory=AsmkRetrieval)
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    screening: ScreeningOptions | None = field(default_factory=ScreeningOptions)
    details: DetailOptions = field(default_factory=DetailOptions)

    def __post_init__(self) -> None:
        if min(self.candidates, self.round, self.confirmed) < 1:
            raise OptionError("the candidates of an image, those of a round, and the inliers that confirm a pair are "
                              f"1 or more, not {self.candidates}, {self.round} and {self.confirmed}")


def match_collection(collection: Collection, extractor: Own | None = None, options: PairOptions | None = None, *,
                     carried: Path | None = None, progress: Progress = lambda done, total: None,
                     preparing: Progress = lambda done, total: None) -> Pairs:
    """The confirmed pairs of a collection.

    What is found is kept in the folder of the collection (`PairStore`), image by image: Ctrl-C gives the pairs that are
    known by then, and the next call goes on from there. Memory is that of one image's candidates, whatever the size of
    the collection, and 40 bytes for each pair that is returned.

    Args:
        extractor: of the collection's model, which is not run: it knows what a probability is judged by, and where the
            visual words are. Found by the name of the model if not given.
        carried: a file that takes what is known from one state of the collection to the next (`grouping.carrying`):
            only images that are new are looked at. Without it, a changed collection is matched anew.
        progress: called with (images done, images to do). preparing: with (segments done, segments to do) where the
            lists of visual words are still to be made.

    Raises:
        CollectionError: the model of the collection is not to be had, or there is no room for the pairs.
    """
    options = options or PairOptions()
    whole = load_extractor(collection) if extractor is None else as_extractor(extractor)
    collection.require(whole)
    ordinals = np.flatnonzero(collection.alive).tolist()
    weights = dict(sorted(whole.weights().items()))  # `delf calibrate` changes them, and only them
    judged_by = repr((asdict(options), weights))
    with PairStore.open(collection.folder, state_of(collection, judged_by)) as store:
        if carried is not None:
            store.take_over(read_carried(carried, collection, judged_by))
        done = store.images()
        with suppress(KeyboardInterrupt):
            matcher = _Matcher(collection, whole, options, preparing)
            with ThreadPoolExecutor(whole.threads, thread_name_prefix="delf-pairs") as pool:
                for number, ordinal in enumerate(ordinals, start=1):
                    if ordinal not in done:
                        store.add(ordinal, matcher.judged(ordinal, store.known(ordinal), pool))
                    progress(number, len(ordinals))
        pairs = store.pairs(options.confirmed, images=len(ordinals))
        if carried is not None:
            write_carried(carried, collection, judged_by, store.images(), pairs)
        return pairs


def match_pair(collection: Collection, first: int, second: int, extractor: Extractor,
               options: PairOptions | None = None) -> ImageMatch:
    """One pair again, with its points: what is kept of a pair is only what it is judged by.

    It is looked at alone, so that an overlay that only other images tell is among the points.

    Args:
        first, second: ordinals. The transform leads from the first to the second, whichever is lower.
    """
    options = options or PairOptions()
    features = collection.features(first), collection.features(second)
    low, high = features if first <= second else features[::-1]
    found = match_and_verify(low, high, options.matching, options.verification, options.screening)
    details = verify_details(low, high, options.details)
    if first > second:
        found, details = _turned_round(found), None if details is None else _turned_round(details)
    return image_match(*features, found, details, images=max(FEWEST, len(collection)), weights=extractor.weights())


def _turned_round(found: Verification) -> Verification:
    """What geometry says from the second image to the first."""
    back = None if found.transform is None else np.linalg.inv(found.transform).astype(np.float64)
    return Verification(found.inliers[:, ::-1], back, Matches(found.matches.database, found.matches.query,
                                                              found.matches.similarities))


class _Matcher:
    """Finds and judges the pairs of one image after the other."""

    def __init__(self, collection: Collection, extractor: Extractor, options: PairOptions, preparing: Progress) -> None:
        self._snapshot, self._options = collection.snapshot, options
        self._weights: Mapping[str, float] = extractor.weights()
        self._images = max(FEWEST, len(self._snapshot))
        self._retriever: Retriever = open_retriever(self._snapshot, options.retrieval, model_file=extractor.model_file,
                                                    progress=preparing)

    def judged(self, ordinal: int, known: Mapping[int, int], pool: ThreadPoolExecutor) -> list[Judged]:
        """The pairs of an image that were not judged before.

        known: the inliers of those that were, by the other image.
        """
        features = self._snapshot.features(ordinal)
        others = self._snapshot.alive.copy()
        others[ordinal] = False
        candidates = self._retriever.candidates(features, others).best(self._options.candidates).images.tolist()
        seen: dict[int, Beside] = {}
        for start in range(0, len(candidates), self._options.round):
            now = candidates[start : start + self._options.round]
            seen |= self._seen(ordinal, features, [other for other in now if other not in known], pool)
            inliers = [len(seen[other].found) if other in seen else known[other] for other in now]
            if max(inliers) < self._options.confirmed:
                break
        without = self._without_overlays(ordinal, features, seen, [one for one in candidates if one in known], pool)
        return [self._judge(ordinal, features, other, one.other, found)
                for (other, one), found in zip(seen.items(), without, strict=True)]

    def _seen(self, ordinal: int, features: Features, others: list[int], pool: ThreadPoolExecutor) -> dict[int, Beside]:
        """What geometry says of an image and others: each pair is one task, which computes on one thread."""
        options = self._options

        def look(other: int) -> Beside:
            pair = features, self._snapshot.features(other)
            low, high = pair if ordinal < other else pair[::-1]
            found = match_and_verify(low, high, options.matching, options.verification, options.screening)
            return Beside(pair[1], found, side=0 if ordinal < other else 1)

        return dict(zip(others, side_by_side(pool, look, others), strict=True))

    def _without_overlays(self, ordinal: int, features: Features, seen: Mapping[int, Beside], known: list[int],
                          pool: ThreadPoolExecutor) -> list[Verification]:
        """What geometry says of new pairs, without overlays that recur among all candidates of an image.

        Those that are known are looked at once more, but only where something could be joined by an overlay.
        """
        new = list(seen.values())
        if (not any(len(one.found) >= self._options.confirmed for one in new)
                or not any(len(one.found.overlay) for one in new)):
            return [one.found for one in new]
        others = self._seen(ordinal, features, known, pool)
        return without_recurring(pool, features, [*new, *others.values()], self._options.verification)[: len(new)]

    def _judge(self, ordinal: int, features: Features, other: int, others: Features, found: Verification) -> Judged:
        (first, low), (second, high) = sorted([(ordinal, features), (other, others)], key=lambda one: one[0])
        if len(found) < self._options.confirmed:
            return Judged(first, second, len(found))
        match = image_match(low, high, found, verify_details(low, high, self._options.details), images=self._images,
                            weights=self._weights)
        return Judged(first, second, len(found), match.probability, *spanned(low, high, found))


def spanned(first: Features, second: Features, found: Verification) -> tuple[float, float, float]:
    """How much of two images is the same picture: share, area and displacement, as in `Pairs`."""
    share = len(found) / max(1, min(len(first), len(second)))
    area = min(spanned_area(features, found.inliers[:, side]) for side, features in enumerate((first, second)))
    return share, area, displacement(found.transform, first.image_size, second.image_size)


def displacement(transform: NDArray[np.float64] | None, first: tuple[int, int], second: tuple[int, int]) -> float:
    """How far a transform moves the corners of one image from those of the other, at most, as a share of its sides.

    0 for the same picture in any resolution; infinity where there is no transform, or a corner goes there.
    """
    if transform is None:
        return float("inf")
    unit = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    corners = np.column_stack([unit * first - 0.5, np.ones(4)]) @ transform.T
    if not np.isfinite(corners).all() or (corners[:, 2] <= 0).any():
        return float("inf")
    return float(np.abs((corners[:, :2] / corners[:, 2:] + 0.5) / second - unit).max())
