"""Groups that become one by the evidence of pairs, those first that have most beyond what they need.

This is agglomerative clustering in which the sum of the evidence between two groups must grow with the smaller one, so
that it is near to average linkage; photos that no pair connects say nothing, as two sides of a place have none.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Link(NamedTuple):
    """What the pairs of two groups say: the sum of their evidence, the probability of the surest, and their number."""

    evidence: float
    surest: float
    pairs: int


NO_LINK = Link(0.0, 0.0, 0)


class Merging:
    """Photos in groups, each of which is known by its lowest photo, its root. Parameters as in `GroupOptions`."""

    def __init__(self, enough: float, each: float, most: float, sure: float, several: int) -> None:
        self._enough, self._each, self._most, self._sure, self._several = enough, each, most, sure, several
        self._parents: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._links: dict[int, dict[int, Link]] = defaultdict(dict)  # between roots
        self._apart: dict[int, set[int]] = defaultdict(set)

    def add(self, one: int, other: int, probability: float) -> None:
        """A pair of two photos, no pair twice."""
        first, second = self.root(self._known(one)), self.root(self._known(other))
        if first != second:
            link = Link(min(-float(np.log1p(-probability)), self._most), probability, 1)
            self._connect(first, second, link)

    def keep_apart(self, one: int, other: int) -> None:
        """Two photos are never joined."""
        self._apart[self._known(one)].add(self._known(other))
        self._apart[other].add(one)

    def put_together(self, one: int, other: int) -> None:
        """Two photos are joined."""
        first, second = self.root(self._known(one)), self.root(self._known(other))
        if first != second:
            self._unite(first, second)

    def join(self) -> None:
        """Join what may be. The order in which pairs were added makes no difference."""
        waiting = [(-self._beyond(one, other), one, other) for one, others in self._links.items()
                   for other in others if one < other]
        heapq.heapify(waiting)
        while waiting:
            beyond, one, other = heapq.heappop(waiting)
            if beyond > 0:
                break
            there = one in self._sizes and other in self._sizes and other in self._links[one]
            if not there or self._beyond(one, other) != -beyond or not self._may_join(one, other):
                continue  # it has become another one, which waits as that
            root = self._unite(one, other)
            for third in self._links[root]:
                heapq.heappush(waiting, (-self._beyond(root, third), min(root, third), max(root, third)))

    def evidence(self, one: int, other: int) -> float:
        """The evidence of all pairs between two groups."""
        return self._links[one].get(other, NO_LINK).evidence

    def needed(self, one: int, other: int) -> float:
        """The evidence that two groups need to become one."""
        return self._enough + self._each * (min(self._sizes[one], self._sizes[other]) - 1)

    def obstacle(self, one: int, other: int) -> str:
        """What keeps two groups from becoming one although they have the evidence: "single" where one pair is all that
        joins them, "sure" where they are large and no pair is sure; else empty.
        """
        smaller, link = min(self._sizes[one], self._sizes[other]), self._links[one].get(other, NO_LINK)
        if smaller > 1 and link.pairs == 1:
            return "single"
        return "sure" if smaller >= self._several and link.surest < self._sure else ""

    def are_apart(self, one: int, other: int) -> bool:
        """Whether two groups have photos that are kept apart."""
        return other in self._apart[one]

    def root(self, image: int) -> int:
        """What stands for the group of a photo."""
        while self._parents.get(image, image) != image:
            self._parents[image] = image = self._parents.get(self._parents[image], self._parents[image])
        return image

    def parts(self, copies: Mapping[int, int]) -> list[list[int]]:
        """The images of each group, copies included."""
        parts: dict[int, list[int]] = defaultdict(list)
        for image in sorted({*self._parents, *copies, *copies.values()}):
            parts[self.root(copies.get(image, image))].append(image)
        return list(parts.values())

    def _known(self, image: int) -> int:
        if image not in self._parents:
            self._parents[image], self._sizes[image] = image, 1
        return image

    def _beyond(self, one: int, other: int) -> float:
        return self._links[one][other].evidence - self.needed(one, other)

    def _may_join(self, one: int, other: int) -> bool:
        return not self.are_apart(one, other) and not self.obstacle(one, other)

    def _connect(self, one: int, other: int, link: Link) -> None:
        """Add to what pairs say of two groups."""
        known = self._links[one].get(other, NO_LINK)
        both = Link(known.evidence + link.evidence, max(known.surest, link.surest), known.pairs + link.pairs)
        self._links[one][other] = self._links[other][one] = both

    def _unite(self, one: int, other: int) -> int:
        """Make one group of two, and return its root."""
        low, high = sorted((one, other))
        self._parents[high] = low
        self._sizes[low] += self._sizes.pop(high)
        self._links[low].pop(high, None)
        for third, link in self._links.pop(high, {}).items():
            if third != low:
                del self._links[third][high]
                self._connect(low, third, link)
        for third in self._apart.pop(high, set()):
            self._apart[third].discard(high)
            self._apart[third].add(low)
            self._apart[low].add(third)
        return low
