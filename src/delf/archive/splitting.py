"""Which photos of a data set are for training, validation, the index and queries: disjoint by group.

Groups that a verified pair connects are one family, and go to one set together, so that nothing that is learnt from is
asked for later. What is decided by chance is decided by a hash of the photo by which a group is known: it never changes
when photos are added, but for families that become one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.archive.geography import distances_km
from delf.archive.tables import PAIRS, LandmarkRow, PhotoRow, collection_of, read_landmarks, read_photos, read_state
from delf.collection import Collection
from delf.errors import DelfError, OptionError
from delf.grouping.carrying import Carried, load_carried
from delf.images import display_path
from delf.settings import Options
from delf.types import IntArray

SETS = ("train", "val", "holdout", "index", "query", "unused")
KINDS = ("answerable", "near", "far", "unknown")  # of queries; without an answer but for the first
POSITIVE = ("representative", "member")
LOOKED_AT = 20  # photos, for each query without an answer that is wanted


@dataclass(frozen=True)
class SplitOptions(Options):
    """How a data set is split.

    holdout, test: shares of the groups for validation (whole groups that no training sees) and for the index and the
    queries; the rest is trained on. val: share of the photos of the groups that are trained on, to watch training by.
    minimum: different photos that a group needs to be learnt from or asked for. queries: share of a test group's photos
    that are queries, one at least. unanswerable: queries without an answer, for each one that has one, at most.
    related: the probability from which a pair of two groups makes them one family; doubtful: from which a photo may
    show what another does, so that it is neither right nor wrong; silent: below which nothing verifies; leaking: from
    which a pair of two sets is told. near_km: to the nearest photo of the index, of a query without an answer that
    counts as near.
    """

    holdout: float = 0.15
    test: float = 0.35
    val: float = 0.15
    minimum: int = 3
    queries: float = 0.2
    unanswerable: float = 0.5
    related: float = 0.8
    doubtful: float = 0.3
    silent: float = 0.1
    leaking: float = 0.6
    near_km: float = 25.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.holdout, self.test, self.val) < 0 or self.holdout + self.test > 1 or self.val >= 1:
            raise OptionError("holdout, test and val are shares, and the first two together at most 1, not "
                              f"{self.holdout}, {self.test} and {self.val}")
        if self.minimum < 2 or not 0 < self.queries < 1 or self.unanswerable < 0:
            raise OptionError("minimum is 2 or more, queries a share between 0 and 1, and unanswerable 0 or more, not "
                              f"{self.minimum}, {self.queries} and {self.unanswerable}")
        if not 0 <= self.silent <= self.doubtful <= self.related <= 1:
            raise OptionError("silent, doubtful and related are probabilities in this order, not "
                              f"{self.silent}, {self.doubtful} and {self.related}")


@dataclass(frozen=True)
class Query:
    """A query. kind: one of `KINDS`. easy, hard: photos of its group in the index, which make a verified pair with it,
    or do not. junk: photos of the index that may show the same.
    """

    photo: PhotoRow
    kind: str
    easy: tuple[str, ...] = ()
    hard: tuple[str, ...] = ()
    junk: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leak:
    """A pair of photos in two sets that should have nothing in common."""

    first: str
    second: str
    first_set: str
    second_set: str
    probability: float
    inliers: int


@dataclass(frozen=True, eq=False)
class Split:
    """A data set that is split. Photos are named by their key.

    photos: by key, one file for each content. sets: one of `SETS` for each. queries: with what they should find. leaks:
    verified pairs across sets. model: by whose features groups were made, where that is still known.
    """

    photos: Mapping[str, PhotoRow]
    landmarks: Mapping[int, LandmarkRow]
    sets: Mapping[str, str]
    queries: tuple[Query, ...]
    leaks: tuple[Leak, ...]
    options: SplitOptions
    model: str | None = None

    def of(self, *names: str) -> list[PhotoRow]:
        """The photos of some sets, by the bytes of their keys."""
        return [self.photos[key] for key in sorted(self.photos) if self.sets[key] in names]

    def counts(self) -> dict[str, int]:
        """How many photos each set has, and how many queries of each kind there are."""
        sets, kinds = Counter(self.sets.values()), Counter(query.kind for query in self.queries)
        return {**{name: sets[name] for name in SETS}, **{kind: kinds[kind] for kind in KINDS}}


def split_dataset(folder: str | Path, options: SplitOptions | None = None) -> Split:
    """Split what `build_dataset` has made; nothing is written.

    Raises:
        DelfError: there is no data set, or it has too few groups for an index and queries.
    """
    folder, options = Path(folder), options or SplitOptions()
    rows = [row for row in read_photos(folder) if row.role not in ("copy", "removed")]
    landmarks = {row.group: row for row in read_landmarks(folder)}
    carried = load_carried(folder / PAIRS)
    if carried is None:
        raise DelfError(f"{display_path(folder)} has no pairs.npz, or a damaged one: run 'delf dataset build' again, "
                        "which finds the pairs anew")
    photos = {row.key: row for row in rows}
    pairs = _Pairs(carried, photos)
    roles = _roles(photos, landmarks, read_state(folder).anchors, pairs, options)
    if not roles.test:
        raise DelfError(f"{display_path(folder)} has no group for an index and queries: of {len(landmarks):,} groups "
                        f"{len(roles.eligible):,} have {options.minimum} different photos or more. Add photos, or "
                        "ask for less with --set minimum=2 --set test=0.5; near-duplicates and copies do not count")
    sets = _sets(photos, roles, options)
    for key, row in photos.items():
        if row.group is None and any(sets[partner] in ("train", "val", "holdout")
                                     for partner in pairs.partners(key, options.doubtful)):
            sets[key] = "unused"
    queries = _with_silent(_answerable(photos, sets, pairs, options), photos, sets, pairs, options)
    leaks = tuple(_leaks(photos, sets, pairs, options))
    return Split(photos, landmarks, sets, tuple(queries), leaks, options, _model_of(folder))


def _model_of(folder: Path) -> str | None:
    if not Collection.exists(place := collection_of(folder)):
        return None
    with Collection.open(place) as collection:
        model = collection.about["model"]
        return f"{model['name']} ({model['fingerprint'][:12]})"


class _Pairs:
    """The verified pairs of some photos, by key."""

    def __init__(self, carried: Carried, photos: Mapping[str, PhotoRow]) -> None:
        self.of: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
        for (one, other), sure, inliers in zip(carried.pairs.tolist(), carried.probability.tolist(),
                                               carried.inliers.tolist(), strict=True):
            first, second = carried.keys[one], carried.keys[other]
            if first in photos and second in photos:
                self.of[first][second] = self.of[second][first] = (sure, inliers)

    def partners(self, key: str, least: float) -> list[str]:
        """The photos that make a pair of this probability, or a higher one."""
        return [other for other, (sure, _) in self.of.get(key, {}).items() if sure >= least]


@dataclass(frozen=True)
class _Roles:
    """What groups are for: the eligible ones, and of these those that are trained on, held out, and searched."""

    eligible: frozenset[int]
    train: frozenset[int]
    holdout: frozenset[int]
    test: frozenset[int]


def _roles(photos: Mapping[str, PhotoRow], landmarks: Mapping[int, LandmarkRow], known_by: Mapping[int, str],
           pairs: _Pairs, options: SplitOptions) -> _Roles:
    eligible = frozenset(number for number, row in landmarks.items()
                         if row.landmark != "no" and row.distinct >= options.minimum)
    families = _families(photos, eligible, pairs, options.related)
    order = sorted(families, key=lambda family: _chance(known_by.get(min(family), str(min(family))), options.seed))
    parts: dict[str, set[int]] = {"test": set(), "holdout": set(), "train": set()}
    limits = {"test": round(options.test * len(eligible)), "holdout": round(options.holdout * len(eligible))}
    if options.test and families:
        limits["test"] = max(limits["test"], min(map(len, families)))
    for family in order:
        place = next((name for name, limit in limits.items() if len(parts[name]) + len(family) <= limit), "train")
        parts[place] |= family
    return _Roles(eligible, frozenset(parts["train"]), frozenset(parts["holdout"]), frozenset(parts["test"]))


def _families(photos: Mapping[str, PhotoRow], eligible: Iterable[int], pairs: _Pairs,
              related: float) -> list[frozenset[int]]:
    """Groups that pairs connect. Where most would be one family, pairs say too little, and each is its own."""
    own = set(eligible)
    links = sorted({(min(one, other), max(one, other)) for key, row in photos.items() if (one := row.group) in own
                    for partner in pairs.partners(key, related)
                    if (other := photos[partner].group) in own and one != other and one is not None
                    and other is not None})
    families: dict[int, set[int]] = {number: {number} for number in own}
    if links:
        first, second = np.array(links, np.int64).T
        labels = components(first, second).tolist()
        for (one, other), label in zip(links, labels, strict=True):
            families[label] |= {one, other}
        inside = {number for label in set(labels) for number in families[label] if number != label}
        families = {label: family for label, family in families.items() if label not in inside}
    if max(map(len, families.values()), default=0) > len(own) / 2:
        return [frozenset({number}) for number in sorted(own)]
    return [frozenset(family) for _, family in sorted(families.items())]


def _sets(photos: Mapping[str, PhotoRow], roles: _Roles, options: SplitOptions) -> dict[str, str]:
    """The set of each photo, before queries without an answer are taken from the index."""
    sets: dict[str, str] = {}
    members: dict[int, list[str]] = defaultdict(list)
    for key, row in photos.items():
        if row.group is None:
            sets[key] = "index"  # where nobody asks for it
        elif row.role in POSITIVE and row.group in roles.eligible:
            members[row.group].append(key)
        else:
            sets[key] = "unused"  # near-duplicates of another photo, and groups that are small, or no landmark
    for number, keys in members.items():
        keys.sort(key=lambda key: _chance(key, options.seed))
        if number in roles.holdout:
            sets |= dict.fromkeys(keys, "holdout")
        elif number in roles.test:
            count = min(max(1, round(options.queries * len(keys))), len(keys) - 1)
            sets |= {key: "query" if place < count else "index" for place, key in enumerate(keys)}
        else:
            count = min(round(options.val * len(keys)), len(keys) - 1)
            sets |= {key: "val" if place < count else "train" for place, key in enumerate(keys)}
    return sets


def _answerable(photos: Mapping[str, PhotoRow], sets: Mapping[str, str], pairs: _Pairs,
                options: SplitOptions) -> list[Query]:
    groups: dict[int, list[str]] = defaultdict(list)
    for key, row in photos.items():
        if row.group is not None and sets[key] == "index":
            groups[row.group].append(key)
    made = []
    for key in sorted(key for key, name in sets.items() if name == "query"):
        number = photos[key].group
        right = sorted(groups[number or 0])
        verified = set(pairs.partners(key, options.related))
        own = [key, *right]
        junk = {partner for one in own for partner in pairs.partners(one, options.doubtful)
                if sets[partner] == "index" and photos[partner].group != number}
        made.append(Query(photos[key], "answerable", tuple(one for one in right if one in verified),
                          tuple(one for one in right if one not in verified), tuple(sorted(junk))))
    return made


def _with_silent(queries: list[Query], photos: Mapping[str, PhotoRow], sets: dict[str, str], pairs: _Pairs,
                 options: SplitOptions) -> list[Query]:
    """The queries, and photos in no group that become queries without an answer: nothing of the index verifies with
    them. They are taken from the index, near ones and far ones in turn.
    """
    wanted = round(options.unanswerable * len(queries))
    alone = sorted((key for key, row in photos.items() if row.group is None and sets[key] == "index"
                    and not pairs.partners(key, options.silent)), key=lambda key: _chance(key, options.seed))
    index = np.array([(row.latitude, row.longitude) for key, row in photos.items()
                      if sets[key] == "index" and row.group is not None and row.latitude is not None],
                     np.float64).reshape(-1, 2)
    kinds: dict[str, list[str]] = defaultdict(list)
    for key in alone[: LOOKED_AT * wanted]:
        kinds[_kind(photos[key], index, options.near_km)].append(key)
    turns = [(place, kind, key) for kind, keys in kinds.items() for place, key in enumerate(keys)]
    found = []
    for _, kind, key in sorted(turns, key=lambda turn: (turn[0], KINDS.index(turn[1])))[:wanted]:
        sets[key] = "query"
        found.append(Query(photos[key], kind))
    return [*queries, *sorted(found, key=lambda query: query.photo.key)]


def _kind(photo: PhotoRow, index: np.ndarray[tuple[int, int], np.dtype[np.float64]], near_km: float) -> str:
    """How far a query without an answer is from what is asked for."""
    if photo.latitude is None or photo.longitude is None or not len(index):
        return "unknown"
    here = np.array([[photo.latitude, photo.longitude]])
    return "near" if distances_km(index, here).min() <= near_km else "far"


def _leaks(photos: Mapping[str, PhotoRow], sets: Mapping[str, str], pairs: _Pairs,
           options: SplitOptions) -> Sequence[Leak]:
    """Pairs of sets that should have nothing in common. `val` has photos of what is trained on, and a query is to find
    what is in the index.
    """
    meets = {"train": "train", "val": "train", "holdout": "holdout", "index": "test", "query": "test"}
    found = []
    for first in sorted(pairs.of):
        for second, (sure, inliers) in pairs.of[first].items():
            one, other = sets[first], sets[second]
            apart = "unused" not in (one, other) and meets[one] != meets[other]
            if first < second and sure >= options.leaking and apart:
                found.append(Leak(photos[first].file, photos[second].file, one, other, sure, inliers))
    return sorted(found, key=lambda leak: (-leak.probability, leak.first, leak.second))


def _chance(key: str, seed: int) -> str:
    """What the order of photos and groups is by."""
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()


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
