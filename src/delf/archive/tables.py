"""The files of a data set that was built from photos: what each column means, written and read again.

    landmarks/
      collection.delf/    the features of the photos
      groups.csv          file,group: a line for each photo, the group empty where it has none
      photos.csv          the same with all that is known of a photo (`PhotoRow`)
      landmarks.csv       a line for each group (`LandmarkRow`)
      places.csv          a line for each place where photos were taken (`PlaceRow`)
      bridges.csv         pairs that would join two groups, and do not (`BridgeRow`)
      decisions.csv       what a person has decided (`delf.archive.decisions`)
      pairs.npz           verified pairs, so that a later build looks only at new photos
      state.json          by which photo each group is known
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from delf.duplicates.table import table_bytes, write_table
from delf.errors import DelfError
from delf.files import write_atomically
from delf.images import display_path

COLLECTION = "collection.delf"
GROUPS, PHOTOS, LANDMARKS = "groups.csv", "photos.csv", "landmarks.csv"
PLACES, BRIDGES, DECISIONS, PAIRS, STATE = "places.csv", "bridges.csv", "decisions.csv", "pairs.npz", "state.json"

ROLES = ("representative", "member", "duplicate", "copy", "alone", "removed")
FORMAT = 1
Row = Mapping[str, str]
Meant = TypeVar("Meant")


@dataclass(frozen=True)
class PhotoRow:
    """A photo file, a line of photos.csv.

    file: as it was found. key: the SHA-256 of its content. group: the number of its group, None without one. role: one
    of `ROLES`; of: for a duplicate or a copy, the file that it is one of. partners: photos of its group that it makes a
    verified pair with. place: the number of the dense cluster of positions that it lies in.
    """

    file: str
    key: str
    group: int | None
    role: str
    of: str = ""
    partners: int = 0
    place: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    captured_at: str | None = None

    def cells(self) -> tuple[Any, ...]:
        """What the file has of it."""
        return tuple("" if value is None else value for value in vars(self).values())


@dataclass(frozen=True)
class LandmarkRow:
    """A group, a line of landmarks.csv.

    group: its number, the same in all builds. landmark: what a person says, "yes" or "no", else "". photos: files;
    distinct: those that are neither copies nor near-duplicates. latitude, longitude: the middle of the positions.
    places: how many dense clusters of positions its photos lie in.
    """

    group: int
    name: str
    landmark: str
    photos: int
    distinct: int
    representative: str
    latitude: float | None = None
    longitude: float | None = None
    places: int = 0

    @property
    def label(self) -> str:
        """What groups.csv calls it: its name, or else its number."""
        return self.name or str(self.group)

    def cells(self) -> tuple[Any, ...]:
        """What the file has of it."""
        return tuple("" if value is None else value for value in vars(self).values())


@dataclass(frozen=True)
class PlaceRow:
    """A dense cluster of positions, a line of places.csv; its number is of this build alone.

    latitude, longitude: its middle. photos: files that were taken there. groups: the numbers of theirs: a place with
    several sights has several.
    """

    place: int
    latitude: float
    longitude: float
    photos: int
    groups: tuple[int, ...]

    def cells(self) -> tuple[Any, ...]:
        """What the file has of it."""
        return (self.place, self.latitude, self.longitude, self.photos, " ".join(map(str, self.groups)))


@dataclass(frozen=True)
class BridgeRow:
    """A pair that would join two groups, a line of bridges.csv. Groups are None where a photo has none.

    evidence, needed, why: as for `delf.grouping.Bridge`.
    """

    first: str
    second: str
    first_group: int | None
    second_group: int | None
    probability: float
    inliers: int
    evidence: float
    needed: float
    why: str

    def cells(self) -> tuple[Any, ...]:
        """What the file has of it."""
        return tuple("" if value is None else round(value, 4) if isinstance(value, float) else value
                     for value in vars(self).values())


@dataclass(frozen=True)
class State:
    """By which photo each group is known: the key of the first one that stood for it. next: the number of a new one.
    collection: where that is, if it is not in the folder. positions: the CSV that was given last. written: digests of
    groups.csv as the last builds wrote it, the newest first.
    """

    anchors: Mapping[int, str] = field(default_factory=dict)
    next: int = 1
    collection: str | None = None
    positions: str | None = None
    written: tuple[str, ...] = ()


def groups_table(rows: Sequence[PhotoRow], labels: Mapping[int, str]) -> bytes:
    """groups.csv, as it is in a file. labels: what it calls each group."""
    return table_bytes(("file", "group"), ((row.file, "" if row.group is None else labels[row.group]) for row in rows))


def write_photos(folder: Path, rows: Sequence[PhotoRow], labels: Mapping[int, str]) -> None:
    """groups.csv and photos.csv. labels: as for `groups_table`."""
    write_table(folder / PHOTOS, tuple(PhotoRow.__dataclass_fields__), (row.cells() for row in rows))
    write_atomically(folder / GROUPS, groups_table(rows, labels))


def write_landmarks(folder: Path, rows: list[LandmarkRow]) -> None:
    """landmarks.csv."""
    write_table(folder / LANDMARKS, tuple(LandmarkRow.__dataclass_fields__), (row.cells() for row in rows))


def write_places(folder: Path, rows: list[PlaceRow]) -> None:
    """places.csv."""
    write_table(folder / PLACES, tuple(PlaceRow.__dataclass_fields__), (row.cells() for row in rows))


def write_bridges(folder: Path, rows: list[BridgeRow]) -> None:
    """bridges.csv."""
    write_table(folder / BRIDGES, tuple(BridgeRow.__dataclass_fields__), (row.cells() for row in rows))


def read_photos(folder: Path) -> list[PhotoRow]:
    """The photos of a data set. Raises `DelfError` where there is none, or its table is damaged."""
    return _read(folder / PHOTOS, tuple(PhotoRow.__dataclass_fields__), lambda row: PhotoRow(
        row["file"], row["key"], _whole(row["group"]), row["role"], row["of"], int(row["partners"]),
        _whole(row["place"]), _number(row["latitude"]), _number(row["longitude"]), row["captured_at"] or None))


def read_landmarks(folder: Path) -> list[LandmarkRow]:
    """The groups of a data set. Errors as for `read_photos`."""
    return _read(folder / LANDMARKS, tuple(LandmarkRow.__dataclass_fields__), lambda row: LandmarkRow(
        int(row["group"]), row["name"], row["landmark"], int(row["photos"]), int(row["distinct"]),
        row["representative"], _number(row["latitude"]), _number(row["longitude"]), int(row["places"])))


def read_bridges(folder: Path) -> list[BridgeRow]:
    """The bridges of a data set. Errors as for `read_photos`."""
    return _read(folder / BRIDGES, tuple(BridgeRow.__dataclass_fields__), lambda row: BridgeRow(
        row["first"], row["second"], _whole(row["first_group"]), _whole(row["second_group"]),
        float(row["probability"]), int(row["inliers"]), float(row["evidence"]), float(row["needed"]), row["why"]))


def write_state(folder: Path, state: State) -> None:
    """state.json."""
    groups = {str(number): key for number, key in sorted(state.anchors.items())}
    content = {"format": FORMAT, "collection": state.collection, "positions": state.positions, "next": state.next,
               "written": list(state.written), "groups": groups}
    write_atomically(folder / STATE, f"{json.dumps(content, indent=1)}\n".encode())


def read_state(folder: Path) -> State:
    """What a build before has left; a new one where there was none. Raises `DelfError` where it is damaged."""
    path = folder / STATE
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise DelfError(f"{display_path(path)} is of another version of delf: use that, or build into a new folder")
        anchors = {int(number): str(key) for number, key in content["groups"].items()}
        collection, positions = (None if content.get(name) is None else str(content[name])
                                 for name in ("collection", "positions"))
        return State(anchors, max([int(content["next"]), *(number + 1 for number in anchors)]), collection, positions,
                     tuple(map(str, content.get("written", ()))))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DelfError(f"{display_path(path)} cannot be read ({error}): it says which number each group has. Restore "
                        "it, or delete it, and groups get new numbers, to which decisions on numbers do not "
                        "fit") from error


def collection_of(folder: Path, given: str | Path | None = None) -> Path:
    """Where the collection of a data set is: as given, or as it was given first, or else in the folder."""
    kept = read_state(folder).collection if given is None else str(given)
    return folder / COLLECTION if kept is None else Path(kept)


def _read(path: Path, columns: tuple[str, ...], meant: Callable[[Row], Meant]) -> list[Meant]:
    found = []
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise ValueError(f"it has not all the columns {','.join(columns)}")
        for row in reader:
            if None in row.values() or None in row:
                raise ValueError(f"line {reader.line_num} has another number of cells than the first")
            found.append(meant(row))
        return found
    except FileNotFoundError as error:
        raise DelfError(f"{display_path(path.parent)} is no data set: it has no {path.name}. Make one with 'delf "
                        f"dataset build PHOTOS -o {display_path(path.parent)}'") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DelfError(f"{display_path(path)} is damaged ({error}): run 'delf dataset build' again, which writes it "
                        "anew") from error


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _number(text: str) -> float | None:
    return float(text) if text else None
