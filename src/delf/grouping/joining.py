"""Groups of photos from verified pairs: joined where enough pairs say so, the surest first.

Pairs are not independent: two towers that look alike do so in many photos. So what two groups need to become one grows
with the smaller of them: the evidence of one sure pair for its first photo, and of a likely one for each further; and
two large ones need a pair that is sure by itself, too. Pairs that a third photo confirms join first. So a single pair
joins no two groups of several photos, however sure it is; such bridges are cut and told. Copies of a photo say nothing
that the photo does not. (`delf.grouping.merging` has how groups become one.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.grouping.copies import DuplicateOptions, near_duplicates, originals
from delf.grouping.merging import Merging
from delf.grouping.store import Pairs
from delf.settings import Options
from delf.types import IntArray

Links = Iterable[tuple[int, int]]
TINY = 1e-9  # less evidence than any pair has; a probability of 1 is taken as one of that much less


@dataclass(frozen=True)
class GroupOptions(Options):
    """Which pairs join photos. Chosen on classes of landmarks (`benchmarks/CHOICES.md`).

    A pair of probability p is evidence of -log(1 - p), but at most `most`, and of nothing if p is below `likely`.
    Two groups are joined if their pairs have evidence of `enough` (2.3 is one pair of 90 %), and of `each` more for
    every photo of the smaller group but the first. A single pair never joins two groups of two photos or more. If both
    groups have `several` photos or more, one of the pairs must be `sure`. Near-duplicates are always together.
    """

    likely: float = 0.6
    enough: float = 2.3
    each: float = 1.0
    most: float = 5.0
    sure: float = 0.95
    several: int = 4
    duplicates: DuplicateOptions = field(default_factory=DuplicateOptions)

    def __post_init__(self) -> None:
        if not (0 <= self.likely <= self.sure <= 1 and 0 < self.enough <= self.most and self.each >= 0):
            raise OptionError("the probabilities of a likely and a sure pair satisfy 0 <= likely <= sure <= 1, enough "
                              "evidence is above 0 and at most that of one pair, and each is 0 or more, not "
                              f"{self.likely}, {self.sure}, {self.enough}, {self.most} and {self.each}")

    @classmethod
    def of(cls, probability: float) -> GroupOptions:
        """The usual rule, but that two photos are joined by one pair of this probability."""
        usual, enough = cls(), float(-np.log1p(-probability)) if probability < 1 else math.inf
        return replace(usual, enough=max(enough, TINY), most=max(enough, usual.most),
                       likely=min(probability, usual.likely),
                       duplicates=replace(usual.duplicates, sure=max(probability, usual.duplicates.sure)))


@dataclass(frozen=True)
class Bridge:
    """A pair that would join two groups and does not. first, second: images. evidence: of all pairs of the two groups;
    needed: what they would need. why: "single" where it is the only one, "sure" where large groups have no sure pair,
    "evidence" where there is too little, "decision" where a person keeps them apart.
    """

    first: int
    second: int
    probability: float
    inliers: int
    evidence: float
    needed: float
    why: str


@dataclass(frozen=True, eq=False)
class Joined:
    """What pairs have joined.

    groups: (M,) images of each, at least two, the representative first, then by how central they are; largest group
    first. originals: of each near-duplicate, the image that it is one of. partners: of each image in a group, with how
    many of its photos it makes a pair. bridges: the surest of each two groups first.
    """

    groups: tuple[tuple[int, ...], ...]
    originals: Mapping[int, int]
    partners: Mapping[int, int]
    bridges: tuple[Bridge, ...]


def join_pairs(pairs: Pairs, options: GroupOptions | None = None, *, merge: Links = (), split: Links = (),
               without: Collection[int] = ()) -> Joined:
    """The groups that verified pairs join.

    Args:
        merge, split: images that a person has put together, and kept apart; no two are both, and both may be chains.
        without: images that are in no group.
    """
    options = options or GroupOptions()
    out = np.array(sorted(without), np.int64)
    pairs = pairs.select(~(np.isin(pairs.first, out) | np.isin(pairs.second, out)))
    likely = pairs.select(pairs.probability >= options.likely)
    probability = np.clip(likely.probability.astype(np.float64), 0, 1 - TINY)
    split = [pair for pair in split if not set(pair) & set(without)]
    same = _near_duplicates(likely, options.duplicates, {image for pair in split for image in pair})
    copies = _copies(pairs, same)
    graph = Merging(options.enough, options.each, options.most, options.sure, options.several)
    for one, other in split:
        graph.keep_apart(one, other)
    for one, other in merge:
        if not {one, other} & set(without):
            graph.put_together(copies.get(one, one), copies.get(other, other))
    for image, others in sorted(same.items()):  # a chain of pictures is of one thing, although no single one is kept
        for other in sorted(others):
            graph.put_together(copies.get(image, image), copies.get(other, other))
    for links in _confirmed_first(_without_copies(likely, probability, copies)):
        for (one, other), sure in links.items():
            graph.add(one, other, sure)
        graph.join()
    members = [part for part in graph.parts(copies) if len(part) > 1]
    partners, strength = _centrality(likely, probability, labelled(members))
    ordered = [tuple(sorted(part, key=lambda image: (image in copies, -strength[image], image))) for part in members]
    ordered.sort(key=lambda part: (-len(part), part[0]))
    return Joined(tuple(ordered), copies, partners, tuple(_bridges(likely, probability, graph, copies, options)))


def labelled(groups: Iterable[Iterable[int]]) -> dict[int, int]:
    """The number of the group of each image that is in one."""
    return {image: number for number, part in enumerate(groups) for image in part}


def common_partners(first: IntArray, second: IntArray) -> IntArray:
    """(P,) how many images make a pair with both images of a pair. No pair is there twice."""
    partners: dict[int, set[int]] = defaultdict(set)
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        partners[one].add(other)
        partners[other].add(one)
    return np.array([len(partners[one] & partners[other])
                     for one, other in zip(first.tolist(), second.tolist(), strict=True)], np.int64)


def _near_duplicates(pairs: Pairs, options: DuplicateOptions, single: set[int]) -> dict[int, set[int]]:
    """The near-duplicates of each image. single: those that a person keeps apart from others, which have none."""
    found = near_duplicates(pairs, options)
    return {image: others - single for image, others in found.items() if image not in single}


def _copies(pairs: Pairs, same: Mapping[int, Collection[int]]) -> dict[int, int]:
    """For each near-duplicate, the image that is kept: the one with the most partners."""
    images, counts = np.unique(np.concatenate([pairs.first, pairs.second]), return_counts=True)
    order = images[np.lexsort((images, -counts))].tolist()
    return {image: kept for image, kept in originals(order, same).items() if kept is not None}


def _without_copies(pairs: Pairs, probability: NDArray[np.float64],
                    copies: Mapping[int, int]) -> dict[tuple[int, int], float]:
    """Pairs of photos that are no copies, the lower one first; of several, of their copies, the surest."""
    surest: dict[tuple[int, int], float] = {}
    for first, second, sure in zip(pairs.first.tolist(), pairs.second.tolist(), probability.tolist(), strict=True):
        one, other = sorted((copies.get(first, first), copies.get(second, second)))
        if one != other:
            surest[one, other] = max(sure, surest.get((one, other), 0.0))
    return surest


def _confirmed_first(links: Mapping[tuple[int, int], float]) -> Iterable[dict[tuple[int, int], float]]:
    """Pairs that a third photo confirms, which makes one with both, and then the others: what is a bridge shows when
    there are groups on either side.
    """
    ends = np.array(list(links), np.int64).reshape(-1, 2)
    confirmed = (common_partners(ends[:, 0], ends[:, 1]) > 0).tolist()
    for wanted in (True, False):
        yield {pair: sure for (pair, sure), there in zip(links.items(), confirmed, strict=True) if there == wanted}


def _centrality(pairs: Pairs, probability: NDArray[np.float64],
                label: Mapping[int, int]) -> tuple[dict[int, int], dict[int, float]]:
    """How many photos of its group an image makes a pair with, and the sum of their probabilities (the degree and the
    strength of a vertex).
    """
    partners: dict[int, int] = dict.fromkeys(label, 0)
    strength: dict[int, float] = dict.fromkeys(label, 0.0)
    for one, other, sure in zip(pairs.first.tolist(), pairs.second.tolist(), probability.tolist(), strict=True):
        if one in label and label[one] == label.get(other):
            for image in (one, other):
                partners[image] += 1
                strength[image] += sure
    return partners, strength


def _bridges(pairs: Pairs, probability: NDArray[np.float64], graph: Merging, copies: Mapping[int, int],
             options: GroupOptions) -> list[Bridge]:
    """The surest pair of each two groups that pairs would join if one sure pair were enough."""
    surest: dict[tuple[int, int], int] = {}
    for row in np.argsort(-probability, kind="stable").tolist():
        one, other = (graph.root(copies.get(image, image)) for image in (int(pairs.first[row]), int(pairs.second[row])))
        if one != other:
            surest.setdefault((min(one, other), max(one, other)), row)
    found = []
    for (one, other), row in surest.items():
        evidence, needed, decided = graph.evidence(one, other), graph.needed(one, other), graph.are_apart(one, other)
        if evidence >= options.enough or decided:
            why = "decision" if decided else "evidence" if evidence < needed else graph.obstacle(one, other)
            found.append(Bridge(int(pairs.first[row]), int(pairs.second[row]), float(probability[row]),
                                int(pairs.inliers[row]), evidence, needed, why))
    return sorted(found, key=lambda bridge: (-bridge.evidence, bridge.first, bridge.second))
