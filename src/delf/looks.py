"""Looks at a query: as it is and, where nothing is a match then, turned.

The features know other angles only in part. A quick look, with few small levels of the pyramid, says by the transforms
of the images that it confirms how a query lies; it is then turned upright by that, and looked at thoroughly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from delf.errors import OptionError
from delf.query import Query
from delf.ranking import DISTINCT_CHANCE, Candidates, distinct_inliers, words_evidence
from delf.retrieval import Mask, Retriever
from delf.types import Features
from delf.verification import angle
from delf.verifying import Verified, Verifier

_Found = TypeVar("_Found")
Turns = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class TurningOptions:
    """How a query without a match is looked at turned.

    angles: in degrees, those of a group where the groups before found nothing. quick_scale: the largest level of a
    quick look; all levels up to the default take an eighth of the time of all. quick_candidates: that it verifies.
    promising: inliers of a quick look from which a thorough one follows: half of what chance gives. followed: how many
    quick looks of a group thorough ones may follow, the best first. thorough_scale: the largest level of those.
    """

    angles: Turns = ()
    quick_scale: float = 0.7071
    quick_candidates: int = 30
    promising: int = 10
    followed: int = 2
    thorough_scale: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "angles", tuple(tuple(group) for group in self.angles))  # JSON and TOML have lists
        if min(self.quick_scale, self.thorough_scale) <= 0 or min(self.quick_candidates, self.promising,
                                                                  self.followed) < 1:
            raise OptionError("The scales of a turned look must be above 0, and its counts 1 or more.")

    def promising_of(self, quick: Sequence[_Found], inliers: Callable[[_Found], int]) -> list[_Found]:
        """The quick looks that thorough ones follow, best first.

        Args:
            inliers: how many a quick look has.
        """
        best = sorted(quick, key=inliers, reverse=True)[: self.followed]
        return [one for one in best if inliers(one) >= self.promising]


@dataclass(frozen=True, eq=False)
class Look:
    """What was found with the features of a query as it is, or turned.

    found: the candidates of the first retrieval. candidates: those of the last. verified: the first of the latter.
    """

    query: Features
    found: Candidates
    candidates: Candidates
    verified: Sequence[Verified]

    def evidence_of(self, ordinal: int) -> float:
        """What the score of an image in the first retrieval says, where that is a similarity by words."""
        return words_evidence(self._scores.get(ordinal, 0.0))

    @cached_property
    def distinct(self) -> dict[int, float]:
        """The distinct inliers of each image that was verified."""
        counts = distinct_inliers([one.found for one in self.verified])
        return dict(zip([one.ordinal for one in self.verified], counts.tolist(), strict=True))

    @property
    def inliers(self) -> int:
        """Of the image that has most."""
        return max((one.inliers for one in self.verified), default=0)

    @property
    def confirmed(self) -> float:
        """Distinct inliers beyond those that chance gives, of all images together."""
        return sum(max(0.0, count - DISTINCT_CHANCE) for count in self.distinct.values())

    @property
    def upright(self) -> float:
        """By how many degrees the query must be turned left to lie as in the image that has most inliers."""
        return upright(max(self.verified, key=lambda one: one.inliers), self.query)

    @cached_property
    def _scores(self) -> dict[int, float]:
        return dict(zip(self.found.images.tolist(), self.found.scores.tolist(), strict=True))


def upright(best: Verified, query: Features) -> float:
    """By how many whole degrees a query must be turned left to lie as in an image that has inliers."""
    transform, points = best.found.transform, query.keypoints[best.found.inliers[:, 0]]
    assert transform is not None, "an image with inliers has a transform"
    return float(round(-angle(transform, points.astype(np.float64))))


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

    def look(self, query: Features, candidates: Candidates | None = None) -> Look:
        """Find candidates, verify the best of them, and do so again with what these add to the query.

        Args:
            candidates: of this query, where they were found already.
        """
        self._check()
        found = self._retriever.candidates(query, self._alive) if candidates is None else candidates
        verified = self._verify(query, found)
        expanded = self._retriever.expanded(query, found, [(one.ordinal, one.found) for one in verified], self._alive)
        if expanded is None:
            return Look(query, found, found, verified)
        return Look(query, found, expanded, self._verify(query, expanded, verified))

    def turned(self, query: Query, first: Look, is_match: Callable[[Sequence[Look]], bool]) -> list[Look]:
        """Looks at a query that is turned, and the first one; foremost that by which all images are ranked.

        Args:
            is_match: whether there is a match, given the looks so far.
        """
        looks, quick = [first], list[Look]()
        for angles in self._turning.angles:
            found = [one for degrees in angles if (one := self._quick(query, degrees)) is not None]
            quick += found
            for best in self._turning.promising_of(found, lambda one: one.inliers):
                self._check()
                features = query.turned(best.upright, self._turning.thorough_scale)
                if features is None:
                    continue
                looks = sorted([*looks, self.look(features)], key=lambda one: -one.confirmed)
                if is_match([*looks, *quick]):
                    return [*looks, *quick]
        return [*looks, *quick]

    def _quick(self, query: Query, degrees: float) -> Look | None:
        self._check()
        features = query.turned(degrees, self._turning.quick_scale)
        if features is None:
            return None
        found = self._retriever.candidates(features, self._alive)
        best = found.images[: min(self._candidates, self._turning.quick_candidates)].tolist()
        return Look(features, found, found, self._verifier.verify(features, best))

    def _verify(self, query: Features, candidates: Candidates, known: Sequence[Verified] = ()) -> list[Verified]:
        return self._verifier.verify(query, candidates.images[: self._candidates].tolist(), thorough=self._thorough,
                                     known=known)
