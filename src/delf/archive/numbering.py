"""Groups with their numbers, which stay, and the lines that the tables have of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from delf.archive.geography import centre_of
from delf.archive.positions import Places
from delf.archive.resolving import Effects
from delf.archive.tables import BridgeRow, LandmarkRow, PhotoRow, PlaceRow, State
from delf.collection import Snapshot
from delf.grouping import Joined
from delf.images import display_path

Files = Mapping[int, Sequence[str]]


@dataclass(frozen=True, eq=False)
class Numbered:
    """What is known when photos are joined.

    files: of each image, as they are shown, the first one stands for it. groups: images, the representative first, with
    those of one image of which there are several files. numbers: of the groups. state: with the new ones.
    """

    joined: Joined
    snapshot: Snapshot
    files: Files
    effects: Effects
    places: Places
    groups: Sequence[tuple[int, ...]]
    numbers: Sequence[int]
    state: State

    @classmethod
    def of(cls, joined: Joined, snapshot: Snapshot, files: Files, effects: Effects, places: Places,
           before: State) -> Numbered:
        """Number the groups. before: the state that the last build left."""
        groups = _with_copies(joined, files, effects.removed)
        numbers, state = _numbered(groups, before, snapshot)
        return cls(joined, snapshot, files, effects, places, groups, numbers, state)

    @cached_property
    def group_of(self) -> dict[int, int]:
        """The place in `groups` of each image that is in one."""
        return {image: at for at, group in enumerate(self.groups) for image in group}

    @cached_property
    def thrown_out(self) -> set[int]:
        """The places of groups that a person has thrown out."""
        return {self.group_of[image] for image, _ in self.effects.removed_groups if image in self.group_of}

    def number_of(self, image: int) -> int | None:
        """The number of the group of an image."""
        at = self.group_of.get(image)
        return None if at is None or at in self.thrown_out else self.numbers[at]

    def names(self) -> tuple[dict[int, str], list[str]]:
        """The name of each group that has one, by its place, and a sentence for each that goes without.

        Of several names for a group the last counts, and a name is of the group that has it first.
        """
        named = {self.group_of[image]: decision for image, decision in self.effects.names if image in self.group_of}
        owners: dict[str, int] = {}
        remarks = []
        for at, decision in sorted(named.items(), key=lambda one: one[1].line):
            if at in self.thrown_out:
                continue
            name = decision.second
            if owners.setdefault(name, at) != at:
                remarks.append(f"the groups {self.numbers[owners[name]]} and {self.numbers[at]} have one name, "
                               f"{name!r}, and the latter goes without: merge them, or give it another name")
        return {at: name for name, at in owners.items()}, remarks

    def without_effect(self, source: Path) -> list[str]:
        """A sentence for each decision on a group that is none now. source: the file of decisions."""
        told = (*self.effects.removed_groups, *self.effects.landmarks, *self.effects.names)
        lines = sorted((decision.line, f"{decision.action} {decision.first}") for image, decision in told
                       if image not in self.group_of)
        return [f"line {line} of {display_path(source)} ({what}) is about a photo that is in no group now: it has no "
                "effect" for line, what in lines]

    def landmarks(self) -> list[LandmarkRow]:
        """The groups, by number."""
        names, _ = self.names()
        said = {self.group_of[image]: "yes" if decision.action == "landmark" else "no"
                for image, decision in self.effects.landmarks if image in self.group_of}
        rows = [replace(self._landmark(at), name=names.get(at, ""), landmark=said.get(at, ""))
                for at in range(len(self.groups)) if at not in self.thrown_out]
        return sorted(rows, key=lambda row: row.group)

    def photos(self) -> list[PhotoRow]:
        """The photo files, by name."""
        rows = [row for image in self.files for row in self._photos(image)]
        return sorted(rows, key=lambda row: os.fsencode(row.file))

    def where(self) -> list[PlaceRow]:
        """The places where photos were taken, by number."""
        clusters, rows = self.places.clusters, []
        inside = np.flatnonzero(clusters >= 0)
        inside = inside[np.argsort(clusters[inside], kind="stable")]
        for images in np.split(inside, np.flatnonzero(np.diff(clusters[inside])) + 1) if len(inside) else []:
            groups = {number for image in images.tolist() if (number := self.number_of(image)) is not None}
            latitude, longitude = centre_of(self.places.positions[images])
            photos = sum(len(self.files.get(image, ())) for image in images.tolist())
            rows.append(PlaceRow(int(clusters[images[0]]), latitude, longitude, photos, tuple(sorted(groups))))
        return rows

    def bridges(self) -> list[BridgeRow]:
        """The pairs that would join groups."""
        return [BridgeRow(self.files[one.first][0], self.files[one.second][0], self.number_of(one.first),
                          self.number_of(one.second), one.probability, one.inliers, one.evidence, one.needed,
                          one.why) for one in self.joined.bridges]

    def _landmark(self, at: int) -> LandmarkRow:
        group = self.groups[at]
        images = np.array(group)
        there = images[self.places.known[images]]
        latitude, longitude = centre_of(self.places.positions[there]) if len(there) else (None, None)
        clusters = set(self.places.clusters[there].tolist()) - {-1}
        return LandmarkRow(self.numbers[at], "", "", sum(len(self.files[image]) for image in group),
                           sum(image not in self.joined.originals for image in group), self.files[group[0]][0],
                           latitude, longitude, len(clusters))

    def _photos(self, image: int) -> list[PhotoRow]:
        """A row for each file of an image; all but the first are copies of it."""
        key, paths, role = self.snapshot.key_of(image), self.files[image], self._role(image)
        facts, place = self.snapshot.lookup.facts_of(bytes.fromhex(key)), int(self.places.clusters[image])
        latitude, longitude = self.places.positions[image].tolist() if self.places.known[image] else (None, None)
        of = self.files[self.joined.originals[image]][0] if role == "duplicate" else ""
        first = PhotoRow(paths[0], key, self.number_of(image), role, of, self.joined.partners.get(image, 0),
                         place if place >= 0 else None, latitude, longitude, facts.captured_at if facts else None)
        copy = replace(first, role="removed" if role == "removed" else "copy", of=paths[0])
        return [first, *(replace(copy, file=path) for path in paths[1:])]

    def _role(self, image: int) -> str:
        at = self.group_of.get(image)
        if image in self.effects.removed or at in self.thrown_out:
            return "removed"
        if at is None:
            return "alone"
        if image == self.groups[at][0]:
            return "representative"
        return "duplicate" if image in self.joined.originals else "member"


def _with_copies(joined: Joined, files: Files, removed: Iterable[int]) -> list[tuple[int, ...]]:
    grouped = {image for group in joined.groups for image in group} | set(removed)
    groups = [tuple(image for image in group if image in files) for group in joined.groups]
    copied = [(image,) for image, paths in files.items() if len(paths) > 1 and image not in grouped]
    return [*filter(None, groups), *copied]


def _numbered(groups: Sequence[tuple[int, ...]], state: State, snapshot: Snapshot) -> tuple[list[int], State]:
    """The number of each group: that of the photo that it is known by, of several the lowest, or a new one."""
    group_of = {image: at for at, group in enumerate(groups) for image in group}
    numbers: dict[int, int] = {}
    for number, key in sorted(state.anchors.items()):
        if (image := snapshot.ordinal_of_key(key)) in group_of:
            numbers.setdefault(group_of[image], number)
    anchors, new = dict(state.anchors), state.next
    for at, group in enumerate(groups):
        if at not in numbers:
            numbers[at], anchors[new], new = new, snapshot.key_of(group[0]), new + 1
    return [numbers[at] for at in range(len(groups))], replace(state, anchors=anchors, next=new)
