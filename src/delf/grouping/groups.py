"""Groups of photos that show the same place: what the confirmed pairs of a collection join.

A connected component of confirmed pairs is not yet a place. One wrong pair joins two places, and one photo of a hall
that looks like another one does, and then everything that hangs on either. Wrong pairs stand alone, as a rule: two
photos of one place have a third one that makes a pair with both. So a pair joins its photos where it is sure by itself,
or where it is likely and a third photo confirms it (`GroupOptions`). A likely pair that alone holds two parts together
joins nothing: what hangs on it is a group of its own, or a photo in no group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from delf.errors import OptionError
from delf.grouping.store import Pairs
from delf.types import IntArray


@dataclass(frozen=True)
class DuplicateOptions:
    """What counts as nearly the same picture: saved again, in another size, lighter, slightly cropped.

    share, area: as in `Pairs`, at least. displacement: as there, at most. Another photo from the same spot differs in
    what moves and in how the camera is held, and has fewer inliers. (`benchmarks/grouping.py --duplicates` has what
    copies of photos look like, and what other photos of a place do.)
    """

    share: float = 0.25
    area: float = 0.25
    displacement: float = 0.08

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.area <= 1 and self.displacement >= 0):
            raise OptionError("the share and the area of near-duplicates are from 0 to 1, and their displacement 0 or "
                              f"more, not {self.share}, {self.area} and {self.displacement}")


@dataclass(frozen=True)
class GroupOptions:
    """Which pairs join photos.

    sure: the probability from which a pair does by itself. likely: that from which it does where other photos confirm
    it, and support: how many, each making a pair with both that is likely too. All three were chosen on classes of
    landmarks that no training saw (`benchmarks/grouping.py`).
    """

    sure: float = 0.95
    likely: float = 0.6
    support: int = 1
    duplicates: DuplicateOptions = field(default_factory=DuplicateOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.likely <= self.sure <= 1 or self.support < 0:
            raise OptionError("the probabilities of a likely and of a sure pair satisfy 0 <= likely <= sure <= 1, and "
                              f"the support is 0 or more, not {self.likely}, {self.sure} and {self.support}")


@dataclass(frozen=True)
class Member:
    """A photo of a group.

    image: its ordinal. partners: how many photos of the group it makes a pair with; closest: the one with most inliers,
    and inliers: those. duplicate_of: the photo of the group that it is nearly the same picture as, if it is.
    """

    image: int
    partners: int
    closest: int
    inliers: int
    duplicate_of: int | None = None


@dataclass(frozen=True)
class Group:
    """Photos of one place, at least two: the representative first, which has most partners, then by partners.

    pairs: how many join them.
    """

    members: tuple[Member, ...]
    pairs: int

    def __len__(self) -> int:
        return len(self.members)

    @property
    def representative(self) -> int:
        """The ordinal of the photo that most of the others are joined to."""
        return self.members[0].image

    @property
    def images(self) -> tuple[int, ...]:
        """The ordinals of the members, in their order."""
        return tuple(member.image for member in self.members)

    @property
    def duplicates(self) -> int:
        """How many members are nearly the same picture as another one."""
        return sum(member.duplicate_of is not None for member in self.members)


def find_groups(pairs: Pairs, options: GroupOptions | None = None) -> list[Group]:
    """The groups that confirmed pairs join, largest first; of equals, by the ordinal of the representative."""
    options = options or GroupOptions()
    joined = joining(pairs, options)
    labels = components(joined.first, joined.second)
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    groups = [_group(joined.select(rows), options.duplicates) for rows in parts]
    return sorted(groups, key=lambda group: (-len(group), group.representative))


def joining(pairs: Pairs, options: GroupOptions | None = None) -> Pairs:
    """Those of the pairs that join photos: the sure ones, and the likely ones that other photos confirm."""
    options = options or GroupOptions()
    likely = pairs.select(pairs.probability >= options.likely)
    confirmed = common_partners(likely.first, likely.second) >= options.support
    return likely.select(confirmed | (likely.probability >= options.sure))


def common_partners(first: IntArray, second: IntArray) -> IntArray:
    """(P,) how many images make a pair with both images of a pair. No pair is there twice."""
    partners: dict[int, set[int]] = defaultdict(set)
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        partners[one].add(other)
        partners[other].add(one)
    return np.array([len(partners[one] & partners[other])
                     for one, other in zip(first.tolist(), second.tolist(), strict=True)], np.int64)


def _group(pairs: Pairs, options: DuplicateOptions) -> Group:
    """The group of the pairs of one component."""
    ends = np.concatenate([pairs.first, pairs.second])
    others, inliers = np.concatenate([pairs.second, pairs.first]), np.tile(pairs.inliers, 2)
    images, starts, partners = np.unique(ends[np.argsort(ends, kind="stable")], return_index=True, return_counts=True)
    order = np.lexsort((others, -inliers, ends))  # image by image, and of each the closest first
    closest, most = others[order][starts], inliers[order][starts]
    totals = np.add.reduceat(inliers[order], starts)
    order = np.lexsort((images, -totals, -partners))
    found = originals(images[order].tolist(), near_duplicates(pairs, options))
    members = [Member(int(images[place]), int(partners[place]), int(closest[place]), int(most[place]),
                      found[int(images[place])]) for place in order.tolist()]
    return Group(tuple(members), len(pairs))


def originals(images: Iterable[int], same: Mapping[int, Collection[int]]) -> dict[int, int | None]:
    """For each image, the one that it is a near-duplicate of, or None where it is kept itself.

    Those that come first are kept, so that an image is a near-duplicate of one that is kept: in a chain a, b, c in
    which only neighbours are nearly the same picture, c is kept beside a, although b lies between them.

    Args:
        images: the best first. same: what `near_duplicates` gives.
    """
    places: dict[int, int] = {}  # of those that are kept
    found: dict[int, int | None] = {}
    for image in images:
        found[image] = min((other for other in same.get(image, ()) if other in places), key=places.__getitem__,
                           default=None)
        if found[image] is None:
            places[image] = len(places)
    return found


def near_duplicates(pairs: Pairs, options: DuplicateOptions | None = None) -> dict[int, set[int]]:
    """The images that are nearly the same picture as an image; only those that have some are keys.

    Args:
        pairs: those that join photos (`joining`).
    """
    options = options or DuplicateOptions()
    same: dict[int, set[int]] = defaultdict(set)
    near = ((pairs.share >= options.share) & (pairs.area >= options.area)
            & (pairs.displacement <= options.displacement))
    for first, second in zip(pairs.first[near].tolist(), pairs.second[near].tolist(), strict=True):
        same[first].add(second)
        same[second].add(first)
    return dict(same)


def components(first: IntArray, second: IntArray) -> IntArray:
    """(P,) for each edge of a graph, the lowest vertex of the connected component that it is in (union-find)."""
    images, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    parents = list(range(len(images)))

    def root(vertex: int) -> int:
        while parents[vertex] != vertex:
            parents[vertex] = vertex = parents[parents[vertex]]
        return vertex

    for one, other in zip(ends[: len(first)].tolist(), ends[len(first) :].tolist(), strict=True):
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return images[[root(vertex) for vertex in ends[: len(first)].tolist()]]
