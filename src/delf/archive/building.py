"""From a folder of photos to a data set: index, match, join, and write what belongs together."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delf.archive.decisions import COLUMNS, read_decisions
from delf.archive.geography import centre_of
from delf.archive.joining import Joined, JoinOptions, join_pairs
from delf.archive.positions import PlaceOptions, Places, find_places, read_positions
from delf.archive.resolving import Effects, resolve
from delf.archive.tables import (
    COLLECTION,
    DECISIONS,
    PAIRS,
    PHOTOS,
    BridgeRow,
    LandmarkRow,
    PhotoRow,
    State,
    read_photos,
    read_state,
    write_bridges,
    write_landmarks,
    write_photos,
    write_state,
)
from delf.collection import AddReport, Collection
from delf.errors import DelfError
from delf.extractors import Own, as_extractor
from delf.files import locked_folder, write_atomically
from delf.grouping import PairOptions, Pairs, match_collection
from delf.images import find_images

Progress = Callable[[int, int], None]
NOTHING_ADDED = AddReport(0, 0, 0, (), False)


def ignored(done: int, total: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True)
class BuildOptions:
    """How photos become groups."""

    pairs: PairOptions = field(default_factory=PairOptions)
    joining: JoinOptions = field(default_factory=JoinOptions)
    places: PlaceOptions = field(default_factory=PlaceOptions)


@dataclass(frozen=True, eq=False)
class Built:
    """What `build_dataset` made. added: what became of the photos. matched: how many were looked at of how many;
    fewer where Ctrl-C came, and then the tables are those of the build before. remarks: sentences on what was not
    believed or had no effect.
    """

    folder: Path
    added: AddReport
    matched: tuple[int, int] = (0, 0)
    photos: Sequence[PhotoRow] = ()
    landmarks: Sequence[LandmarkRow] = ()
    bridges: Sequence[BridgeRow] = ()
    remarks: Sequence[str] = ()

    @property
    def interrupted(self) -> bool:
        """Whether photos are left that were not looked at; the next call goes on from there."""
        return self.added.interrupted or self.matched[0] < self.matched[1]

    def to_json(self) -> dict[str, Any]:
        """The object that `delf dataset build --json` prints."""
        roles = Counter(row.role for row in self.photos)
        return {"folder": str(self.folder), "added": self.added.added, "unchanged": self.added.unchanged,
                "skipped": list(self.added.skipped), "photos": len(self.photos), "groups": len(self.landmarks),
                "grouped": sum(row.group is not None for row in self.photos), "roles": dict(sorted(roles.items())),
                "positions": sum(row.latitude is not None for row in self.photos),
                "bridges": [asdict(bridge) for bridge in self.bridges], "remarks": list(self.remarks)}


def build_dataset(photos: Sequence[str | Path], folder: str | Path, extractor: Own, *,
                  collection: str | Path | None = None, positions: str | Path | None = None,
                  options: BuildOptions | None = None, exclude: Iterable[str] = (), prune: bool = False,
                  extracting: Progress = ignored, preparing: Progress = ignored, matching: Progress = ignored) -> Built:
    """Find which photos show the same, and write that into a folder (`delf.archive.tables` has its files).

    Photos that are there already are not extracted or matched again. Group numbers, and what decisions.csv says, are
    kept. What ends the work early costs little: the next call goes on, and till then the tables are the old ones.

    Args:
        photos: files and folders; none to group anew what is there, after other decisions.
        collection: a collection to use or make, in the place of `collection.delf` in the folder. All its photos count.
        positions: a CSV `file,latitude,longitude`, which goes before EXIF.
        exclude, prune: as for `Collection.add`. extracting, preparing, matching: called with (done, total).

    Raises:
        DelfError: the folder holds something else, or cannot be written; decisions contradict each other; there is no
            photo.
    """
    folder, options, whole = Path(folder), options or BuildOptions(), as_extractor(extractor)
    _require_usable(folder, photos, collection)
    excluded = [*exclude, glob.escape(os.path.abspath(folder))]  # noqa: PTH100 (resolve would follow links)
    find_images(photos, exclude=excluded)  # a missing one is told before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        read_decisions(folder / DECISIONS)
        place = folder / COLLECTION if collection is None else Path(collection)
        with Collection.open_or_create(place, whole) as opened:
            added = (opened.add(photos, progress=extracting, exclude=excluded, prune=prune) if photos
                     else NOTHING_ADDED)
            if not len(opened):
                raise DelfError("there is no photo to build a data set from: check the paths, and what was skipped: "
                                f"{'; '.join(added.skipped[:3]) or 'nothing'}")
            if added.interrupted:
                return Built(folder, added)
            known = _Known.read(folder, opened, positions, options)
            pairs = match_collection(opened, whole, options.pairs, carried=folder / PAIRS, progress=matching,
                                     preparing=preparing)
            if pairs.interrupted:
                return Built(folder, added, (pairs.done, pairs.images))
            return _written(folder, added, opened, pairs, known, options, _shown(photos, excluded))


def _require_usable(folder: Path, photos: Sequence[str | Path], collection: str | Path | None) -> None:
    if folder.exists() and not folder.is_dir():
        raise DelfError(f"{str(folder)!r} is a file: name a folder for the data set")
    ours = Collection.exists(folder / COLLECTION) or (folder / PHOTOS).exists() or (folder / DECISIONS).exists()
    if folder.is_dir() and not ours and any(not one.name.startswith(".") and one.name != COLLECTION
                                            for one in folder.iterdir()):
        raise DelfError(f"{str(folder)!r} holds other files, and no data set: name a new folder")
    if not photos and not Collection.exists(folder / COLLECTION if collection is None else collection):
        raise DelfError(f"{str(folder)!r} has no photos yet: say which to build it from")


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known before photos are joined."""

    state: State
    effects: Effects
    places: Places
    remarks: list[str]

    @classmethod
    def read(cls, folder: Path, collection: Collection, positions: str | Path | None, options: BuildOptions) -> _Known:
        before = read_photos(folder) if (folder / PHOTOS).exists() else []
        state, snapshot, source = read_state(folder), collection.snapshot, folder / DECISIONS
        effects = resolve(read_decisions(source), snapshot, state, before, source)
        given, remarks = ({}, []) if positions is None else read_positions(Path(positions), snapshot)
        places = find_places(collection, given, options.places)
        return cls(state, effects, places, [*effects.remarks, *remarks, *places.remarks])


def _written(folder: Path, added: AddReport, collection: Collection, pairs: Pairs, known: _Known,
             options: BuildOptions, shown: Mapping[bytes, str]) -> Built:
    """Join the pairs and write the tables."""
    snapshot, effects = collection.snapshot, known.effects
    files = _files(collection, shown)
    joined = join_pairs(pairs, options=options.joining, places=known.places, merge=effects.merge, split=effects.split,
                        without=effects.removed)
    groups = _with_copies(joined, files, effects.removed)
    group_of = {image: at for at, group in enumerate(groups) for image in group}
    thrown = {group_of[image] for image, _ in effects.removed_groups if image in group_of}
    numbers, state = _numbered(groups, known.state, snapshot.key_of, snapshot.ordinal_of_key)
    remarks = [*known.remarks, *_without_effect(effects, group_of, folder / DECISIONS)]
    names = _names(effects, group_of, numbers, thrown, remarks)
    said = {group_of[image]: "yes" if decision.action == "landmark" else "no" for image, decision in effects.landmarks
            if image in group_of}
    landmarks = sorted((_landmark(group, numbers[at], names.get(at, ""), said.get(at, ""), joined, files, known.places)
                        for at, group in enumerate(groups) if at not in thrown), key=lambda row: row.group)
    rows = []
    for image, paths in files.items():
        at = group_of.get(image)
        number = None if at is None or at in thrown else numbers[at]
        role = "removed" if at in thrown or image in effects.removed else _role(image, None if at is None else
                                                                               groups[at], joined)
        of = files[joined.originals[image]][0] if role == "duplicate" else ""
        rows += _photo_rows(image, paths, number, role, of, joined, known.places, snapshot)
    rows.sort(key=lambda row: os.fsencode(row.file))
    def number_of(image: int) -> int | None:
        return numbers[group_of[image]] if image in group_of else None

    bridges = [BridgeRow(files[one.first][0], files[one.second][0], number_of(one.first), number_of(one.second),
                         one.probability, one.inliers, one.evidence, one.needed,
                         "decision" if one.decided else "evidence") for one in joined.bridges]
    write_state(folder, state)  # first, so that no number is ever given twice
    write_photos(folder, rows, {row.group: row.label for row in landmarks})
    write_landmarks(folder, landmarks)
    write_bridges(folder, bridges)
    if not (folder / DECISIONS).exists():
        write_atomically(folder / DECISIONS, f"{','.join(COLUMNS)}\n".encode())
    return Built(folder, added, (pairs.done, pairs.images), rows, landmarks, bridges, remarks)


def _shown(photos: Sequence[str | Path], exclude: Sequence[str]) -> dict[bytes, str]:
    """How each file of the given photos is found now, by its absolute path."""
    return {os.fsencode(os.path.abspath(path)): str(path)  # noqa: PTH100 (resolve would follow links)
            for path in find_images(photos, exclude=exclude, on_error=lambda _: None)}


def _files(collection: Collection, shown: Mapping[bytes, str]) -> dict[int, list[str]]:
    """The files of each image: as found now, or as given at first where that leads there from here, or else whole."""
    ordinals = {key: ordinal for ordinal in np.flatnonzero(collection.alive).tolist()
                for key in [bytes.fromhex(collection.snapshot.key_of(ordinal))]}
    files: dict[int, list[tuple[bytes, str]]] = defaultdict(list)
    for record, key in collection.catalogue.files():
        if key in ordinals:
            given = os.fsdecode(record.shown)
            leads = os.fsencode(os.path.abspath(given)) == record.path  # noqa: PTH100 (as above)
            name = shown.get(record.path) or (given if leads else os.fsdecode(record.path))
            files[ordinals[key]].append((record.path, name))
    return {image: [name for _, name in sorted(paths)] for image, paths in sorted(files.items())}


def _with_copies(joined: Joined, files: Mapping[int, Sequence[str]], removed: Iterable[int]) -> list[tuple[int, ...]]:
    """The groups, and those of one image of which there are several files."""
    grouped = {image for group in joined.groups for image in group} | set(removed)
    groups = [tuple(image for image in group if image in files) for group in joined.groups]
    copied = [(image,) for image, paths in files.items() if len(paths) > 1 and image not in grouped]
    return [*filter(None, groups), *copied]


def _numbered(groups: Sequence[tuple[int, ...]], state: State, key_of: Callable[[int], str],
              ordinal_of: Callable[[str], int | None]) -> tuple[list[int], State]:
    """The number of each group: that of the photo that it is known by, of several the lowest, or a new one."""
    group_of = {image: at for at, group in enumerate(groups) for image in group}
    numbers: dict[int, int] = {}
    for number, key in sorted(state.anchors.items()):
        image = ordinal_of(key)
        if image in group_of:
            numbers.setdefault(group_of[image], number)
    anchors, new = dict(state.anchors), state.next
    for at, group in enumerate(groups):
        if at not in numbers:
            numbers[at], anchors[new], new = new, key_of(group[0]), new + 1
    return [numbers[at] for at in range(len(groups))], State(anchors, new)


def _without_effect(effects: Effects, group_of: Mapping[int, int], source: Path) -> list[str]:
    """A sentence for each decision on a group that is none now."""
    told = sorted([*effects.removed_groups, *effects.landmarks, *effects.names], key=lambda one: one[1].line)
    return [f"line {decision.line} of {source.name} ({decision.action} {decision.first}) is about a group that there "
            "is not any more: it has no effect" for image, decision in told if image not in group_of]


def _names(effects: Effects, group_of: Mapping[int, int], numbers: Sequence[int], thrown: Iterable[int],
           remarks: list[str]) -> dict[int, str]:
    """The name of each group that has one; of several names for a group the last counts, and a name is of one group."""
    names = {group_of[image]: decision.second for image, decision in effects.names if image in group_of}
    owners: dict[str, int] = {}
    for at, name in sorted(names.items(), key=lambda one: numbers[one[0]]):
        if at in thrown:
            continue
        if name in owners:
            remarks.append(f"the groups {numbers[owners[name]]} and {numbers[at]} have one name, {name!r}, and the "
                           "latter goes without: merge them, or give it another name")
        else:
            owners[name] = at
    return {at: name for name, at in owners.items()}


def _landmark(group: Sequence[int], number: int, name: str, said: str, joined: Joined,
              files: Mapping[int, Sequence[str]], places: Places) -> LandmarkRow:
    images = np.array(group)
    there = images[places.known[images]]
    latitude, longitude = centre_of(places.positions[there]) if len(there) else (None, None)
    clusters = set(places.clusters[there].tolist()) - {-1}
    return LandmarkRow(number, name, said, sum(len(files[image]) for image in group),
                       sum(image not in joined.originals for image in group), files[group[0]][0], latitude, longitude,
                       len(clusters))


def _role(image: int, group: Sequence[int] | None, joined: Joined) -> str:
    if group is None:
        return "alone"
    if image == group[0]:
        return "representative"
    return "duplicate" if image in joined.originals else "member"


def _photo_rows(image: int, paths: Sequence[str], number: int | None, role: str, of: str, joined: Joined,
                places: Places, snapshot: Any) -> list[PhotoRow]:
    """A row for each file of an image; all but the first are copies of it."""
    key, facts = snapshot.key_of(image), snapshot.lookup.facts_of(bytes.fromhex(snapshot.key_of(image)))
    known = bool(places.known[image])
    latitude, longitude = places.positions[image].tolist() if known else (None, None)
    place = int(places.clusters[image])
    common = (joined.partners.get(image, 0), place if place >= 0 else None, latitude, longitude,
              facts.captured_at if facts else None)
    first = PhotoRow(paths[0], key, number, role, of, *common)
    other = "removed" if role == "removed" else "copy"
    return [first, *(PhotoRow(path, key, number, other, paths[0], *common) for path in paths[1:])]
