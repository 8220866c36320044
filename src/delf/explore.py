"""What is in a collection: groups of photos that show the same place, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from delf.collection import Collection
from delf.extractors import Extractor, Own, as_extractor
from delf.grouping import (
    Group,
    GroupOptions,
    Member,
    PairOptions,
    Pairs,
    find_groups,
    joining,
    match_collection,
    match_pair,
)
from delf.images import read_image
from delf.report.groups import GroupEntry, GroupPhoto, GroupsOptions, write_groups
from delf.search import load_extractor

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Exploration:
    """The groups of a collection, largest first, and the pairs that they were found by.

    alone: the ordinals of images in no group. options: what joined the photos. where: the condition on those that are
    grouped; None for all.
    """

    collection: Collection
    extractor: Extractor
    pairs: Pairs
    groups: tuple[Group, ...]
    alone: tuple[int, ...]
    pair_options: PairOptions
    options: GroupOptions
    where: str | None = None

    @property
    def interrupted(self) -> bool:
        """Whether images are left that were not looked at; the next call goes on from there."""
        return self.pairs.interrupted

    def to_json(self) -> dict[str, Any]:
        """The object that `delf explore --json` prints; images by the path that they were indexed with."""
        said = {} if self.where is None else {"where": self.where}
        return {"collection": str(self.collection.folder), **said, "images": self.pairs.images, "done": self.pairs.done,
                "pairs": len(self.pairs), "groups": [self._group_json(group) for group in self.groups],
                "alone": [self._path(ordinal) for ordinal in self.alone]}

    def write_page(self, path: str | Path, *, options: GroupsOptions = GroupsOptions(),
                   progress: Progress = lambda done, total: None) -> None:
        """One HTML file that needs nothing else (`delf.report.groups`).

        Raises:
            DelfError: the place cannot be written.
        """
        entries = [self._entry(group, drawn=number < options.groups) for number, group in enumerate(self.groups)]
        model = self.collection.about["model"]["name"]
        note = f"{self.pairs.images:,} photos, model {model}, {len(self.pairs):,} confirmed pairs"
        if self.where is not None:
            note += f"; of those, the photos where {self.where}"
        if self.interrupted:
            note += f"; only {self.pairs.done:,} photos were looked at so far, and groups may grow"
        write_groups(path, entries, [self._path(ordinal) for ordinal in self.alone], note=note, options=options,
                     title=f"Places in {self.collection.folder.name}", load_image=read_image, progress=progress)

    def _group_json(self, group: Group) -> dict[str, Any]:
        return {"representative": self._path(group.representative), "pairs": group.pairs,
                "photos": [self._member_json(member) for member in group.members]}

    def _member_json(self, member: Member) -> dict[str, Any]:
        stored = self.collection.image(member.image)
        return {"image": stored.path, "key": stored.key, "file": str(stored.file), "second": stored.second,
                "files": [str(path) for path in stored.files], "partners": member.partners, "inliers": member.inliers,
                "closest": self._path(member.closest), "captured_at": stored.captured_at,
                "duplicate_of": None if member.duplicate_of is None else self._path(member.duplicate_of),
                "latitude": stored.latitude, "longitude": stored.longitude}

    def _entry(self, group: Group, *, drawn: bool) -> GroupEntry:
        """drawn: whether it is known which photos make a pair with the representative."""
        partners = self._partners(group.representative) if drawn else set()
        photos = [self._photo(member, group.representative, partners) for member in group.members]
        return GroupEntry(photos, group.pairs)

    def _photo(self, member: Member, representative: int, partners: set[int]) -> GroupPhoto:
        stored = self.collection.image(member.image)
        match = partial(match_pair, self.collection, representative, member.image, self.extractor, self.pair_options)
        known = stored.latitude is not None and stored.longitude is not None
        return GroupPhoto(
            path=stored.path, partners=member.partners, closest=self._path(member.closest), inliers=member.inliers,
            duplicate_of=None if member.duplicate_of is None else self._path(member.duplicate_of),
            captured_at=stored.captured_at, match=match if member.image in partners else None,
            position=(stored.latitude or 0.0, stored.longitude or 0.0) if known else None, file=stored.source,
            copies=[str(path) for path in stored.files if path != stored.file])

    def _partners(self, image: int) -> set[int]:
        pairs = self.pairs
        return {*pairs.second[pairs.first == image].tolist(), *pairs.first[pairs.second == image].tolist()}

    def _path(self, ordinal: int) -> str:
        return self.collection.image(ordinal).path


def explore_collection(collection: Collection, extractor: Own | None = None, *,
                       pair_options: PairOptions | None = None, options: GroupOptions | None = None,
                       progress: Progress = lambda done, total: None,
                       preparing: Progress = lambda done, total: None, where: str | None = None) -> Exploration:
    """Match a collection with itself and group its photos; nothing is extracted.

    Ctrl-C gives the groups of what is known by then (`Exploration.interrupted`); the next call goes on from there.

    Args:
        extractor, progress, preparing: as for `delf.grouping.match_collection`.
        where: a condition on the photos that are grouped (`delf.collection.where`). All are matched all the same, once.

    Raises:
        OptionError: the condition is not understood. CollectionError: the model of the collection is not to be had, or
            there is no room for the pairs.
    """
    whole = load_extractor(collection) if extractor is None else as_extractor(extractor)
    pair_options, options = pair_options or PairOptions(), options or GroupOptions()
    shown = collection.alive if where is None else collection.snapshot.matching(where)
    pairs = match_collection(collection, whole, pair_options, progress=progress, preparing=preparing)
    pairs = pairs.select(shown[pairs.first] & shown[pairs.second])
    groups = find_groups(pairs, options)
    grouped = [image for group in groups for image in group.images]
    alone = np.setdiff1d(np.flatnonzero(shown), np.array(grouped, np.int64)).tolist()
    return Exploration(collection, whole, joining(pairs, groups, options), tuple(groups), tuple(alone), pair_options,
                       options, where)
