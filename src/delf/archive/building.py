"""From a folder of photos to a data set: index, match, join, and write what belongs together."""

from __future__ import annotations

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from delf.archive.decisions import COLUMNS, read_decisions
from delf.archive.edited import digest_of, keep_edited
from delf.archive.numbering import Numbered
from delf.archive.positions import PlaceOptions, Places, find_places, read_positions, with_places
from delf.archive.resolving import Effects, reanchored, resolve
from delf.archive.tables import (
    COLLECTION,
    DECISIONS,
    PAIRS,
    PHOTOS,
    BridgeRow,
    LandmarkRow,
    PhotoRow,
    State,
    collection_of,
    groups_table,
    read_photos,
    read_state,
    write_bridges,
    write_landmarks,
    write_photos,
    write_places,
    write_state,
)
from delf.collection import AddReport, Collection
from delf.errors import DelfError
from delf.extractors import Own, as_extractor
from delf.files import locked_folder, write_atomically
from delf.grouping import GroupOptions, PairOptions, Pairs, join_pairs, match_collection
from delf.grouping.carrying import load_carried
from delf.images import display_path, find_images
from delf.settings import Options

Progress = Callable[[int, int], None]
NOTHING_ADDED = AddReport(0, 0, 0, (), False)


def ignored(done: int, total: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True)
class BuildOptions(Options):
    """How photos become groups."""

    pairs: PairOptions = field(default_factory=PairOptions)
    joining: GroupOptions = field(default_factory=GroupOptions)
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
                "landmarks": [asdict(row) for row in self.landmarks],
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
        collection: a collection to use or make, in the place of `collection.delf` in the folder; it is remembered. All
            its photos count.
        positions: a CSV `file,latitude,longitude`, which goes before EXIF; it is remembered, and read again.
        exclude, prune: as for `Collection.add`. extracting, preparing, matching: called with (done, total).

    Raises:
        DelfError: the folder holds something else, or cannot be written; decisions contradict each other; there is no
            photo.
    """
    folder, options, whole = Path(folder), options or BuildOptions(), as_extractor(extractor)
    _require_usable(folder, photos, collection)
    excluded = [*exclude, glob.escape(os.path.abspath(folder))]  # noqa: PTH100 (resolve would follow links)
    if not prune:
        find_images(photos, exclude=excluded)  # a missing one is told before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        read_decisions(folder / DECISIONS)
        with Collection.open_or_create(collection_of(folder, collection), whole) as opened:
            added = (opened.add(photos, progress=extracting, exclude=excluded, prune=prune,
                                videos=False) if photos
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
    place = collection_of(folder, collection)
    ours = (Collection.exists(folder / COLLECTION) or (folder / PHOTOS).exists() or (folder / DECISIONS).exists()
            or load_carried(folder / PAIRS) is not None)  # all that there is where the first build was interrupted
    if folder.is_dir() and not ours and any(not one.name.startswith(".") and one.name != COLLECTION
                                            for one in folder.iterdir()):
        raise DelfError(f"{str(folder)!r} holds other files, and no data set: name a new folder")
    if not photos and not Collection.exists(place):
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
        before, remarks = _before(folder)
        state, snapshot, source = read_state(folder), collection.snapshot, folder / DECISIONS
        remarks += keep_edited(folder, before, state)
        decisions = read_decisions(source)
        state = reanchored(decisions, snapshot, state, before, load_carried(folder / PAIRS))
        effects = resolve(decisions, snapshot, state, before, source)
        given: dict[str, tuple[float, float] | None] = {}
        if positions is not None:
            state = replace(state, positions=os.path.abspath(positions))  # noqa: PTH100 (resolve would follow links)
        if state.positions is not None:
            given, told = read_positions(Path(state.positions), snapshot)
            remarks += told
        places = find_places(collection, given, options.places)
        return cls(state, effects, places, [*remarks, *effects.remarks, *places.remarks])


def _before(folder: Path) -> tuple[list[PhotoRow], list[str]]:
    """The photos of the last build, and a sentence where its table cannot be read: it is written anew."""
    if not (folder / PHOTOS).exists():
        return [], []
    try:
        return read_photos(folder), []
    except DelfError:
        return [], [f"{display_path(folder / PHOTOS)} was damaged or changed, and is written anew: decisions on paths "
                    "that photos had before have no effect"]


def _written(folder: Path, added: AddReport, collection: Collection, pairs: Pairs, known: _Known,
             options: BuildOptions, shown: Mapping[bytes, str]) -> Built:
    """Join the pairs and write the tables."""
    effects = known.effects
    joined = join_pairs(with_places(pairs, known.places, options.places), options.joining, merge=effects.merge,
                        split=effects.split, without=effects.removed)
    made = Numbered.of(joined, collection.snapshot, _files(collection, shown), effects, known.places, known.state)
    landmarks, rows, bridges = made.landmarks(), made.photos(), made.bridges()
    inside = collection.folder.absolute() == (folder / COLLECTION).absolute()
    place = None if inside else str(collection.folder.absolute())
    labels = {row.group: row.label for row in landmarks}
    written = (digest_of(groups_table(rows, labels)), *known.state.written[:1])
    write_state(folder, replace(made.state, collection=place, written=written))  # first, so that no number is ever
    write_photos(folder, rows, labels)  # given twice
    write_landmarks(folder, landmarks)
    write_places(folder, made.where())
    write_bridges(folder, bridges)
    if not (folder / DECISIONS).exists():
        write_atomically(folder / DECISIONS, f"{','.join(COLUMNS)}\n".encode())
    return Built(folder, added, (pairs.done, pairs.images), rows, landmarks, bridges,
                 [*known.remarks, *made.without_effect(folder / DECISIONS), *made.names()[1]])


def _shown(photos: Sequence[str | Path], exclude: Sequence[str]) -> dict[bytes, str]:
    """How each file of the given photos is found now, by its absolute path."""
    return {os.fsencode(os.path.abspath(path)): str(path)  # noqa: PTH100 (resolve would follow links)
            for path in find_images([path for path in photos if os.path.lexists(path)], exclude=exclude,
                                    on_error=lambda _: None)}


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
