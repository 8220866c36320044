"""The tables of the catalogue, what it must say of the collection, and how an older format becomes this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

FORMAT = 3
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
# Format 2: the images without a file, kept by the database itself, so that opening need not look for them.
REMOVED = """
CREATE TABLE removed (image INTEGER PRIMARY KEY REFERENCES images(id));
CREATE TRIGGER file_added AFTER INSERT ON files BEGIN
    DELETE FROM removed WHERE image = NEW.image;
END;
CREATE TRIGGER file_changed AFTER UPDATE OF image ON files BEGIN
    DELETE FROM removed WHERE image = NEW.image;
    INSERT OR IGNORE INTO removed SELECT OLD.image WHERE NOT EXISTS (SELECT 1 FROM files WHERE image = OLD.image);
END;
CREATE TRIGGER file_gone AFTER DELETE ON files BEGIN
    INSERT OR IGNORE INTO removed SELECT OLD.image WHERE NOT EXISTS (SELECT 1 FROM files WHERE image = OLD.image);
END;
"""
# Format 3: the camera, and what callers say of photos, by the SHA-256 of the content. What was said of a file goes with
# it when its content changes.
DESCRIBED = """
ALTER TABLE images ADD COLUMN camera TEXT;
CREATE TABLE metadata (sha256 BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER content_changed AFTER UPDATE OF image ON files WHEN OLD.image != NEW.image BEGIN
    INSERT OR IGNORE INTO metadata SELECT new.sha256, value FROM images AS new, images AS old, metadata
        WHERE new.id = NEW.image AND old.id = OLD.image AND metadata.sha256 = old.sha256;
END;
"""
MIGRATIONS = {1: REMOVED + "INSERT INTO removed SELECT id FROM images WHERE NOT EXISTS "
                           "(SELECT 1 FROM files WHERE image = id);",
              2: DESCRIBED}  # from this format to the next


def migration(version: int) -> Iterator[str]:
    """The statements that bring a catalogue of an older format to this one: `executescript` would end a transaction."""
    for step in range(version, FORMAT):
        yield from _statements(MIGRATIONS.get(step, ""))


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def is_complete(about: Mapping[str, Any]) -> bool:
    """Whether it has what is compared with an extractor's identity, and says of its index what can be."""
    model, options, index = about.get("model"), about.get("options"), about.get("index", {"kind": "", "reason": ""})
    if not isinstance(index, dict) or not all(isinstance(index.get(key), str) for key in ("kind", "reason")):
        return False
    if not isinstance(about.get("quantiser"), str | None):
        return False
    if not all(isinstance(about.get(key), dict | None) for key in ("ivfpq", "lopq", "index_options", "storage")):
        return False
    return (isinstance(model, dict) and all(isinstance(model.get(key), str) for key in ("name", "fingerprint"))
            and isinstance(options, dict) and type(options.get("dimensions")) is int)
