"""What is written into a catalogue, statement by statement; the catalogue says what belongs to one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from delf.collection.records import FileRecord


def store_about(connection: sqlite3.Connection, about: Mapping[str, Any]) -> None:
    """Store entries about the whole collection, in the place of those that have the same names."""
    rows = [(key, json.dumps(value, sort_keys=True)) for key, value in about.items()]
    connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)


def forget_files(connection: sqlite3.Connection, paths: Iterable[bytes]) -> None:
    """Delete files by their paths; their images stay."""
    connection.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])


def forget_metadata(connection: sqlite3.Connection, segment: int) -> None:
    """Delete the metadata of the removed images of a segment. (Those of a damaged segment are kept: its images may come
    again.)
    """
    connection.execute("DELETE FROM metadata WHERE sha256 IN (SELECT sha256 FROM images JOIN removed ON image = id "
                       "WHERE segment = ?)", (segment,))


def forget_segment(connection: sqlite3.Connection, segment: int) -> None:
    """Delete a segment with its images and indexes; the files of these images must have been deleted before."""
    connection.execute("DELETE FROM removed WHERE image IN (SELECT id FROM images WHERE segment = ?)", (segment,))
    for table, column in (("images", "segment"), ("indexes", "segment"), ("segments", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (segment,))


def store_files(connection: sqlite3.Connection, files: Iterable[tuple[FileRecord, int]]) -> None:
    """Store files with the ids of their images, in the place of what is known of the same paths."""
    connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET shown = "
                           "excluded.shown, size = excluded.size, mtime_ns = excluded.mtime_ns, image = excluded.image",
                           ((file.path, file.shown, file.size, file.mtime_ns, image) for file, image in files))
