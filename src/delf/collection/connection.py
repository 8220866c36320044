"""Opening the SQLite file of a catalogue, also where nobody may write."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from delf.collection.schema import APPLICATION_ID, FORMAT, migration
from delf.collection.where import FUNCTIONS
from delf.errors import CollectionError
from delf.images import display_path


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file to be read, and written where that is allowed. Where it is not, a file of an older format is brought
    to the present one in memory.
    """
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    try:
        connection = connect(path)
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK):
            raise
        connection = connect_unchanging(path)
    return connection if writable else _brought_up(connection)


def _brought_up(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The same, or in its place a copy in memory that has the present format."""
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version >= FORMAT:
        return connection
    copy = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    with closing(connection):
        connection.backup(copy)
    copy.execute("PRAGMA trusted_schema = OFF")
    for statement in migration(version):
        copy.execute(statement)
    copy.execute(f"PRAGMA user_version = {FORMAT}")
    return copy


def connect(path: Path) -> sqlite3.Connection:
    """Open a file to be read and written, so that a transaction that has ended is on the disk."""
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    try:
        connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")
        connection.execute("PRAGMA application_id").fetchone()  # SQLite opens nothing before it is asked
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_unchanging(path: Path) -> sqlite3.Connection:
    """Open a file in a place where nobody may write: SQLite then needs no files of its own beside it.

    Raises:
        CollectionError: the last transactions are still in its log: without its shared memory, which cannot be made
            there, SQLite would pass over them.
    """
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise CollectionError(f"the last changes of {display_path(path.parent)} are in {log.name}, and they cannot be "
                              "read in a place that may not be written; run 'delf info' on it where it may be, or on a "
                              "copy")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, check_same_thread=False,
                                 isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def connect_for_conditions(path: Path) -> sqlite3.Connection:
    """Open a file to ask conditions of it, by one thread alone. These call functions in Python: on a connection that
    threads share, one would wait in its function for the interpreter, which another one has that waits for SQLite.
    """
    connection = connect_to_read(path)
    for name, (count, function) in FUNCTIONS.items():
        connection.create_function(name, count, function, deterministic=True)
    return connection
