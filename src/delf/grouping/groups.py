"""Groups of photos that show the same place, as they are shown: who represents each, and what joins its photos.

Which photos are a group is said by `delf.grouping.joining`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from delf.grouping.copies import DuplicateOptions, near_duplicates, originals
from delf.grouping.joining import GroupOptions, join_pairs, labelled
from delf.grouping.store import Pairs
from delf.types import IntArray


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
    parts = join_pairs(pairs, options).groups
    inside, labels = _inside(pairs, parts, options)
    order = np.argsort(labels, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    groups = [_group(inside.select(some), options.duplicates) for some in rows]
    return sorted(groups, key=lambda group: (-len(group), group.representative))


def joining(pairs: Pairs, groups: Iterable[Group], options: GroupOptions | None = None) -> Pairs:
    """The pairs that join photos: the likely pairs of two photos of one group."""
    return _inside(pairs, [group.images for group in groups], options or GroupOptions())[0]


def _inside(pairs: Pairs, parts: Iterable[Iterable[int]], options: GroupOptions) -> tuple[Pairs, IntArray]:
    """The likely pairs of two photos of one group, and the number of that group."""
    label = labelled(parts)
    first, second = (np.array([label.get(image, -1) for image in side.tolist()], np.int64)
                     for side in (pairs.first, pairs.second))
    rows = (first == second) & (first >= 0) & (pairs.probability >= options.likely)
    return pairs.select(rows), first[rows]


def _group(pairs: Pairs, options: DuplicateOptions) -> Group:
    """The group of the pairs of one group."""
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
