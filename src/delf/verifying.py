"""Verifies the candidates of a query by geometry, in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

from delf.collection import Snapshot
from delf.retrieval import Retriever
from delf.types import Features, Verification
from delf.verification import (
    DetailOptions,
    MatchingOptions,
    ScreeningOptions,
    VerificationOptions,
    match_and_verify,
    recurring,
    rests_on,
    single_threaded_products,
    threshold_in,
    verify,
    verify_again,
    verify_details,
)

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, eq=False)
class Verified:
    """An image that geometry has examined.

    features: the stored features of the image. found: their verification. details: the verification of its details;
    None if they were not examined.
    """

    ordinal: int
    features: Features
    found: Verification
    details: Verification | None = None

    @property
    def inliers(self) -> int:
        """The number of inliers, without details."""
        return len(self.found)

    @property
    def detail_inliers(self) -> int:
        """The number of details that agree with one transform."""
        return 0 if self.details is None else len(self.details)

    @property
    def confirmed(self) -> int:
        """The number of inliers of both kinds."""
        return self.inliers + self.detail_inliers


def side_by_side(pool: Executor, work: Callable[[_Item], _Answer], items: Sequence[_Item]) -> list[_Answer]:
    """The answers for all items, in their order. Each item is one task, which computes on one thread."""
    if not items:
        return []
    with single_threaded_products():
        return list(pool.map(work, items))


@dataclass(frozen=True, eq=False)
class Beside:
    """The verification of a picture and another one.

    other: the features of the other one. side: 0 if the picture was the query of the pair, 1 if it was the database
    image.
    """

    other: Features
    found: Verification
    side: int = 0


def without_recurring(pool: Executor, picture: Features, seen: Sequence[Beside],
                      options: VerificationOptions | None = None) -> list[Verification]:
    """The verifications of a picture and several others, in their order, without the overlays that recur among them.

    Only pairs whose inliers lie on such an overlay are verified again, once, with their remaining matches.
    """
    options = options or VerificationOptions()
    found, recurrence = [one.found for one in seen], options.recurrence
    if recurrence is None:
        return found
    gone = recurring(picture, [(one.found, one.side) for one in seen], threshold_in(options, picture), recurrence)
    resting = [place for place, one in enumerate(seen) if rests_on(gone, one.found, one.side, recurrence)]

    def again(place: int) -> Verification:
        one = seen[place]
        query, database = (picture, one.other) if one.side == 0 else (one.other, picture)
        return verify_again(query, database, one.found, gone, one.side, options)

    for place, verified in zip(resting, side_by_side(pool, again, resting), strict=True):
        found[place] = verified
    return found


class Verifier:
    """Verifies images of a snapshot."""

    def __init__(self, snapshot: Snapshot | None, retriever: Retriever | None, pool: Executor, *,
                 matching: MatchingOptions | None = None, verification: VerificationOptions | None = None,
                 screening: ScreeningOptions | None = None, details: DetailOptions | None = None) -> None:
        """snapshot: None if a subclass gets the images elsewhere. retriever: may have tentative matches of its own.
        screening: the quick first verification of images that are not examined thoroughly. details: how details are
        verified; None leaves them out.
        """
        self._snapshot, self._retriever, self._pool = snapshot, retriever, pool
        self._matching, self._verification, self._screening = matching, verification, screening
        self._details = details
        options = verification or VerificationOptions()
        self._glance = options if screening is None else replace(
            options, verifier=screening.verifier, iterations=min(options.iterations, screening.iterations))

    def verify(self, query: Features, ordinals: Sequence[int], *, thorough: int = 0, known: Sequence[Verified] = (),
               glance: bool = False) -> list[Verified]:
        """Verify some images, in their order, without overlays that recur among them.

        Args:
            thorough: how many of them, from the first on, are verified without screening. known: verifications of this
                query, which are not computed again. glance: as for `look_at`.
        """
        found = {one.ordinal: one for one in known}
        best = set(ordinals[:thorough])
        new = [ordinal for ordinal in ordinals if ordinal not in found]
        found |= {one.ordinal: one for one in self.looked_at(query, new, best, glance)}
        seen = [found[ordinal] for ordinal in ordinals]
        verified = without_recurring(self._pool, query, [Beside(one.features, one.found) for one in seen],
                                     self._verification)
        return self._without_recurring_details(
            query, [replace(one, found=again) for one, again in zip(seen, verified, strict=True)])

    def looked_at(self, query: Features, ordinals: Sequence[int], thorough: Set[int], glance: bool) -> list[Verified]:
        """Verify some images, each alone, in parallel. thorough, glance: as for `look_at`."""
        if self._snapshot is not None:
            self._snapshot.expect(ordinals)
        return side_by_side(self._pool, lambda ordinal: self.look_at(
            query, ordinal, thorough=ordinal in thorough, glance=glance), ordinals)

    def _without_recurring_details(self, query: Features, seen: list[Verified]) -> list[Verified]:
        """The same of their details."""
        detailed = {place: (one.features.details, one.details) for place, one in enumerate(seen)
                    if one.details is not None and one.features.details is not None}
        if not detailed or query.details is None or self._details is None:
            return seen
        verified = without_recurring(self._pool, query.details, [Beside(*one) for one in detailed.values()],
                                     self._details.verification)
        for place, again in zip(detailed, verified, strict=True):
            seen[place] = replace(seen[place], details=again)
        return seen

    def look_at(self, query: Features, ordinal: int, *, thorough: bool = True, glance: bool = False) -> Verified:
        """What geometry says of one image, looked at alone.

        Args:
            thorough: without a quick look first. glance: by as simple a transform, and as few hypotheses, as the quick
                look has, of all features that there are.
        """
        assert self._snapshot is not None, "who has none looks elsewhere"
        database = self._snapshot.features(ordinal)
        matches = None if self._retriever is None else self._retriever.matches(query, ordinal)
        verification = self._glance if glance else self._verification
        if matches is not None:
            found = verify(query, database, matches, verification)
            return Verified(ordinal, database, replace(found, worth=self._snapshot.worth(ordinal)))
        screening = None if thorough or glance else self._screening
        found = replace(match_and_verify(query, database, self._matching, verification, screening),
                        worth=self._snapshot.worth(ordinal))
        details = None if glance or self._details is None else verify_details(query, database, self._details)
        return Verified(ordinal, database, found, details)
