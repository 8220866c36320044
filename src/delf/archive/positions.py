"""Where photos were taken: from EXIF, or from a CSV `file,latitude,longitude`, without what cannot be true."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.archive.geography import DIGITS, dense_clusters, distances_km
from delf.collection import Collection, Snapshot
from delf.errors import DelfError, OptionError
from delf.grouping import Pairs
from delf.images import display_path
from delf.settings import Options
from delf.spreadsheets import read_sheet
from delf.types import IntArray

COLUMNS = ("file", "latitude", "longitude")
NAMED = 3  # lines that a sentence names
WHOLE = re.compile(r"[-+]?[0-9]+")
SHOWN = 60  # characters of a line that a message shows


@dataclass(frozen=True)
class PlaceOptions(Options):
    """Which positions are one place, and how much they count.

    radius_km, minimum: as for `delf.archive.geography.dense_clusters`. crowd: photos at one very point from which that
    point says nothing of what they show: it is where a program puts photos of a town, or a position that was set once.
    near, far: what the odds of a pair are multiplied by where both photos were taken in one place, and where they are
    `far_km` apart or more. Positions are wrong now and then, so that pairs outweigh them. (`benchmarks/CHOICES.md`
    has what they do with positions that were made up.)
    """

    radius_km: float = 0.2
    minimum: int = 3
    crowd: int = 50
    near: float = 3.0
    far: float = 0.1
    far_km: float = 25.0

    def __post_init__(self) -> None:
        dense_clusters(np.zeros((0, 2)), self.radius_km, self.minimum)
        if self.crowd < 1:
            raise OptionError(f"a crowd has 1 photo or more, not {self.crowd}")
        if not (min(self.near, self.far) > 0 and self.far_km >= 0):
            raise OptionError("near and far are above 0, and far_km is 0 or more, not "
                              f"{self.near}, {self.far} and {self.far_km}")


@dataclass(frozen=True, eq=False)
class Places:
    """Positions of the images of a collection, and the places that they are dense at.

    positions: (n, 2) float64 latitude and longitude in degrees by ordinal, NaN where none is known. clusters: (n,) the
    place of each image, or -1. telling: (n,) whether its position says something of what it shows (`PlaceOptions`).
    remarks: a sentence for each kind of position that was not believed.
    """

    positions: NDArray[np.float64]
    clusters: IntArray
    telling: NDArray[np.bool_]
    remarks: tuple[str, ...] = ()

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) whether there is a position."""
        return np.isfinite(self.positions[:, 0])


def find_places(collection: Collection, given: Mapping[str, tuple[float, float] | None],
                options: PlaceOptions) -> Places:
    """The positions of a collection, and its places.

    Args:
        given: positions by the key of an image, which take the place of those in its EXIF; None takes that away.
    """
    snapshot = collection.snapshot
    positions = np.full((len(snapshot.alive), 2), np.nan)
    for image in np.flatnonzero(snapshot.alive).tolist():
        key = snapshot.key_of(image)
        if key in given:
            positions[image] = given[key] or (np.nan, np.nan)
        elif (facts := snapshot.lookup.facts_of(bytes.fromhex(key))) is not None and facts.latitude is not None:
            positions[image] = facts.latitude, facts.longitude
    positions = np.round(positions, DIGITS)
    known = np.flatnonzero(np.isfinite(positions[:, 0]))
    points, inverse, counts = np.unique(positions[known], axis=0, return_inverse=True, return_counts=True)
    telling = np.zeros(len(positions), bool)
    telling[known] = counts[inverse.reshape(-1)] <= options.crowd
    crowded = [at for at in np.argsort(-counts, kind="stable").tolist() if counts[at] > options.crowd]
    remarks = [f"{counts[at]:,} photos lie at {points[at][0]:.6f}, {points[at][1]:.6f} exactly, which says nothing of "
               "what they show: they are joined by what they show alone" for at in crowded[:NAMED]]
    if len(crowded) > NAMED:
        remarks.append(f"so it is with {len(crowded) - NAMED:,} more points")
    clusters = np.full(len(positions), -1, np.int64)
    clusters[known] = dense_clusters(positions[known], options.radius_km, options.minimum)
    return Places(positions, clusters, telling, tuple(remarks))


def with_places(pairs: Pairs, places: Places, options: PlaceOptions) -> Pairs:
    """Pairs whose probability knows where their photos were taken."""
    known = places.telling[pairs.first] & places.telling[pairs.second]
    same = known & (places.clusters[pairs.first] == places.clusters[pairs.second]) & (places.clusters[pairs.first] >= 0)
    apart = np.zeros(len(pairs), bool)
    apart[known] = distances_km(places.positions[pairs.first[known]],
                                places.positions[pairs.second[known]]) >= options.far_km
    probability = np.clip(pairs.probability.astype(np.float64), 0, 1 - 1e-9)
    odds = probability / (1 - probability) * np.where(same, options.near, 1.0) * np.where(apart, options.far, 1.0)
    return replace(pairs, probability=(odds / (1 + odds)).astype(np.float32))


def read_positions(path: Path, snapshot: Snapshot) -> tuple[dict[str, tuple[float, float] | None], list[str]]:
    """Positions from a CSV by the key of an image, and sentences on what is wrong with some lines.

    A file is named as it is found from here, or from the folder of the CSV; a photo without numbers has no position,
    and of several lines on one photo the last counts. `a.jpg,48,85,2,35`, where the numbers have commas, does not.

    Raises:
        DelfError: the file cannot be read, or has no such columns.
    """
    found: dict[str, tuple[float, float] | None] = {}
    absent, absurd, contrary, cut = [], [], [], []
    for line, name, latitude, longitude, commas in _rows(path):
        key = next((snapshot.key_of(image) for place in (Path(name), path.parent / name)
                    if (image := snapshot.ordinal_of(place)) is not None), None)
        position = None if not (latitude or longitude) else _position(latitude, longitude)
        if key is None:
            absent.append(line)
        elif commas:
            cut.append(line)
        elif position is None and (latitude or longitude):
            absurd.append(line)
        else:
            if found.get(key, position) != position:
                contrary.append(line)
            found[key] = position
    told = ((absent, "no photo that is here has the name (a path from here, or from the folder of that file) in"),
            (cut, "more whole numbers than columns, as where each comma of a number ends a cell, and so no position "
                  "(write points, or semicolons between cells), are in"),
            (absurd, "a position that is none (no numbers, zeros, or beyond 90 degrees of latitude or 180 of "
                     "longitude) is in"),
            (contrary, "another position for the same photo, of which the last one counts, is in"))
    return found, [f"{what} {len(lines):,} line{'s' if len(lines) > 1 else ''} of {display_path(path)}: line "
                   f"{', '.join(map(str, lines[:NAMED]))}{' and others' if len(lines) > NAMED else ''}"
                   for lines, what in told if lines]


def _rows(path: Path) -> Iterator[tuple[int, str, str, str, bool]]:
    """Each line: its number, file, latitude and longitude, and whether commas of numbers have cut it into cells."""
    try:
        sheet = read_sheet(path.read_bytes())
    except (OSError, csv.Error) as error:
        raise DelfError(f"{display_path(path)} cannot be read as a CSV of positions ({error}): mend it or put it back, "
                        "or name another one with --positions; one with nothing but the line "
                        f"{','.join(COLUMNS)} takes all positions of before away") from error
    if not set(COLUMNS) <= sheet.columns:
        raise DelfError(f"{display_path(path)} needs the columns {','.join(COLUMNS)} in its first line, which has "
                        f"{display_path(','.join(sorted(sheet.columns))[:SHOWN]) or 'nothing'!r}: name them so")
    for line, row, beyond in zip(sheet.lines, sheet.rows, sheet.beyond, strict=True):
        name, latitude, longitude = (row[column].strip() for column in COLUMNS)
        cut = len(beyond) > 1 and all(WHOLE.fullmatch(cell.strip()) for cell in (latitude, longitude, *beyond))
        yield line, name, latitude.replace(",", "."), longitude.replace(",", "."), cut


def _position(latitude: str, longitude: str) -> tuple[float, float] | None:
    """A position on the Earth; none for what is no number, beyond it, or zeros, which a receiver without a fix says."""
    try:
        north, east = float(latitude), float(longitude)
    except ValueError:
        return None
    if not (math.isfinite(north) and abs(north) <= 90 and abs(east) <= 180) or north == east == 0:
        return None
    return north, east
