"""Distances on the Earth, and dense clusters of positions: DBSCAN (Ester et al., KDD 1996), exactly, on the sphere.

Positions become points of the unit sphere, where what is near is near: the date line and the poles are places like any
other. A grid of cells whose diagonal is the radius does the rest (Gunawan, "A faster algorithm for DBSCAN", 2013):
points of one cell are neighbours without a look, so that thousands of photos at one spot cost nothing. A library
that clusters positions would be larger than all that delf installs, for the page that this takes.
"""

from __future__ import annotations

from itertools import chain, product

import numpy as np
from numpy.typing import NDArray

from delf.errors import OptionError
from delf.types import IntArray

EARTH_KM = 6371.0088  # the mean radius (IUGG)
DIGITS = 7  # of degrees that are kept: a centimetre
SMALLEST_KM = 0.02  # a phone is not more exact, and the numbers of cells have room
BLOCK = 2048  # points that are compared at once with others

Floats = NDArray[np.float64]


def unit_vectors(positions: Floats) -> Floats:
    """(N, 2) latitudes and longitudes in degrees -> (N, 3) points of the unit sphere."""
    latitudes, longitudes = np.radians(np.asarray(positions, np.float64).reshape(-1, 2)).T
    return np.column_stack([np.cos(latitudes) * np.cos(longitudes), np.cos(latitudes) * np.sin(longitudes),
                            np.sin(latitudes)])


def distances_km(first: Floats, second: Floats) -> Floats:
    """(N,) along the sphere, between (N, 2) positions in degrees and as many others (or one)."""
    chords = np.linalg.norm(unit_vectors(first) - unit_vectors(second), axis=1)
    return 2 * EARTH_KM * np.arcsin(np.minimum(chords / 2, 1.0))


def centre_of(positions: Floats) -> tuple[float, float]:
    """The middle of (N, 2) positions in degrees: the point of the sphere below their median in space, so that one photo
    that says it was taken far away does not move it.
    """
    x, y, z = np.median(unit_vectors(positions), axis=0)
    north, east = np.degrees([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)]).round(DIGITS).tolist()
    return float(north), float(east)


def dense_clusters(positions: Floats, radius_km: float, minimum: int) -> IntArray:
    """(N,) the number of the cluster of each position, from 0 by the first member, or -1.

    A position is in the middle of a cluster where so many lie within the radius, itself included; those in the middle
    that are neighbours are one cluster, and any other joins that of its nearest neighbour in the middle.

    Args:
        positions: (N, 2) latitude and longitude in degrees.

    Raises:
        OptionError: the radius is below 20 m or beyond a quarter of the Earth, or the minimum below 1.
    """
    if not SMALLEST_KM <= radius_km <= 10_000 or minimum < 1:
        raise OptionError(f"the radius of places is from {SMALLEST_KM} to 10,000 km, and they have 1 photo or more in "
                          f"it, not {radius_km} and {minimum}")
    if not len(positions):
        return np.zeros(0, np.int64)
    unique, inverse, weights = np.unique(positions, axis=0, return_inverse=True, return_counts=True)
    labels = _Grid(unit_vectors(unique), weights, radius_km).clusters(minimum)[inverse.reshape(-1)]
    clusters, first = np.unique(labels, return_index=True)
    order = np.argsort(first[clusters >= 0])
    numbers = np.full(int(labels.max()) + 2, -1, np.int64)
    numbers[clusters[clusters >= 0][order]] = np.arange(len(order))
    return numbers[labels]  # -1 looks at the last one, which is -1


class _Grid:
    """Different points of the unit sphere in cells; each counts as often as its weight says."""

    def __init__(self, points: Floats, weights: IntArray, radius_km: float) -> None:
        self._points, self._weights = points, weights
        chord = 2 * np.sin(radius_km / EARTH_KM / 2) * (1 + 1e-12)
        self._square = chord * chord
        cells = np.floor((points + 1) / (chord / np.sqrt(3))).astype(np.int64) + 2
        side = int(cells.max()) + 3
        codes = (cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]
        order = np.argsort(codes, kind="stable")
        self._codes, starts = np.unique(codes[order], return_index=True)
        self._members = np.split(order, starts[1:])
        self._neighbours = self._adjacent([(i * side + j) * side + k for i, j, k in product(range(-2, 3), repeat=3)])

    def _adjacent(self, steps: list[int]) -> list[tuple[int, int]]:
        """Pairs of cells, not empty, whose points may be near each other; each pair once."""
        found = []
        for step in (step for step in steps if step > 0):
            places = np.minimum(np.searchsorted(self._codes, self._codes + step), len(self._codes) - 1)
            there = np.flatnonzero(self._codes[places] == self._codes + step)
            found += list(zip(there.tolist(), places[there].tolist(), strict=True))
        return found

    def clusters(self, minimum: int) -> IntArray:
        """(n,) a number for the cluster of each point, -1 for none."""
        core = self._core(minimum)
        middles = [members[core[members]] for members in self._members]
        borders = [members[~core[members]] for members in self._members]
        roots = self._joined(middles)
        labels, nearest = np.full(len(core), -1, np.int64), np.full(len(core), np.inf)
        for cell, middle in enumerate(middles):
            labels[middle] = roots[cell]
        itself = ((cell, cell) for cell in range(len(middles)))
        for one, other in chain(itself, self._neighbours, (pair[::-1] for pair in self._neighbours)):
            border, middle = borders[one], middles[other]
            if len(border) and len(middle):
                square = self._squares(border, middle).min(axis=1)
                nearer = (square <= self._square) & (square < nearest[border])
                labels[border[nearer]], nearest[border[nearer]] = roots[other], square[nearer]
        return labels

    def _core(self, minimum: int) -> NDArray[np.bool_]:
        """(n,) which points have so many others within the radius."""
        around = np.zeros(len(self._points), np.int64)
        for members in self._members:
            around[members] = self._weights[members].sum()
        crowded = [bool(around[members[0]] >= minimum) for members in self._members]
        counts = around.copy()
        for pair in self._neighbours:
            for cell, beside in (pair, pair[::-1]):
                if not crowded[cell]:  # then it is small, and the block is, too
                    members, others = self._members[cell], self._members[beside]
                    near = self._squares(members, others) <= self._square
                    counts[members] += near @ self._weights[others]
        return counts >= minimum

    def _joined(self, middles: list[IntArray]) -> list[int]:
        """For each cell the lowest one that its points in the middle of a cluster are joined to."""
        parents = list(range(len(middles)))

        def root(cell: int) -> int:
            while parents[cell] != cell:
                parents[cell] = cell = parents[parents[cell]]
            return cell

        for one, other in self._neighbours:
            low, high = sorted((root(one), root(other)))
            if low != high and self._touch(middles[one], middles[other]):
                parents[high] = low
        return [root(cell) for cell in range(len(middles))]

    def _touch(self, first: IntArray, second: IntArray) -> bool:
        """Whether any of some points is within the radius of any other."""
        return len(second) > 0 and any((self._squares(first[start : start + BLOCK], second[at : at + BLOCK])
                                        <= self._square).any()
                                       for start in range(0, len(first), BLOCK) for at in range(0, len(second), BLOCK))

    def _squares(self, first: IntArray, second: IntArray) -> Floats:
        """(len(first), len(second)) squares of the chords between points."""
        difference = self._points[first][:, None] - self._points[second][None]
        return np.asarray(np.einsum("ijk,ijk->ij", difference, difference), np.float64)
