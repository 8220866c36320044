"""What the catalogue says of single images, and which images a condition is true of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from delf.collection.records import FileRecord, ImageRecord, StoredFacts
from delf.collection.where import Where


class Describing:
    """The part of the catalogue that knows facts and metadata of images, each by the SHA-256 of its content."""

    if TYPE_CHECKING:
        def _rows(self, query: str, types: tuple[Any, ...], *values: Any) -> list[Any]: ...
        def _rows_where(self, query: str, types: tuple[Any, ...], *values: Any) -> list[Any]: ...
        def _row(self, query: str, types: tuple[Any, ...], *values: Any) -> Any: ...
        def _transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...

    def facts_of(self, sha256: bytes) -> StoredFacts | None:
        """The facts of the image with a content, or None if there is no such image."""
        facts = self._row("SELECT id, captured_at, latitude, longitude, camera, value FROM images LEFT JOIN metadata "
                          "USING (sha256) WHERE sha256 = ?",
                          (int, str | None, float | None, float | None, str | None, str | None), sha256)
        if facts is None:
            return None
        files = self._rows("SELECT shown, path FROM files WHERE image = ? ORDER BY path", (bytes, bytes), facts[0])
        return StoredFacts(tuple(files), *facts[1:])

    def key_of(self, path: bytes) -> bytes | None:
        """The SHA-256 of the content of a file, or None where the file is not known."""
        row = self._row("SELECT sha256 FROM images JOIN files ON image = id WHERE path = ?", (bytes,), path)
        return None if row is None else bytes(row[0])

    def place_of_key(self, sha256: bytes) -> tuple[str, int] | None:
        """(folder of the segment, position) of the image with this content, or None."""
        return self._row("SELECT folder, position FROM images JOIN segments ON segment = segments.id WHERE sha256 = ?",
                         (str, int), sha256)

    def contents(self, segment: int) -> list[tuple[ImageRecord, str | None, list[FileRecord]]]:
        """What is known of each image of a segment, in their order: the record, what callers have said, the files."""
        images = self._rows(
            "SELECT id, sha256, width, height, captured_at, latitude, longitude, camera, value FROM images LEFT JOIN "
            "metadata USING (sha256) WHERE segment = ? ORDER BY position",
            (int, bytes, int, int, str | None, float | None, float | None, str | None, str | None), segment)
        files: dict[int, list[FileRecord]] = {number: [] for number, *_ in images}
        for row in self._rows("SELECT image, path, shown, size, mtime_ns FROM files JOIN images ON image = id WHERE "
                              "segment = ? ORDER BY path", (int, bytes, bytes, int, int), segment):
            files[row[0]].append(FileRecord(*row[1:]))
        return [(ImageRecord(*row[1:8]), row[8], files[row[0]]) for row in images]

    def identities(self, segment: int) -> list[tuple[bytes, bytes, bytes]]:
        """(SHA-256, shown path, absolute path) of the images of a segment, in their order; no paths of removed ones."""
        return self._rows(
            "SELECT sha256, coalesce(shown, x''), coalesce(path, x'') FROM images LEFT JOIN files ON path = "
            "(SELECT min(path) FROM files WHERE image = images.id) WHERE segment = ? ORDER BY position",
            (bytes, bytes, bytes), segment)

    def listed(self) -> list[tuple[bytes, str, int, str | None, bytes, bytes]]:
        """(SHA-256, folder of the segment, position in it, when taken, shown path, absolute path) of each image that
        has a file, by the first of its paths.
        """
        return self._rows("SELECT sha256, folder, position, captured_at, shown, min(path) FROM images JOIN segments ON "
                          "segment = segments.id JOIN files ON image = images.id GROUP BY images.id",
                          (bytes, str, int, str | None, bytes, bytes))

    def placed(self) -> list[tuple[bytes, str, int, float, float]]:
        """(SHA-256, folder of the segment, position in it, latitude, longitude) of each image that says where it was
        taken.
        """
        return self._rows("SELECT sha256, folder, position, latitude, longitude FROM images JOIN segments ON segment = "
                          "segments.id WHERE latitude IS NOT NULL AND longitude IS NOT NULL",
                          (bytes, str, int, float, float))

    def describe(self, metadata: Mapping[bytes, str | None]) -> None:
        """Keep what callers say of images, by the SHA-256 of each, as JSON; None forgets it."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM metadata WHERE sha256 = ?", [(key,) for key in metadata])
            connection.executemany("INSERT INTO metadata VALUES (?, ?)",
                                   [(key, value) for key, value in metadata.items() if value is not None])

    def matching(self, where: Where) -> list[tuple[str, str]]:
        """The images that a condition is true of, those without a file included: for each segment, by its folder, their
        positions in it, with commas between them.
        """
        return self._rows_where("SELECT folder, group_concat(position) FROM images JOIN segments ON segment = "
                                f"segments.id WHERE {where.sql} GROUP BY segment", (str, str), *where.values)

    def keys_matching(self, where: Where, folder: str) -> list[bytes]:
        """The SHA-256 of those of them that are in one segment."""
        return [row[0] for row in self._rows_where("SELECT sha256 FROM images JOIN segments ON segment = segments.id "
                                                   f"WHERE folder = ? AND {where.sql}", (bytes,), folder,
                                                   *where.values)]

    def _follow(self, connection: sqlite3.Connection, key_of: Callable[[bytes], bytes | None]) -> None:
        """Say of files with another content, `key_of` which a path gives, what was said of the one before."""
        said = connection.execute("SELECT path, sha256, value FROM metadata JOIN images USING (sha256) JOIN files ON "
                                  "image = id").fetchall()
        changed = [(key, value) for path, old, value in said if (key := key_of(path)) not in (None, old)]
        connection.executemany("INSERT OR IGNORE INTO metadata VALUES (?, ?)", changed)
