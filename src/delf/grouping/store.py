"""The pairs of a collection that were judged, in a SQLite file: whatever ends the work, what was done stays.

    places.delf/pairs-<state>.sqlite      what is known of the collection in this state, judged with these options

A state is the segments, the removed images and the options: once photos are added or removed, or something is judged
another way, the pairs are looked for anew, so that they never depend on what the collection once was.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.collection import Collection
from delf.errors import CollectionError
from delf.images import display_path
from delf.types import FloatArray, IntArray

FORMAT = 1
PATTERN = "pairs-*.sqlite*"
SUFFIXES = ("", "-wal", "-shm")
TABLES = """
CREATE TABLE IF NOT EXISTS images (ordinal INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS pairs (first INTEGER, second INTEGER, inliers INTEGER, probability REAL, share REAL,
                                  area REAL, displacement REAL, PRIMARY KEY (first, second)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_second ON pairs (second);
"""


@dataclass(frozen=True)
class Judged:
    """A pair of images, by ordinal, the lower one first; as in `Pairs`, where geometry confirms it."""

    first: int
    second: int
    inliers: int
    probability: float = 0.0
    share: float = 0.0
    area: float = 0.0
    displacement: float = float("inf")


@dataclass(frozen=True, eq=False)
class Pairs:
    """P confirmed pairs of a collection, by ordinals of their images.

    first, second: (P,) int64, first < second, in that order. inliers: (P,) int64. probability: (P,) float32, that both
    show the same thing. share: (P,) float32, of the features of the image with fewer, that are inliers. area: (P,)
    float32, the share of either image that the inliers span, the smaller one. displacement: (P,) float32, as the
    function of that name gives it. images: how many there are in the collection; done: how many of them were looked at,
    fewer where the work was interrupted.
    """

    first: IntArray
    second: IntArray
    inliers: IntArray
    probability: FloatArray
    share: FloatArray
    area: FloatArray
    displacement: FloatArray
    images: int
    done: int

    def __len__(self) -> int:
        return len(self.first)

    @property
    def interrupted(self) -> bool:
        """Whether images are left that were not looked at."""
        return self.done < self.images

    def select(self, rows: NDArray[np.bool_] | IntArray) -> Pairs:
        """The pairs in the given rows."""
        return Pairs(self.first[rows], self.second[rows], self.inliers[rows], self.probability[rows], self.share[rows],
                     self.area[rows], self.displacement[rows], self.images, self.done)


@dataclass(frozen=True)
class Earlier:
    """The judgements of an earlier state, in ordinals of today: images that were looked at, and pairs of images."""

    images: tuple[int, ...]
    pairs: tuple[Judged, ...]


def state_of(collection: Collection, options: str) -> str:
    """A name for what the pairs of a collection depend on."""
    digest = hashlib.sha256(f"{FORMAT} {options} {collection.about['model']['fingerprint']}".encode())
    for segment in collection.segments:
        digest.update(segment.folder.name.encode())
    digest.update(np.packbits(collection.alive).tobytes())
    return digest.hexdigest()[:16]


class PairStore:
    """The judged pairs of one state of a collection. Several processes may fill it at once: they find the same."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, folder: Path, state: str) -> Iterator[PairStore]:
        """The pairs kept in the folder of a collection; in a temporary one, for now, where that cannot be written.

        Those of other states go. A file that is damaged is made anew: it holds nothing that cannot be found again.

        Raises:
            CollectionError: there is no room.
        """
        path = folder / f"pairs-{state}.sqlite"
        with contextlib.ExitStack() as stack:
            try:
                connection = _opened(path)
            except (sqlite3.OperationalError, OSError):  # it may not be written
                place = stack.enter_context(tempfile.TemporaryDirectory(prefix="delf-"))
                connection = _opened(Path(place) / path.name)
            else:
                _forget_others(folder, path)
            stack.callback(connection.close)
            try:
                yield cls(connection)
            except sqlite3.Error as error:
                raise CollectionError(f"the pairs of {display_path(folder)} cannot be kept ({error}); make room on the "
                                      "disk, and run it again: it goes on from there") from error

    def images(self) -> set[int]:
        """The ordinals of the images that were looked at."""
        return {ordinal for (ordinal,) in self._connection.execute("SELECT ordinal FROM images")}

    def known(self, ordinal: int) -> dict[int, int]:
        """The inliers of the judged pairs of an image, by the other one."""
        rows = self._connection.execute("SELECT second, inliers FROM pairs WHERE first = ? UNION ALL "
                                        "SELECT first, inliers FROM pairs WHERE second = ?", (ordinal, ordinal))
        return dict(rows.fetchall())

    def add(self, ordinal: int, judged: Iterable[Judged]) -> None:
        """Keep the pairs of an image, and that it was looked at: both or neither."""
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?)",
                                         map(astuple, judged))
            self._connection.execute("INSERT OR IGNORE INTO images VALUES (?)", (ordinal,))

    def take_over(self, earlier: Earlier) -> None:
        """Begin with what was known before, where nothing is known of this state yet."""
        if not self.images():
            with self._connection:
                self._connection.executemany("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?)",
                                             map(astuple, earlier.pairs))
                self._connection.executemany("INSERT OR IGNORE INTO images VALUES (?)",
                                             ((image,) for image in earlier.images))

    def pairs(self, confirmed: int, *, images: int) -> Pairs:
        """All pairs with so many inliers or more. images: of the collection."""
        rows = self._connection.execute("SELECT * FROM pairs WHERE inliers >= ? ORDER BY first, second", (confirmed,))
        table = np.fromiter(rows, np.dtype([(name, np.int64) for name in ("first", "second", "inliers")] + [
            (name, np.float32) for name in ("probability", "share", "area", "displacement")]))
        first, second, inliers, probability, share, area, displacement = (
            np.ascontiguousarray(table[name]) for name in table.dtype.names or ())
        return Pairs(first, second, inliers, probability, share, area, displacement, images, len(self.images()))


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:  # damaged
        for suffix in SUFFIXES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last images, and nothing else
        connection.executescript(TABLES)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _forget_others(folder: Path, kept: Path) -> None:
    for path in folder.glob(PATTERN):
        if not path.name.startswith(kept.name):
            with contextlib.suppress(OSError):
                path.unlink()
