"""The catalogue: which images, files and segments a collection has. The only file of it that ever changes.

One transaction publishes a segment with its images and files, so that at any instant the catalogue names only what is
complete on the disk. Paths are stored as bytes, since a file name need not be text.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delf.errors import CollectionError
from delf.images import display_path

NAME = "catalogue.sqlite"
FORMAT = 1
APPLICATION_ID = 0x64656C66  # "delf", in the header of the file

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, folder TEXT NOT NULL UNIQUE, images INTEGER NOT NULL, features INTEGER NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, width INTEGER NOT NULL, height INTEGER NOT NULL,
    captured_at TEXT, latitude REAL, longitude REAL,
    segment INTEGER NOT NULL REFERENCES segments(id), position INTEGER NOT NULL, UNIQUE (segment, position));
CREATE TABLE files (
    path BLOB PRIMARY KEY, shown BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    image INTEGER NOT NULL REFERENCES images(id)) WITHOUT ROWID;
CREATE INDEX files_of_image ON files(image);
CREATE TABLE indexes (
    segment INTEGER PRIMARY KEY REFERENCES segments(id), kind TEXT NOT NULL, quantiser TEXT NOT NULL);
"""


@dataclass(frozen=True)
class FileRecord:
    """A photo file. path: absolute, as bytes; shown: as it was given; size and mtime_ns: to see a change."""

    path: bytes
    shown: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageRecord:
    """The content of one or more equal files, and its place among the segments."""

    sha256: bytes
    width: int
    height: int
    captured_at: str | None
    latitude: float | None
    longitude: float | None


ImageRow = tuple[bytes, bytes, str | None, float | None, float | None]


class Catalogue:
    """The SQLite file, opened. One object may be used from several threads."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self._folder = folder
        self._connection = connection

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any]) -> Catalogue:
        """Make a new catalogue in an existing folder that has none."""
        # Written under another name first: a collection either has a whole catalogue or none.
        temporary = folder / f".{NAME}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        with cls._failures(folder):
            connection = _connect(temporary)
            connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};")
            connection.executescript(SCHEMA)
            with connection:
                connection.executemany("INSERT INTO about VALUES (?, ?)",
                                       [(key, json.dumps(value, sort_keys=True)) for key, value in about.items()])
            connection.close()
            temporary.replace(folder / NAME)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Catalogue:
        """Open the catalogue of a collection.

        Raises:
            CollectionError: there is none, it is damaged, of another program, or of a newer format.
        """
        path = folder / NAME
        if not exists(folder):
            raise CollectionError(f"{display_path(folder)} is not a collection: it has no {NAME}; make one with "
                                  f"'delf index PHOTOS -o {display_path(folder)}'")
        with cls._failures(folder):
            connection = _connect(path)
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [version] = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise CollectionError(f"{display_path(path)} was not written by delf; give the folder of a collection")
        if version > FORMAT:
            raise CollectionError(f"{display_path(folder)} has format {version}, which is newer than this version of "
                                  f"delf reads ({FORMAT}); upgrade delf-retrieval")
        return cls(folder, connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def about(self) -> dict[str, Any]:
        """What was stored when the collection was made, and since: model, options, format."""
        rows = self._rows("SELECT key, value FROM about", (str, str))
        try:
            about = {key: json.loads(value) for key, value in rows}
        except (ValueError, RecursionError) as error:
            raise _damaged(self._folder, error) from error
        if not _is_complete(about):
            raise _damaged(self._folder, "it does not say of which model and options it is")
        return about

    def segments(self) -> list[tuple[int, str]]:
        """(id, folder name) of each segment, in order."""
        return self._rows("SELECT id, folder FROM segments ORDER BY id", (int, str))

    def file(self, path: bytes) -> tuple[int, int] | None:
        """(size, mtime_ns) of a known file, or None."""
        return self._row("SELECT size, mtime_ns FROM files WHERE path = ?", (int, int), path)

    def image_of(self, sha256: bytes) -> int | None:
        """The id of the image with this content, or None."""
        row = self._row("SELECT id FROM images WHERE sha256 = ?", (int,), sha256)
        return None if row is None else int(row[0])

    def counts(self) -> tuple[int, int]:
        """(images that have a file, files)."""
        [counts] = self._rows("SELECT COUNT(DISTINCT image), COUNT(*) FROM files", (int, int))
        return counts

    def image_at(self, segment: int, position: int) -> ImageRow | None:
        """(shown path, absolute path, capture time, latitude, longitude) of an image; None where it was removed."""
        return self._row(
            "SELECT shown, path, captured_at, latitude, longitude FROM images JOIN files ON image = id "
            "WHERE segment = ? AND position = ? ORDER BY path LIMIT 1",
            (bytes, bytes, str | None, float | None, float | None), segment, position)

    def place_of(self, path: bytes) -> tuple[int, int] | None:
        """(segment, position) of the image of a file, or None."""
        return self._row("SELECT segment, position FROM images JOIN files ON image = id WHERE path = ?", (int, int),
                         path)

    def removed(self) -> list[tuple[int, int]]:
        """(segment, position) of each image that no file has any more."""
        return self._rows("SELECT segment, position FROM images WHERE NOT EXISTS "
                          "(SELECT 1 FROM files WHERE image = id)", (int, int))

    def publish(self, folder: str, features: int, images: Iterable[tuple[ImageRecord, list[FileRecord]]]) -> None:
        """Make a written segment visible, with its images (in order of position) and their files."""
        with self._transaction() as connection:
            images = list(images)
            if any(self.image_of(image.sha256) is not None for image, _ in images):
                raise CollectionError(f"{display_path(self._folder)} got the same photos from another process at the "
                                      "same time; run the command again for the rest")
            segment = connection.execute("INSERT INTO segments (folder, images, features) VALUES (?, ?, ?)",
                                         (folder, len(images), features)).lastrowid
            for position, (image, files) in enumerate(images):
                image_id = connection.execute(
                    "INSERT INTO images (sha256, width, height, captured_at, latitude, longitude, segment, position) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (image.sha256, image.width, image.height, image.captured_at, image.latitude, image.longitude,
                     segment, position)).lastrowid
                _store_files(connection, ((file, int(image_id or 0)) for file in files))

    def link(self, files: Iterable[tuple[FileRecord, int]]) -> None:
        """Store files of images that are known already: copies, or a known file that was touched."""
        with self._transaction() as connection:
            _store_files(connection, files)

    def indexes(self) -> dict[int, tuple[str, str]]:
        """Which indexes were built: id of the segment -> (kind, name of the quantiser)."""
        return {segment: (kind, quantiser) for segment, kind, quantiser in
                self._rows("SELECT segment, kind, quantiser FROM indexes", (int, str, str))}

    def publish_indexes(self, built: Iterable[tuple[int, str, str]], about: Mapping[str, Any]) -> None:
        """Make the indexes (segment, kind, quantiser) visible, and say in `about` what they are."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO indexes VALUES (?, ?, ?)", built)
            connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)",
                                   [(key, json.dumps(value, sort_keys=True)) for key, value in about.items()])

    def _rows(self, query: str, types: tuple[Any, ...], *values: Any) -> list[Any]:
        """The rows that a query gives. SQLite keeps any type in any column, so that damage may change it."""
        with self._failures(self._folder):
            rows = self._connection.execute(query, values).fetchall()
        if not all(isinstance(value, kind) for row in rows for value, kind in zip(row, types, strict=True)):
            raise _damaged(self._folder, "a value is of another type than was written")
        return rows

    def _row(self, query: str, types: tuple[Any, ...], *values: Any) -> Any:
        """The only row, or None."""
        return next(iter(self._rows(query, types, *values)), None)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._failures(self._folder), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    @staticmethod
    @contextmanager
    def _failures(folder: Path) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CollectionError(f"the catalogue of {display_path(folder)} cannot be used ({error}); see that nothing "
                                  "else is writing to it and that the disk is not full") from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise _damaged(folder, error) from error


def exists(folder: Path) -> bool:
    """Whether there is a catalogue in a folder."""
    try:
        return (folder / NAME).is_file()
    except OSError:  # a name that is too long, or a place where we may not look
        return False


def _damaged(folder: Path, reason: object) -> CollectionError:
    return CollectionError(f"the catalogue of {display_path(folder)} is damaged ({reason}); index the photos again")


def _is_complete(about: Mapping[str, Any]) -> bool:
    """Whether it has what is compared with an extractor's identity."""
    model, options = about.get("model"), about.get("options")
    return (isinstance(model, dict) and all(isinstance(model.get(key), str) for key in ("name", "fingerprint"))
            and isinstance(options, dict) and type(options.get("dimensions")) is int)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")
    return connection


def _store_files(connection: sqlite3.Connection, files: Iterable[tuple[FileRecord, int]]) -> None:
    connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                           ((file.path, file.shown, file.size, file.mtime_ns, image) for file, image in files))
