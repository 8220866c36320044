"""What decisions mean for the photos that are there: which are put together, kept apart, thrown out, and named."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from delf.archive.decisions import Decision
from delf.archive.tables import PhotoRow, State
from delf.collection import Snapshot
from delf.errors import DelfError
from delf.grouping.carrying import Carried
from delf.images import display_path

DIGITS = 19  # more than any number of a group has
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Effects:
    """Decisions by ordinals of images.

    merge, split: pairs of images. removed: images that are in no group. removed_groups, landmarks, names: an image of
    the group that is thrown out, is a landmark or none, or has a name, in the order of the file. remarks: a sentence
    for each decision that has no effect.
    """

    merge: tuple[tuple[int, int], ...] = ()
    split: tuple[tuple[int, int], ...] = ()
    removed: frozenset[int] = frozenset()
    removed_groups: tuple[tuple[int, Decision], ...] = ()
    landmarks: tuple[tuple[int, Decision], ...] = ()
    names: tuple[tuple[int, Decision], ...] = ()
    remarks: tuple[str, ...] = field(default=())


def resolve(decisions: Sequence[Decision], snapshot: Snapshot, state: State, before: Sequence[PhotoRow],
            source: Path) -> Effects:
    """What decisions mean.

    Args:
        state, before: of the last build, in which group numbers were read. source: the file, for messages.

    Raises:
        DelfError: decisions contradict each other; the text names their lines.
    """
    known = _Photos(snapshot, state, before, decisions)
    removed = known.removed()
    remarks: list[str] = []
    links: dict[str, list[tuple[int, int, Decision]]] = {"merge": [], "split": []}
    groups: dict[str, list[tuple[int, Decision]]] = defaultdict(list)
    for decision in decisions:
        place = f"line {decision.line} of {display_path(source)}"
        named = [decision.first, decision.second] if decision.action in links else [decision.first]
        images = [known.image(reference, removed) for reference in named]
        if missing := [reference for reference, image in zip(named, images, strict=True) if image is None]:
            remarks.append(f"{place} names {missing[0]!r}, which is no photo and no group here: it has no effect")
        elif decision.action in links:
            first, second = (image for image in images if image is not None)
            if {first, second} & removed:
                remarks.append(f"{place} links a photo that another line throws out: it has no effect")
            elif first == second:
                remarks.append(f"{place} names one photo, or group, twice ({decision}): it has no effect")
            else:
                links[decision.action].append((first, second, decision))
        elif decision.action != "remove" or known.is_group(decision.first):
            groups[decision.action].append((images[0] or 0, decision))
    _require_consistent(links["merge"], links["split"], source)
    told = sorted([*groups["landmark"], *groups["no-landmark"]], key=lambda one: one[1].line)
    return Effects(tuple(link[:2] for link in links["merge"]), tuple(link[:2] for link in links["split"]),
                   frozenset(removed), tuple(groups["remove"]), tuple(told), tuple(groups["rename"]), tuple(remarks))


def reanchored(decisions: Sequence[Decision], snapshot: Snapshot, state: State, before: Sequence[PhotoRow],
               pairs: Carried | None) -> State:
    """The state in which groups whose photo is gone, or thrown out, are known by another one of theirs.

    It is the one that the lost photo made the surest pair with; where a person has merged groups, each needs one of its
    own, so that their numbers mean what they did. Arguments as for `resolve`; pairs: those of the last build.
    """
    known = _Photos(snapshot, state, before, decisions)
    removed = known.removed()

    def is_there(key: str) -> bool:
        return (image := snapshot.ordinal_of_key(key)) is not None and image not in removed

    lost = {number: key for number, key in sorted(state.anchors.items()) if not is_there(key)}
    group_of = {row.key: row.group for row in before if row.group is not None}
    partners = _partners(pairs, set(lost.values()))
    anchors, taken = dict(state.anchors), set(state.anchors.values())
    for number, key in lost.items():
        sure, group = partners.get(key, {}), group_of.get(key)
        left = [one for one in known.members(group) if one not in taken and is_there(one)]
        best = max(left, key=lambda one: sure.get(one, 0.0), default=None)  # without a pair the representative
        if best is not None and (group == number or best in sure):
            anchors[number] = best
            taken.add(best)
    return replace(state, anchors=anchors)


def _partners(pairs: Carried | None, keys: set[str]) -> dict[str, dict[str, float]]:
    """The photos that some photos make a pair with, and how sure that is."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    if pairs is not None and keys:
        for (one, other), sure in zip(pairs.pairs.tolist(), pairs.probability.tolist(), strict=True):
            for key, partner in ((pairs.keys[one], pairs.keys[other]), (pairs.keys[other], pairs.keys[one])):
                if key in keys:
                    found[key][partner] = sure
    return found


def _named(decisions: Sequence[Decision]) -> dict[str, str]:
    """The number or photo that each name stands for, those of before included; it is of the group that had it first."""
    known: dict[str, str] = {}
    now: dict[str, str] = {}
    for decision in (decision for decision in decisions if decision.action == "rename"):
        group = known.get(decision.first, decision.first)
        if now.get(known.get(decision.second, "")) != decision.second:
            known[decision.second] = group
        now[group] = decision.second
    return known


class _Photos:
    """Finds the photo that a reference means: of a group the one that it is known by, or another one of it."""

    def __init__(self, snapshot: Snapshot, state: State, before: Sequence[PhotoRow],
                 decisions: Sequence[Decision]) -> None:
        self._snapshot, self._state = snapshot, state
        self._keys = {row.file: row.key for row in before}
        self._members: dict[int, list[str]] = defaultdict(list)
        for row in sorted(before, key=lambda row: row.role != "representative"):
            if row.group is not None:
                self._members[row.group].append(row.key)
        self._decisions, self._names = decisions, _named(decisions)

    def members(self, group: int | None) -> Sequence[str]:
        """The keys of the photos of a group in the last build, the representative first."""
        return self._members.get(group or 0, ())

    def removed(self) -> set[int]:
        """The images of photos, not groups, that decisions throw out."""
        return {image for decision in self._decisions if decision.action == "remove"
                and not self.is_group(decision.first) and (image := self.image(decision.first)) is not None}

    def is_group(self, reference: str) -> bool:
        """Whether it is the number or the name of a group, and no photo."""
        return reference.isdecimal() or (reference in self._names and self._photo(reference) is None)

    def image(self, reference: str, without: set[int] | frozenset[int] = frozenset()) -> int | None:
        """The image that a reference means, for a group none of `without` if there is another."""
        if not self.is_group(reference):
            return self._photo(reference)
        named = self._names.get(reference, reference)
        if not named.isdecimal():
            return self._photo(named)
        number = int(named) if len(named) < DIGITS else -1  # Python refuses to read thousands of digits
        anchor = self._state.anchors.get(number)
        keys = [*([anchor] if anchor else []), *self._members.get(number, ())]
        found = [image for key in keys if (image := self._snapshot.ordinal_of_key(key)) is not None]
        return next((image for image in found if image not in without), found[0] if found else None)

    def _photo(self, reference: str) -> int | None:
        if _KEY.fullmatch(reference):
            return self._snapshot.ordinal_of_key(reference)
        try:
            found = self._snapshot.ordinal_of(reference)
        except ValueError:  # a name that no file can have
            return None
        if found is None and reference in self._keys:
            return self._snapshot.ordinal_of_key(self._keys[reference])
        return found


def _require_consistent(merge: Sequence[tuple[int, int, Decision]], split: Sequence[tuple[int, int, Decision]],
                        source: Path) -> None:
    """Raise where photos are kept apart that others put together, maybe by way of more."""
    neighbours: dict[int, list[tuple[int, Decision]]] = defaultdict(list)
    for first, second, decision in merge:
        neighbours[first].append((second, decision))
        neighbours[second].append((first, decision))
    for first, second, decision in split:
        if way := _way(neighbours, first, second):
            lines = sorted({one.line for one in way})
            one = len(lines) == 1
            raise DelfError(
                f"{display_path(source)} contradicts itself: {decision} keeps apart what "
                f"line{'' if one else 's'} {', '.join(map(str, lines))} put{'s' if one else ''} together. Delete one "
                "of these lines, and run it again; groups are as they were")


def _way(neighbours: Mapping[int, Sequence[tuple[int, Decision]]], first: int, second: int) -> list[Decision]:
    """The fewest decisions that lead from one image to another; none where they do not."""
    reached: dict[int, list[Decision]] = {first: []}
    waiting = [first]
    for image in waiting:
        for other, decision in neighbours.get(image, ()):
            if other not in reached:
                reached[other] = [*reached[image], decision]
                waiting.append(other)
    return reached.get(second, [])
