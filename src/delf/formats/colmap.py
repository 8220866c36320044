"""Databases of COLMAP: images with their cameras and keypoints, matches, and two-view geometries (SQLite).

COLMAP puts the centre of the first pixel at (0.5, 0.5), as hloc does when it fills a database; here it is (0, 0), so
half a pixel is added where a database is written and taken off where it is read, from fundamental matrices as well.
COLMAP does not turn photos by their EXIF orientation: what a database says is in pixels of the photo as it is stored.

A pair is stored once, at `pair_id = 2147483647 * i + j` of the image numbers i < j, and its matrices lie there row by
row in float64 (COLMAP's `scene/database_sqlite.cc`). Descriptors are written to no database: COLMAP has bytes for SIFT
there, and takes others for that. Those in a database are read, as unit vectors.

The file of another program is read without anything in it being run: tables only, no views, no computed columns; and
what a row says of its size is compared with what is there before memory is taken.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError
from delf.files import replacing
from delf.formats.assembly import assemble, finite
from delf.formats.container import LONGEST_NAME, Images, require_text
from delf.formats.files import MAX_BYTES, damaged, require_file
from delf.formats.pairs import Pair
from delf.types import Features, IntArray

HALF_PIXEL = 0.5
SIMPLE_RADIAL = 2  # the camera model with f, cx, cy, k
UNCALIBRATED = 3  # the configuration of a two-view geometry that is known by a fundamental matrix
_PAIR = 2**31 - 1
_SIFT = 0  # the type of descriptors that are bytes; those of others are float32
_VERSION = 3800  # the version of COLMAP whose tables these are; newer ones add theirs when they open the file
_TABLES = {
    "cameras": "camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, width INTEGER NOT NULL, "
               "height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL",
    "images": "image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT "
              f"NULL, CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < {_PAIR}), "
              "FOREIGN KEY(camera_id) REFERENCES cameras(camera_id)",
    "keypoints": "image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB, "
                 "FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE",
    "descriptors": "image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB, "
                   "FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE",
    "matches": "pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB",
    "two_view_geometries": "pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, "
                           "data BLOB, config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB",
}


@dataclass(frozen=True)
class Camera:
    """What COLMAP starts from: the model with one focal length and one radial distortion.

    size: (width, height) of the photo as it is stored. focal: in pixels. known: whether it is known, not guessed.
    """

    size: tuple[int, int]
    focal: float
    known: bool = False


@dataclass(frozen=True, eq=False)
class TwoView:
    """Two images and what is known of them together.

    matches: (M, 2) int64 rows of features of the first and the second, before geometry. inliers: (I, 2) int64, those
    that agree with the geometry. fundamental: (3, 3) float64 with x1' F x0 = 0 for (x, y, 1) in the pixels of
    `delf.types`, or None.
    """

    names: Pair
    matches: IntArray
    inliers: IntArray
    fundamental: NDArray[np.float64] | None = None

    def reversed(self) -> TwoView:
        """The same with the images the other way round."""
        return TwoView(self.names[::-1], self.matches[:, ::-1], self.inliers[:, ::-1],
                       None if self.fundamental is None else self.fundamental.T)


# --- writing


def write(path: Path, images: Iterable[tuple[str, Features, Camera]], views: Iterable[TwoView]) -> None:
    """Write a database. Cameras that are the same object are one camera of the database.

    Raises:
        DelfError: the file cannot be written, a name cannot be one, or a view is of an image that there is not.
    """
    with replacing(path) as temporary, contextlib.closing(sqlite3.connect(temporary)) as base, _told(path):
        base.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"  # it is flushed when it is whole
                           f"PRAGMA user_version = {_VERSION};"
                           + "".join(f"CREATE TABLE {name} ({columns});" for name, columns in _TABLES.items()))
        numbers = _write_images(base, path, images)
        for view in views:
            _write_view(base, path, numbers, view)
        base.commit()


def _write_images(base: sqlite3.Connection, path: Path,
                  images: Iterable[tuple[str, Features, Camera]]) -> dict[str, int]:
    """Write images and their keypoints; the number of each."""
    numbers: dict[str, int] = {}
    cameras: dict[int, tuple[Camera, int]] = {}  # by their identity, and kept for it
    for name, features, camera in images:
        require_text(name, path)
        if name in numbers:
            raise DelfError(f"{name!r} is there twice, so {str(path)!r} was not written: give every image its own "
                            "name.")
        numbers[name] = number = len(numbers) + 1
        if id(camera) not in cameras:
            cameras[id(camera)] = camera, len(cameras) + 1
            width, height = camera.size
            params = np.array([camera.focal, width / 2, height / 2, 0], "<f8").tobytes()
            base.execute("INSERT INTO cameras VALUES (?, ?, ?, ?, ?, ?)", (
                len(cameras), SIMPLE_RADIAL, width, height, params, int(camera.known)))
        base.execute("INSERT INTO images VALUES (?, ?, ?)", (number, name, cameras[id(camera)][1]))
        turned = np.zeros(len(features)) if features.orientations is None else features.orientations
        points = np.column_stack([features.keypoints + HALF_PIXEL, features.scales, turned]).astype("<f4")
        base.execute("INSERT INTO keypoints VALUES (?, ?, ?, ?)", (number, *points.shape, points.tobytes()))
    return numbers


def _write_view(base: sqlite3.Connection, path: Path, numbers: Mapping[str, int], view: TwoView) -> None:
    missing = [name for name in view.names if name not in numbers]
    if missing or view.names[0] == view.names[1]:
        raise DelfError(f"the pair {view.names!r} is not of two images of {str(path)!r}, which was not written: give "
                        "pairs of the images whose features are there.")
    if numbers[view.names[0]] > numbers[view.names[1]]:
        view = view.reversed()
    first, second = (numbers[name] for name in view.names)
    pair = _PAIR * first + second
    matrix = None if view.fundamental is None else _moved(view.fundamental, HALF_PIXEL).astype("<f8").tobytes()
    try:
        base.execute("INSERT INTO matches VALUES (?, ?, 2, ?)", (pair, len(view.matches), _rows(view.matches)))
        if matrix is not None or len(view.inliers):
            base.execute("INSERT INTO two_view_geometries VALUES (?, ?, 2, ?, ?, ?, NULL, NULL, NULL, NULL)", (
                pair, len(view.inliers), _rows(view.inliers), UNCALIBRATED, matrix))
    except sqlite3.IntegrityError as error:
        raise DelfError(f"the pair {view.names!r} is there twice, so {str(path)!r} was not written: give every pair "
                        "once.") from error


def _rows(pairs: IntArray) -> bytes:
    return np.ascontiguousarray(pairs, "<u4").tobytes()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DelfError(f"{str(path)!r} could not be written ({error}): check the disk.") from error


def _moved(fundamental: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """The matrix for points whose coordinates are greater by a number of pixels."""
    back = np.array([[1, 0, -by], [0, 1, -by], [0, 0, 1]])
    moved: NDArray[np.float64] = back.T @ fundamental @ back
    return moved


# --- reading


class Database:
    """A database that is open to be read.

    images: its images by name, in the order of their numbers, each read when it is asked for.
    """

    def __init__(self, base: sqlite3.Connection, path: Path) -> None:
        self._base = base
        self._path = path
        self._typed = "type" in _columns(base, "descriptors")
        rows = list(base.execute("SELECT images.image_id, name, width, height FROM images LEFT JOIN cameras "
                                 "USING (camera_id) ORDER BY images.image_id"))
        self._names = {number: _name(name) for number, name, _, _ in rows}
        self._numbers = {name: number for number, name in self._names.items()}
        self._sizes = {number: (width or 0, height or 0) for number, _, width, height in rows}
        self.images = Images(tuple(self._numbers), self._features)

    def views(self) -> Iterator[TwoView]:
        """The matches and the geometry of each pair of images, one pair at a time, in the order of their numbers.

        Raises:
            DelfError: a row makes no sense.
        """
        with _parsing(self._path):
            for (pair,) in self._base.execute("SELECT pair_id FROM matches UNION SELECT pair_id FROM "
                                              "two_view_geometries ORDER BY pair_id"):
                first, second = divmod(pair, _PAIR) if isinstance(pair, int) else (0, 0)
                if first not in self._names or second not in self._names:
                    raise ValueError(f"it has matches of a pair {pair} whose images it does not have")
                matches, inliers = (self._table(name, "pair_id", pair, "<u4", (2,)) for name in
                                    ("matches", "two_view_geometries"))
                yield TwoView((self._names[first], self._names[second]), _pairs(matches), _pairs(inliers),
                              self._fundamental(pair))

    def _features(self, name: str) -> Features:
        number = self._numbers[name]
        with _parsing(self._path):
            points = self._table("keypoints", "image_id", number, "<f4", (2, 4, 6))
            points = np.zeros((0, 2), np.float32) if points is None else points
            descriptors = self._descriptors(number)
            if descriptors is None:
                descriptors = np.zeros((len(points), 0), np.float32)
            scales, orientations = _shape_of(points)
            return assemble(points[:, :2] - np.float32(HALF_PIXEL), scales, np.ones(len(points)), descriptors,
                            self._sizes[number], orientations=orientations)

    def _descriptors(self, number: int) -> NDArray[Any] | None:
        """(N, D) unit vectors, or None where the image has none."""
        kind = _SIFT
        if self._typed:
            row = self._base.execute("SELECT type FROM descriptors WHERE image_id = ?", (number,)).fetchone()
            kind = _SIFT if row is None else row[0]
        table = self._table("descriptors", "image_id", number, "u1", None)
        if table is None:
            return None
        if kind != _SIFT:
            if table.shape[1] % 4:
                raise ValueError(f"the descriptors of image {number} are no whole float32 numbers")
            table = np.ascontiguousarray(table).view("<f4")
        vectors = finite("descriptors", table, axes=2)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def _fundamental(self, pair: int) -> NDArray[np.float64] | None:
        row = self._base.execute("SELECT F FROM two_view_geometries WHERE pair_id = ? AND length(F) <= 72",
                                   (pair,)).fetchone()
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != 72:
            return None
        matrix = np.frombuffer(row[0], "<f8").reshape(3, 3)
        if not np.isfinite(matrix).all():
            raise ValueError(f"the fundamental matrix of the pair {pair} is not of finite numbers")
        return _moved(matrix, -HALF_PIXEL) if matrix.any() else None

    def _table(self, table: str, key: str, value: int, dtype: str, columns: tuple[int, ...] | None,
               ) -> NDArray[Any] | None:
        """The array of a row; None where there is no row, or one without numbers."""
        row = self._base.execute(f"SELECT rows, cols, length(data) FROM {table} WHERE {key} = ?", (value,)).fetchone()
        if row is None or row[0] == 0:
            return None
        rows, width, length = row
        size = np.dtype(dtype).itemsize
        if not (isinstance(rows, int) and isinstance(width, int) and 0 < rows < 2**31 and 0 < width < 2**20
                and (columns is None or width in columns) and length == rows * width * size <= MAX_BYTES):
            raise ValueError(f"{table} of {value}: {rows} rows of {width} numbers do not fit its {length} bytes")
        (data,) = self._base.execute(f"SELECT data FROM {table} WHERE {key} = ?", (value,)).fetchone()
        if not isinstance(data, bytes) or len(data) != length:
            raise ValueError(f"{table} of {value} has text where numbers belong")
        return np.frombuffer(data, dtype).reshape(rows, width)


@contextlib.contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """Open a database, as COLMAP, hloc or `write` made it, to be read.

    Raises:
        DelfError: the file is missing, damaged, or no such database, or another program is writing it.
    """
    require_file(path)
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise DelfError(f"the last changes of {str(path)!r} are in {log.name!r}: close the program that writes it, or "
                        "open and close it with COLMAP once.")
    base = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        with _parsing(path):
            base.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;")
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
            base.text_factory = bytes
            for table in _TABLES:
                _require_plain(base, table)
            database = Database(base, path)
        yield database
    finally:
        base.close()


@contextlib.contextmanager
def open_images(path: Path) -> Iterator[Images]:
    """The images of a database. Raises as `open_database` does."""
    with open_database(path) as database:
        yield database.images


@contextlib.contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except DelfError:
        raise
    except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:
        raise damaged(path, error) from error


def _require_plain(base: sqlite3.Connection, table: str) -> None:
    """Refuse views, virtual tables and computed columns, which could make up rows without end."""
    row = base.execute("SELECT type, rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if row is None:
        raise ValueError(f"it has no table {table!r}, so it is no database of COLMAP")
    if row[0] != b"table" or not isinstance(row[1], int) or row[1] < 1:
        raise ValueError(f"its {table!r} is no table")
    lacking = {part.split()[0] for part in _TABLES[table].split(", ") if part.split()[1] in (
        "INTEGER", "BLOB", "TEXT")} - _columns(base, table)
    if lacking:
        raise ValueError(f"its table {table!r} lacks the column {min(lacking)!r}")


def _columns(base: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table that are stored."""
    return {name.decode("utf-8", "replace") for _, name, _, _, _, _, hidden in base.execute(
        f"PRAGMA table_xinfo({table})") if hidden == 0}


def _name(name: object) -> str:
    if not isinstance(name, bytes) or not 0 < len(name) <= LONGEST_NAME:
        raise ValueError("it has an image whose name is no text, or too long")
    return name.decode("utf-8", "surrogateescape")


def _pairs(table: NDArray[Any] | None) -> IntArray:
    return np.zeros((0, 2), np.int64) if table is None else table.astype(np.int64)


def _shape_of(points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The scales and the orientations of keypoints with 2 columns (none), 4 (both) or 6 (an affine shape).

    Those of an affine shape are as COLMAP has them: the mean length of its columns, and the direction of its first.
    """
    if points.shape[1] == 2:
        return np.ones(len(points)), None
    if points.shape[1] == 4:
        scales, turned = points[:, 2], points[:, 3]
    else:
        with np.errstate(all="ignore"):  # what is not finite is refused later
            scales = (np.hypot(points[:, 2], points[:, 4]) + np.hypot(points[:, 3], points[:, 5])) / 2
            turned = np.arctan2(points[:, 4], points[:, 2])
    return scales, turned if turned.any() else None
