"""Looks at a query: as it is and, if nothing matches, turned.

The features of the network match turned photos only in part. A quick look at several angles, with few small levels of
the pyramid, finds from the transforms of the images that it confirms by how much the query is turned. The query is then
turned upright, and searched thoroughly. Details match at any angle: if those of an image agree, their transform gives
the angle at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from delf.errors import OptionError
from delf.query import Query
from delf.ranking import (
    BACKGROUND,
    CHANCE,
    DISTINCT_CHANCE,
    Candidates,
    detail_count,
    distinct_inliers,
    words_background,
    words_evidence,
)
from delf.retrieval import Mask, Retriever
from delf.settings import Options
from delf.types import Features, Verification
from delf.verification import angle
from delf.verifying import Verified, Verifier

_Found = TypeVar("_Found")
Turns = tuple[tuple[float, ...], ...]
TELLING = 12  # agreeing details from which their transform is not due to chance
UPRIGHT = 22.5  # degrees that make little or no difference to the features of a network


@dataclass(frozen=True)
class Effort(Options):
    """How closely a turned query is examined. The bounds give the same look for models of any stride.

    share: the largest scale, as a share of the largest scale of the model's pyramid.
    cells: most cells along the longest side of the feature map at that scale.
    features: how many features are kept, the best ones.
    candidates: how many candidates are verified.
    """

    share: float
    cells: int
    features: int
    candidates: int

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or min(self.cells, self.features, self.candidates) < 1:
            raise OptionError("The share of a look must be above 0 and at most 1, and its cells, features and "
                              "candidates 1 or more.")


@dataclass(frozen=True)
class TurningOptions(Options):
    """How a query without a match is tried at other angles. Chosen on classes that no training saw
    (`benchmarks/CHOICES.md`).

    angles: in degrees, in groups; a group is tried if the groups before it have found nothing.
    beside: how many angles of a later group are tried, those nearest to the best angle so far: a query that is turned
        by an eighth is found in part at the quarters beside it.
    glance: the first look at each angle.
    promising: inliers of the best glance from which a closer look follows.
    sure: inliers from which the closer look follows at once, before the other groups.
    close: the closer look.
    likely: probability of the best image of the closer look from which a thorough look follows.
    thorough: the thorough look.
    """

    angles: Turns = ()
    beside: int = 2
    glance: Effort = Effort(share=0.5, cells=24, features=100, candidates=10)
    promising: int = 9
    sure: int = 60
    close: Effort = Effort(share=0.5, cells=45, features=500, candidates=20)
    likely: float = 0.03
    thorough: Effort = Effort(share=1.0, cells=128, features=1000, candidates=50)

    def __post_init__(self) -> None:
        object.__setattr__(self, "angles", tuple(tuple(group) for group in self.angles))  # JSON and TOML have lists
        if min(self.promising, self.sure, self.beside) < 1:
            raise OptionError("The inliers from which closer looks follow, and the angles that are looked at beside "
                              "others, must be 1 or more.")
        if not all(isinstance(degrees, int | float) and abs(degrees) <= 360 for group in self.angles
                   for degrees in group):
            raise OptionError("The angles that are looked at are numbers of degrees from -360 to 360.")

    def best_quick(self, look: Callable[[float], _Found | None], inliers: Callable[[_Found], int]) -> _Found | None:
        """The best quick look, if a closer look is to follow; otherwise None.

        Args:
            look: looks at an angle, and returns None if it cannot. inliers: the number of inliers of a look.
        """
        looks: dict[float, _Found] = {}
        for angles in self.angles:
            for degrees in self._worth_a_look(angles, {seen: inliers(one) for seen, one in looks.items()}):
                found = look(degrees)
                if found is not None:
                    looks[degrees] = found
            if max(map(inliers, looks.values()), default=0) >= self.sure:
                break
        best = max(looks.values(), key=inliers, default=None)
        return best if best is not None and inliers(best) >= self.promising else None

    def _worth_a_look(self, angles: Sequence[float], seen: Mapping[float, int]) -> Sequence[float]:
        """The angles of a group that are worth a look, given the inliers at the angles that were tried before."""
        def found_beside(degrees: float) -> int:
            distances = {other: abs((degrees - other + 180) % 360 - 180) for other in seen}
            nearest = min(distances.values())
            return max(count for other, count in seen.items() if distances[other] == nearest)

        return sorted(angles, key=found_beside, reverse=True)[: self.beside] if seen else angles


@dataclass(frozen=True, eq=False)
class Look:
    """The result of searching with a query as it is, or turned by some angle.

    found: the candidates of the first retrieval. candidates: those of the last retrieval, which the support of
    confirmed images may have changed. verified: the first of the latter, examined by geometry.
    """

    query: Features
    found: Candidates
    candidates: Candidates
    verified: Sequence[Verified]

    def words_of(self, one: Verified) -> float:
        """The evidence of visual words for an image, if the score of the first retrieval is a similarity by words.

        Words cannot tell whether they belong to an overlay: so they count by the share of agreeing features that do not
        belong to one.
        """
        agreeing = one.inliers + len(one.found.overlay)
        similarity = self._scores.get(one.ordinal, 0.0) * (one.inliers / agreeing if agreeing else 1.0)
        return words_evidence(similarity, self._background)

    @cached_property
    def _background(self) -> float:
        """The similarity by words of images that geometry has not confirmed."""
        confirmed = [one.ordinal for one in self.verified if one.inliers > CHANCE or one.detail_inliers > TELLING]
        return words_background(*self.found.quantile_without(confirmed, BACKGROUND))

    @cached_property
    def distinct(self) -> dict[int, float]:
        """The distinct inliers of each image that was verified."""
        counts = distinct_inliers([one.found for one in self.verified])
        return dict(zip([one.ordinal for one in self.verified], counts.tolist(), strict=True))

    @cached_property
    def counts(self) -> dict[int, float]:
        """For each image that was verified, its distinct inliers and the details that agree, as one number."""
        return {one.ordinal: self.distinct[one.ordinal] + detail_count(one.detail_inliers) for one in self.verified}

    @property
    def inliers(self) -> int:
        """The inliers of the image that has the most."""
        return max((one.inliers for one in self.verified), default=0)

    @property
    def confirmed(self) -> float:
        """Distinct inliers and details beyond those that chance gives, of all images together."""
        return sum(max(0.0, count - DISTINCT_CHANCE) for count in self.counts.values())

    @property
    def upright(self) -> float:
        """By how many degrees the query must be turned left to lie as in the image with the most inliers."""
        return upright(max(self.verified, key=lambda one: one.inliers), self.query)

    @property
    def turn_by_details(self) -> float | None:
        """By how many degrees the query must be turned left, according to the details of the best image; None if these
        do not agree, or if the query need not be turned.
        """
        best = max(self.verified, key=lambda one: one.detail_inliers, default=None)
        return None if best is None else turn_by_details(best, self.query)

    @cached_property
    def _scores(self) -> dict[int, float]:
        return self.found.scores_of([one.ordinal for one in self.verified])


def upright(best: Verified, query: Features) -> float:
    """By how many whole degrees a query must be turned left to lie as in an image that has inliers."""
    return lying(best.found, query)


def turn_by_details(one: Verified, query: Features) -> float | None:
    """The same, as far as the details of an image say; None where they say nothing, or that it lies as it should."""
    if one.details is None or query.details is None or one.detail_inliers < TELLING:
        return None
    degrees = lying(one.details, query.details)
    return degrees if abs(degrees) > UPRIGHT else None


def lying(found: Verification, query: Features) -> float:
    """The same of features that have inliers."""
    transform, points = found.transform, query.keypoints[found.inliers[:, 0]]
    assert transform is not None, "an image with inliers has a transform"
    return float(round(-angle(transform, points.astype(np.float64))))


def seen_turned(query: Query, degrees: float, effort: Effort, *, whole: bool = False) -> Features | None:
    """The best features of a query turned left by an angle; None where it cannot be read.

    Args:
        whole: as for `delf.features.extract_turned`.
    """
    return query.turned(degrees, effort.share, effort.cells, whole=whole, most=effort.features)


class Looking:
    """Looks at one query after another."""

    def __init__(self, retriever: Retriever, verifier: Verifier, alive: Mask, *, candidates: int, thorough: int,
                 turning: TurningOptions, check: Callable[[], None] = lambda: None) -> None:
        """Look for images of one state of a collection.

        Args:
            alive: which images may be found. candidates: how many are verified, and thorough: how many of them without
                a quick look first. check: called before each step that takes time; what it raises ends the work.
        """
        self._retriever, self._verifier, self._alive = retriever, verifier, alive
        self._candidates, self._thorough, self._turning, self._check = candidates, thorough, turning, check

    def look(self, query: Features, candidates: Candidates | None = None, *, most: int | None = None) -> Look:
        """Find candidates, verify the best of them, and do so again with what these add to the query.

        Args:
            candidates: of this query, where they were found already. most: verify no more than so many of them.
        """
        self._check()
        found = self._retriever.candidates(query, self._alive) if candidates is None else candidates
        verified = self._verify(query, found, most)
        expanded = self._retriever.expanded(query, found, [(one.ordinal, one.found) for one in verified], self._alive)
        if expanded is None:
            return Look(query, found, found, verified)
        return Look(query, found, expanded, self._verify(query, expanded, most, verified))

    def turned(self, query: Query, first: Look, probability: Callable[[Look], float]) -> list[Look]:
        """Looks at a query that is turned, and the first one; foremost that by which all images are ranked.

        A query that nothing matches costs quick looks, and now and then a closer one; the thorough look is for those
        that may have a match.

        Args:
            probability: that of the best image of a look.
        """
        turning = self._turning
        if first.turn_by_details is not None:
            return self._with_thorough([first], query, first.turn_by_details)
        quick = turning.best_quick(lambda degrees: self._glance(query, degrees, turning.glance, glance=True),
                                   lambda look: look.inliers)
        close = None if quick is None else self._glance(query, quick.upright, turning.close)
        if close is None:
            return [first]
        looks = [first, close]
        if close.inliers and probability(close) >= turning.likely:
            return self._with_thorough(looks, query, close.upright)
        return sorted(looks, key=lambda look: -look.confirmed)

    def _with_thorough(self, looks: list[Look], query: Query, degrees: float) -> list[Look]:
        """Some looks and a thorough one at an angle, the one that confirms most first."""
        self._check()
        features = seen_turned(query, degrees, self._turning.thorough, whole=True)
        if features is not None:
            looks.append(self.look(features, most=self._turning.thorough.candidates))
        return sorted(looks, key=lambda look: -look.confirmed)

    def _glance(self, query: Query, degrees: float, effort: Effort, *, glance: bool = False) -> Look | None:
        """A look at a query turned left by an angle. glance: as for `Verifier.look_at`."""
        self._check()
        features = seen_turned(query, degrees, effort)
        if features is None:
            return None
        found = self._retriever.candidates(features, self._alive)
        best = found.best(min(self._candidates, effort.candidates)).images.tolist()
        verified = self._verifier.verify(features, best, thorough=len(best), glance=glance)
        return Look(features, found, found, verified)

    def _verify(self, query: Features, candidates: Candidates, most: int | None,
                known: Sequence[Verified] = ()) -> list[Verified]:
        count = self._candidates if most is None else min(most, self._candidates)
        best = candidates.best(count).images.tolist()
        return self._verifier.verify(query, best, thorough=self._thorough, known=known)
