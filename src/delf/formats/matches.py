"""Matches of pairs of images as HDF5 in the layout of hloc (cvg/Hierarchical-Localization): one file, many pairs.

The matches of a pair are a group `NAME0/NAME1`, whose names have "-" in the place of each "/": `matches0` (N0,)
integer, for each feature of the first image the row of its partner in the second, or -1; `matching_scores0` (N0,)
float, 0 where there is no partner; and, of ours, `fundamental` (3, 3) where it is known. hloc looks for a pair either
way round, and, in files of its first versions, under `NAME0_NAME1`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError
from delf.formats.assembly import finite
from delf.formats.container import require_text
from delf.formats.hdf5 import ABOUT, about_of, created, is_own, opened, parsing, read_array
from delf.formats.pairs import Pair
from delf.types import FloatArray, Matches


def key_of(name0: str, name1: str, separator: str = "/") -> str:
    """The name of the group of a pair."""
    return f"{name0.replace('/', '-')}{separator}{name1.replace('/', '-')}"


@dataclass(frozen=True, eq=False)
class Partners:
    """The matches of a pair as they lie in a file.

    rows: (N0,) int32, for each feature of the first image the row of its partner in the second, or -1. scores: (N0,)
    float32. fundamental: (3, 3) float64 with x1' F x0 = 0 in the pixels of `delf.types`, or None; hloc does not ask
    for it.
    """

    rows: NDArray[np.int32]
    scores: FloatArray
    fundamental: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, matches: Matches, count: int, fundamental: NDArray[np.float64] | None = None) -> Partners:
        """Of matches of a first image with `count` features; of each feature, the most similar match is kept."""
        order = np.argsort(matches.similarities, kind="stable")  # so that the most similar is written last
        rows, scores = np.full(count, -1, np.int32), np.zeros(count, np.float32)
        rows[matches.query[order]] = matches.database[order]
        scores[matches.query[order]] = matches.similarities[order]
        return cls(rows, scores, fundamental)

    @property
    def matches(self) -> Matches:
        """The same as a list, most similar first."""
        query = np.flatnonzero(self.rows != -1)
        query = query[np.argsort(-self.scores[query], kind="stable")]
        return Matches(query, self.rows[query].astype(np.int64), self.scores[query])


def write(path: Path, pairs: Iterable[tuple[Pair, Partners]], about: str = "") -> None:
    """Write the matches of pairs. about: what they were made by, as JSON.

    Raises:
        DelfError: the file cannot be written, or names differ in nothing but "/" and "-", which this layout mixes up.
        MissingDependencyError: h5py is not installed.
    """
    owners: dict[str, Pair] = {}
    with created(path) as file:
        if about:
            file.attrs[ABOUT] = about
        for pair, partners in pairs:
            for name in pair:
                require_text(name, path)
            key = key_of(*pair)
            other = owners.get(key) or owners.get(key_of(*reversed(pair)))
            if other is not None:
                raise DelfError(f"{' and '.join(map(repr, pair))} would have the same place in {str(path)!r} as "
                                f"{' and '.join(map(repr, other))}, as names there have '-' for '/': give each pair "
                                "once, and images names that differ in more than that.")
            owners[key] = pair
            group = file.create_group(key)
            group["matches0"], group["matching_scores0"] = partners.rows, partners.scores
            if partners.fundamental is not None:
                group["fundamental"] = partners.fundamental


class PairMatches:
    """The matches in a file, read a pair at a time. about: what they were made by, as JSON; "" where it is not said."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        with parsing(path):
            self.about = about_of(file)

    def partners(self, name0: str, name1: str) -> Partners | None:
        """What the file has under this very pair, this way round; None where it has nothing.

        Raises:
            DelfError: that is damaged.
        """
        with parsing(self._path):
            return self._read(key_of(name0, name1))

    def read(self, name0: str, name1: str) -> tuple[Matches, NDArray[np.float64] | None] | None:
        """The matches from one image to another, most similar first, and the fundamental matrix where there is one;
        None where the file does not have this pair either way round.

        Raises:
            DelfError: they are damaged.
        """
        for separator in ("/", "_"):
            for names in ((name0, name1), (name1, name0)):
                with parsing(self._path):
                    found = self._read(key_of(*names, separator))
                if found is not None and names == (name0, name1):
                    return found.matches, found.fundamental
                if found is not None:
                    turned, matrix = found.matches, found.fundamental
                    return (Matches(turned.database, turned.query, turned.similarities),
                            None if matrix is None else matrix.T)
        return None

    def _read(self, key: str) -> Partners | None:
        place = self._file
        for part in key.split("/"):  # step by step: a link could lead to another file
            if not is_own(place, part):
                return None
            place = place[part]
        limit = self._path.stat().st_size
        rows, scores, matrix = (read_array(place, name, limit)
                                for name in ("matches0", "matching_scores0", "fundamental"))
        if rows is None or rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(f"{key!r} has no list of whole numbers 'matches0'")
        if rows.size and not -1 <= rows.min() <= rows.max() < 2**31:
            raise ValueError(f"{key!r} has matches with impossible numbers of features")
        scores = np.ones(len(rows), np.float32) if scores is None else finite("scores", scores, axes=1)
        if matrix is not None and (matrix.shape != (3, 3) or not np.isfinite(matrix).all()):
            raise ValueError(f"{key!r} has a fundamental matrix that is not 3 x 3 finite numbers")
        if scores.shape != rows.shape:
            raise ValueError(f"{key!r} has more or fewer scores than matches")
        return Partners(rows.astype(np.int32), scores, None if matrix is None else matrix.astype(np.float64))


@contextlib.contextmanager
def open_matches(path: Path) -> Iterator[PairMatches]:
    """The matches in a file.

    Raises:
        DelfError: the file is missing, or no HDF5.
        MissingDependencyError: h5py is not installed.
    """
    with opened(path) as file:
        yield PairMatches(file, path)

