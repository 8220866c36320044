"""Where the photos of a collection were taken, counted by the cells of a map, however many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from delf.collection.snapshot import Snapshot
from delf.types import IntArray

WORLD = (-90.0, -180.0, 90.0, 180.0)  # south, west, north, east
CLOSEST = 22  # the last zoom of a map
MOST = 1500  # cells of one view
_STEEPEST = 85.05112878  # degrees of latitude that a map in the projection of Mercator ends at
_CELL = 64  # pixels of a map whose world is 256 pixels at zoom 0
_BESIDE = 0.55  # of a cell: neighbours that are closer, by the means of their positions, become one
_GRAIN = 1e6  # parts of a degree that boxes are rounded to, outwards: a tenth of a metre
Box = tuple[float, float, float, float]


class Placed(NamedTuple):
    """A photo that says where it was taken, in degrees (WGS 84)."""

    ordinal: int
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Cell:
    """Photos beside one another. at: (latitude, longitude), the mean of their positions on the map. box: (south, west,
    north, east) around these, in which no photos of other cells lie.
    """

    count: int
    at: tuple[float, float]
    box: Box


@dataclass(frozen=True, eq=False)
class Positions:
    """Where photos were taken. ordinals: (n,). degrees: (n, 2) float64: latitude and longitude."""

    ordinals: IntArray
    degrees: NDArray[np.float64]

    @classmethod
    def of(cls, placed: Sequence[Placed]) -> Self:
        """Those of some photos; what is no position on the earth is left out."""
        degrees = np.array([one[1:] for one in placed], np.float64).reshape(-1, 2)
        good = (np.abs(degrees) <= WORLD[2:]).all(axis=1)
        return cls(np.array([one.ordinal for one in placed], np.int64)[good], degrees[good])

    def __len__(self) -> int:
        return len(self.ordinals)

    def only(self, mask: NDArray[np.bool_]) -> Self:
        """Those of the photos whose ordinals a mask has."""
        kept = mask[self.ordinals]
        return type(self)(self.ordinals[kept], self.degrees[kept])

    def within(self, box: Box) -> Self:
        """Those that lie in (south, west, north, east), its edges included."""
        kept = ((self.degrees >= box[:2]) & (self.degrees <= box[2:])).all(axis=1)
        return type(self)(self.ordinals[kept], self.degrees[kept])

    @property
    def box(self) -> Box | None:
        """(south, west, north, east) around all; None where there is none."""
        if not len(self):
            return None
        return _around(self.degrees.min(axis=0), self.degrees.max(axis=0))

    def cells(self, zoom: int) -> list[Cell]:
        """The cells of a map that have photos, most photos first: of 64 pixels at a zoom, or larger where these would
        be more than `MOST`. Two neighbours are one where the border between them cuts through a crowd.
        """
        if not len(self):
            return []
        places, side = _on_map(self.degrees), round(256 / _CELL) << min(max(zoom, 0), CLOSEST)
        corners, members = _grouped((places * side).astype(np.int64))
        while len(corners) > MOST:
            corners, larger = _grouped(corners // 2)
            members, side = larger[members], side // 2
        members = _joined(corners, self._means(members, places * side))[members]
        order = np.argsort(members, kind="stable")
        counts = np.bincount(members)
        starts = np.cumsum(counts) - counts
        at = _on_earth(self._means(members, places))
        least, most = (way.reduceat(self.degrees[order], starts) for way in (np.minimum, np.maximum))
        found = [Cell(int(counts[one]), (float(at[one, 0]), float(at[one, 1])), _around(least[one], most[one]))
                 for one in range(len(counts))]
        return sorted(found, key=lambda cell: (-cell.count, cell.box))

    def _means(self, members: IntArray, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, 2) the means of the (n, 2) places of each cell. members: (n,) in which cell each is."""
        sums = np.stack([np.bincount(members, weights) for weights in places.T], axis=1)
        return np.asarray(sums / np.bincount(members)[:, None])


def positions(snapshot: Snapshot) -> list[Placed]:
    """The photos of a snapshot that say where they were taken, as the catalogue has it now."""
    bases = {segment.folder.name: base
             for segment, base in zip(snapshot.segments, snapshot.bases.tolist(), strict=False)}
    found = []
    for key, segment, position, latitude, longitude in snapshot.lookup.placed():
        ordinal = bases[segment] + position if segment in bases else snapshot.ordinal_of_key(key.hex())  # merged since
        if ordinal is not None and snapshot.alive[ordinal]:
            found.append(Placed(ordinal, latitude, longitude))
    return found


def parsed_box(text: str) -> Box:
    """south,west,north,east in degrees. Raises `ValueError` with a sentence where a text is no such box."""
    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("a box of the map is south,west,north,east in degrees, such as 41.8,12.4,42.0,12.6") from None
    if not (-90 <= south <= north <= 90 and -180 <= west <= east <= 180):
        raise ValueError("a box of the map has latitudes from -90 to 90 and longitudes from -180 to 180, the smaller "
                         "ones first: south,west,north,east")
    return south, west, north, east


def _on_map(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) latitude and longitude -> (n, 2) x and y from 0 to 1 on a map in the projection of Mercator, as web maps
    have it (EPSG 3857), north on top.
    """
    latitude = np.radians(np.clip(degrees[:, 0], -_STEEPEST, _STEEPEST))
    y = (1 - np.arcsinh(np.tan(latitude)) / math.pi) / 2
    return np.clip(np.stack([(degrees[:, 1] + 180) / 360, y], axis=1), 0, np.nextafter(1, 0))


def _on_earth(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_on_map`."""
    latitude = np.degrees(np.arctan(np.sinh(math.pi * (1 - 2 * places[:, 1]))))
    return np.stack([latitude, places[:, 0] * 360 - 180], axis=1)


def _grouped(cells: IntArray) -> tuple[IntArray, IntArray]:
    """(n, 2) columns and rows -> the (m, 2) different ones, and (n,) which of these each is."""
    different, members = np.unique(cells[:, 0] << 32 | cells[:, 1], return_inverse=True)
    return np.stack([different >> 32, different & 0xFFFFFFFF], axis=1), members


def _joined(corners: IntArray, means: NDArray[np.float64]) -> IntArray:
    """(m,) which cells become one, numbered from 0: two at most, which lie side by side, so that the box around them
    has photos of no other. corners: (m, 2) columns and rows. means: (m, 2) of the positions, in cells.
    """
    places = {corner: number for number, corner in enumerate(map(tuple, corners.tolist()))}
    joined = np.full(len(corners), -1, np.int64)
    count = 0
    for number, (column, row) in enumerate(corners.tolist()):
        if joined[number] >= 0:
            continue
        joined[number] = count
        beside = [places[one] for one in ((column + 1, row), (column, row + 1)) if one in places]
        near = [(float(np.linalg.norm(means[number] - means[one])), one) for one in beside if joined[one] < 0]
        if near and min(near)[0] < _BESIDE:
            joined[min(near)[1]] = count
        count += 1
    return joined


def _around(least: NDArray[Any], most: NDArray[Any]) -> Box:
    """A box with few digits, from which nothing sticks out."""
    south, west = (np.floor(least * _GRAIN) / _GRAIN).tolist()
    north, east = (np.ceil(most * _GRAIN) / _GRAIN).tolist()
    return max(south, WORLD[0]), max(west, WORLD[1]), min(north, WORLD[2]), min(east, WORLD[3])
