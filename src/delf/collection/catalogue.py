"""The catalogue: which images, files and segments a collection has. The only file of it that ever changes.

One transaction publishes a segment with its images and files, so that at any instant the catalogue names only what is
complete on the disk. Paths are stored as bytes, since a file name need not be text.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from delf.collection.connection import connect, connect_for_conditions, connect_to_read
from delf.collection.describing import Describing
from delf.collection.records import FileRecord, ImageRecord
from delf.collection.schema import APPLICATION_ID, DESCRIBED, FORMAT, REMOVED, SCHEMA, is_complete, migration
from delf.collection.statements import forget_files, forget_metadata, forget_segment, store_about, store_files
from delf.errors import CollectionError
from delf.files import flush_folder, replacing
from delf.images import display_path

NAME = "catalogue.sqlite"
AGAIN = "put it back from a copy, or index the photos again into a new collection"
FILES_AT_ONCE = 4096
_BELOW = "SELECT path FROM files WHERE path = ? OR (path >= ? AND path < ?) OR (path >= ? AND path < ?)"
# What options were before there was a choice: older collections do not name them.
UNSAID = {"length_weight": 0.0, "texture": 0.0, "border": 0.0, "min_image_size": None}


class Catalogue(Describing):
    """The SQLite file, opened. One object may be used from several threads."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self._folder = folder
        self._opened = connection
        self._process = os.getpid()
        self._inherited: list[sqlite3.Connection] = []  # which stay open: closing one would end the parent's locks

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this process: SQLite must not use one that a fork has copied."""
        if self._process != os.getpid():
            self._inherited.append(self._opened)
            self._opened, self._process = connect_to_read(self._folder / NAME), os.getpid()
        return self._opened

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any]) -> Catalogue:
        """Make a new catalogue in an existing folder that has none."""
        # A collection either has a whole catalogue or none. SQLite takes its own locks, also on the new file.
        with cls._failures(folder), replacing(folder / NAME, locked=False, error=CollectionError) as temporary:
            connection = connect(temporary)
            connection.executescript(f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
                                     f"{SCHEMA}{REMOVED}{DESCRIBED} COMMIT;")
            with connection:
                store_about(connection, about)
            # A write-ahead log lets readers keep the state that they opened while another process writes. It comes
            # last: what is in one is lost where closing cannot move it into the file, as on a full disk.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
        flush_folder(folder.parent)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Catalogue:
        """Open the catalogue of a collection.

        Raises:
            CollectionError: there is none, it is damaged, of another program, or of a newer format.
        """
        path = folder / NAME
        if not exists(folder):
            raise _missing(folder)
        _refuse_links(folder)
        with cls._failures(folder):
            connection = connect_to_read(path)
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [version] = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID and not path.stat().st_size:
            raise _damaged(folder, "it is empty")
        if application != APPLICATION_ID:
            raise CollectionError(f"{display_path(path)} was not written by delf; give the folder of a collection")
        if version > FORMAT:
            raise CollectionError(f"{display_path(folder)} has format {version}, which is newer than this version of "
                                  f"delf reads ({FORMAT}); upgrade delf-retrieval")
        catalogue = cls(folder, connection)
        if version < FORMAT:
            catalogue._migrate()
        return catalogue

    def _migrate(self) -> None:
        """Bring a catalogue of an older format to this one; all of it or nothing."""
        with self._failures(self._folder):
            self._connection.execute("PRAGMA journal_mode = WAL")
        with self._transaction() as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()  # again, now that nobody else writes
            for statement in migration(version):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Inside, it answers for the state of one moment, whatever others write.

        It is for moments: as long as a reader holds a state, the write-ahead log of those who write cannot be begun
        anew, and grows with all that they write.
        """
        with self._failures(self._folder):
            self._connection.execute("BEGIN")
            # SQLite takes its snapshot at the first look.
            self._connection.execute("SELECT COUNT(*) FROM about").fetchone()
        try:
            yield
        finally:
            with self._failures(self._folder):
                self._connection.execute("ROLLBACK")

    def about(self) -> dict[str, Any]:
        """The entries about the whole collection: model, options, storage, format, and those that were added later."""
        rows = self._rows("SELECT key, value FROM about", (str, str))
        try:
            about = {key: json.loads(value) for key, value in rows}
        except (ValueError, RecursionError) as error:
            raise _damaged(self._folder, error) from error
        if not is_complete(about):
            raise _damaged(self._folder, "it does not say of which model and options it is")
        if "scales" in about["options"]:  # of a pyramid, which other extractors need not have
            about["options"] = {**UNSAID, **about["options"]}
        return about

    def segments(self) -> list[tuple[int, str]]:
        """(id, folder name) of each segment, in order."""
        return self._rows("SELECT id, folder FROM segments ORDER BY id", (int, str))

    def segment_sizes(self) -> list[int]:
        """How many images each segment holds, removed ones included, in order."""
        return [row[0] for row in self._rows("SELECT images FROM segments ORDER BY id", (int,))]

    def file(self, path: bytes) -> tuple[int, int] | None:
        """(size, mtime_ns) of a known file, or None."""
        return self._row("SELECT size, mtime_ns FROM files WHERE path = ?", (int, int), path)

    def image_of(self, sha256: bytes) -> int | None:
        """The id of the image with this content, or None."""
        row = self._row("SELECT id FROM images WHERE sha256 = ?", (int,), sha256)
        return None if row is None else int(row[0])

    def counts(self) -> tuple[int, int]:
        """(images that have a file, files). Frames of a video are in one file, which counts once all are there."""
        [counts] = self._rows("SELECT COUNT(DISTINCT image), COUNT(CASE WHEN instr(path, x'23743d') = 0 THEN 1 END) "
                              "FROM files", (int, int))  # "#t="
        return counts

    def version(self) -> int:
        """A number that is another one after each change by others, and costs nothing to look at."""
        return int(self._row("PRAGMA data_version", (int,))[0])

    def removed(self) -> list[tuple[int, int]]:
        """(segment, position) of each image that no file has any more."""
        return self._rows("SELECT segment, position FROM removed JOIN images ON id = image", (int, int))

    def files(self) -> Iterator[tuple[FileRecord, bytes]]:
        """All files, each with the SHA-256 of its image, in the order in which the images were added.

        Some thousands are looked up at a time, so that memory is bounded, and files may be forgotten meanwhile.
        """
        place: tuple[int, bytes] = (-1, b"")
        while rows := self._rows("SELECT image, path, shown, size, mtime_ns, sha256 FROM files JOIN images ON "
                                 "id = image WHERE (image, path) > (?, ?) ORDER BY image, path LIMIT ?",
                                 (int, bytes, bytes, int, int, bytes), *place, FILES_AT_ONCE):
            yield from ((FileRecord(*row[1:5]), row[5]) for row in rows)
            place = rows[-1][:2]

    def files_below(self, path: bytes) -> list[bytes]:
        """The files at an absolute path or below it, and the frames of a video there, in order."""
        return [row[0] for row in self._rows(f"{_BELOW} ORDER BY path", (bytes,), *_bounds(path))]

    def frames_of(self, path: bytes) -> list[tuple[bytes, int, int]]:
        """(path, size, mtime_ns) of each frame of a video, by the size and time that its file had then."""
        return self._rows("SELECT path, size, mtime_ns FROM files WHERE path >= ? AND path < ? ORDER BY path",
                          (bytes, int, int), path + b"#t=", path + b"#t>")

    def has_below(self, path: bytes) -> bool:
        """Whether there is a file at an absolute path or below it."""
        return self._row(f"{_BELOW} LIMIT 1", (bytes,), *_bounds(path)) is not None

    def files_of(self, image: int) -> list[bytes]:
        """The files of an image, in order."""
        return [row[0] for row in self._rows("SELECT path FROM files WHERE image = ? ORDER BY path", (bytes,), image)]

    def remove(self, paths: Iterable[bytes]) -> None:
        """Forget files; an image that has no other one is removed."""
        with self._transaction() as connection:
            forget_files(connection, paths)

    def publish(self, folder: str, features: int, images: Iterable[tuple[ImageRecord, list[FileRecord]]]) -> None:
        """Make a written segment visible, with its images (in order of position) and their files."""
        with self._transaction() as connection:
            images = list(images)
            segment = connection.execute("INSERT INTO segments (folder, images, features) VALUES (?, ?, ?)",
                                         (folder, len(images), features)).lastrowid
            for position, (image, files) in enumerate(images):
                image_id = connection.execute(
                    "INSERT INTO images (sha256, width, height, captured_at, latitude, longitude, camera, segment, "
                    "position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (image.sha256, image.width, image.height, image.captured_at, image.latitude, image.longitude,
                     image.camera, segment, position)).lastrowid
                store_files(connection, ((file, int(image_id or 0)) for file in files))

    def link(self, files: Iterable[tuple[FileRecord, int]], gone: Iterable[bytes] = ()) -> None:
        """Store files of images that are known already: copies, a known file that was touched, or, with the paths that
        it is `gone` from, one that was moved.
        """
        with self._transaction() as connection:
            store_files(connection, files)
            forget_files(connection, gone)

    def replace(self, old: Iterable[int], folder: str, features: int, places: Iterable[tuple[int, int]]) -> None:
        """Put a written segment in the place of others.

        places: (segment, position) of each image of the new segment, in order, among the old ones; all other images
        of the old segments are removed ones, and are forgotten.
        """
        with self._transaction() as connection:
            places = list(places)
            segment = connection.execute("INSERT INTO segments (folder, images, features) VALUES (?, ?, ?)",
                                         (folder, len(places), features)).lastrowid
            connection.executemany("UPDATE images SET segment = ?, position = ? WHERE segment = ? AND position = ?",
                                   [(segment, new, *place) for new, place in enumerate(places)])
            for number in old:
                forget_metadata(connection, number)
                forget_segment(connection, number)

    def drop(self, segment: int) -> None:
        """Forget a segment with its images and files."""
        with self._transaction() as connection:
            forget_metadata(connection, segment)
            connection.execute("DELETE FROM files WHERE image IN (SELECT id FROM images WHERE segment = ?)", (segment,))
            forget_segment(connection, segment)

    def take_over(self, other: Catalogue) -> None:
        """Have the segments, images, files, model, options and storage of another catalogue in the place of the own.

        The folders of its segments must be there. No index is built of them, and no quantiser is known.
        """
        with self._transaction() as connection:
            self._follow(connection, other.key_of)
            for table in ("files", "removed", "images", "indexes", "segments"):
                connection.execute(f"DELETE FROM {table}")
            for table in ("segments", "images", "files", "removed"):
                rows = other._connection.execute(f"SELECT * FROM {table}")
                marks = ", ".join("?" * len(rows.description))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            about = other.about()
            store_about(connection, {"model": about["model"], "options": about["options"], "quantiser": None,
                                     "storage": about.get("storage")})

    def drop_indexes(self, segments: Iterable[int]) -> None:
        """Forget that these segments have a built index."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM indexes WHERE segment = ?", [(number,) for number in segments])

    def faults(self) -> list[str]:
        """What is wrong with the file itself, in words; empty if nothing is."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(10)", (str,)) if row[0] != "ok"]
        lost = self._rows("PRAGMA foreign_key_check", (object,) * 4)
        return found + [f"a row of {table} refers to nothing" for table, *_ in lost]

    def images_in(self, segment: int) -> int:
        """How many images of a segment are known, removed ones included."""
        return int(self._row("SELECT COUNT(*) FROM images WHERE segment = ?", (int,), segment)[0])

    def indexes(self) -> dict[int, tuple[str, str]]:
        """Which indexes were built: id of the segment -> (kind, name of the quantiser)."""
        return {segment: (kind, quantiser) for segment, kind, quantiser in
                self._rows("SELECT segment, kind, quantiser FROM indexes", (int, str, str))}

    def say(self, about: Mapping[str, Any]) -> None:
        """Store what the collection says of itself from now on."""
        self.publish_indexes([], about)

    def publish_indexes(self, built: Iterable[tuple[int, str, str]], about: Mapping[str, Any]) -> None:
        """Make the indexes (segment, kind, quantiser) visible, and say in `about` what they are."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO indexes VALUES (?, ?, ?)", built)
            store_about(connection, about)

    def _rows(self, query: str, types: tuple[Any, ...], *values: Any) -> list[Any]:
        """The rows that a query gives. SQLite keeps any type in any column, so that damage may change it."""
        with self._failures(self._folder):
            return self._checked(self._connection.execute(query, values).fetchall(), types)

    def _rows_where(self, query: str, types: tuple[Any, ...], *values: Any) -> list[Any]:
        """As `_rows`, for a query with a condition in it."""
        with self._failures(self._folder), closing(connect_for_conditions(self._folder / NAME)) as connection:
            return self._checked(connection.execute(query, values).fetchall(), types)

    def _checked(self, rows: list[Any], types: tuple[Any, ...]) -> list[Any]:
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
        except sqlite3.ProgrammingError as error:
            raise CollectionError(f"{display_path(folder)} was closed, so that no image can be looked up in it: "
                                  "keep it open while results are looked at") from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise _damaged(folder, error) from error


def _bounds(path: bytes) -> tuple[bytes, ...]:
    """What `_BELOW` compares with: the path, what is in the folder of that name, and the frames of a video."""
    start = path.rstrip(b"/") + b"/"
    return path, start, start[:-1] + b"0", path + b"#t=", path + b"#t>"


def exists(folder: Path) -> bool:
    """Whether there is a catalogue in a folder."""
    try:
        return (folder / NAME).is_file()
    except OSError:  # a name that is too long, or a place where we may not look
        return False


def _missing(folder: Path) -> CollectionError:
    name, cure = display_path(folder), "delf index PHOTOS -o"
    with suppress(OSError):  # a name that is too long, or a place where we may not look
        if folder.is_file():
            return CollectionError(f"{name} is not a collection: it is a file; make one with '{cure} FOLDER'")
        if (folder / "segments").is_dir() and not (folder / "manifest.json").exists():
            return CollectionError(f"{name} has the segments of a collection, and no {NAME}: {AGAIN}")
    return CollectionError(f"{name} is not a collection: it has no {NAME}; make one with '{cure} {name}'")


def _damaged(folder: Path, reason: object) -> CollectionError:
    return CollectionError(f"the catalogue of {display_path(folder)} is damaged ({reason}); {AGAIN}")


def _refuse_links(folder: Path) -> None:
    """Links in the folder of a collection may lead out of it, to what is not ours to read."""
    try:
        link = next((path for path in sorted(folder.iterdir()) if path.is_symlink()), None)
    except OSError as error:
        raise CollectionError(f"{display_path(folder)} cannot be looked into ({error.strerror or error}); check its "
                              "permissions") from error
    if link is not None:
        raise CollectionError(f"{display_path(link)} is a link, which may lead out of the collection; put what it "
                              "leads to in its place, or delete it")
