"""What the catalogue asks of SQLite: that changes are on the disk, that nobody comes between, a file runs nothing."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection, catalogue, connection
from delf.collection.catalogue import NAME, Catalogue
from delf.collection.schema import migration
from delf.errors import CollectionError

OLDEST = Path(__file__).with_name("formats") / "1.zip"
CONNECT = sqlite3.connect


@pytest.fixture
def folder(tmp_path: Path, stub: Any, draw: Callable[..., Path]) -> Path:
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(draw("a.png", 1))
    return tmp_path / "places.delf"


@contextmanager
def built_otherwise(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[sqlite3.Connection], object]) -> Iterator[None]:
    """As with an SQLite that has other defaults, which are chosen where it is compiled."""

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = CONNECT(*arguments, **options)
        prepare(connection)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        yield


def test_changes_are_flushed_whatever_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with built_otherwise(monkeypatch, lambda connection: connection.execute("PRAGMA synchronous = OFF")), \
            Catalogue.open(folder) as opened:
        assert opened._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize("unchanging", [False, True])
def test_a_hostile_catalogue_runs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, unchanging: bool) -> None:
    """A view in the place of a table may call any function that is not known to be harmless."""
    hostile = CONNECT(folder / NAME)
    hostile.executescript("PRAGMA foreign_keys = OFF; ALTER TABLE segments RENAME TO kept; "
                          "CREATE VIEW segments AS SELECT id, spy(folder) AS folder, images, features FROM kept;")
    hostile.close()
    ran: list[str] = []

    def prepare(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = ON")
        connection.create_function("spy", 1, lambda name: ran.append(name) or name)

    if unchanging:  # where nobody may write
        monkeypatch.setattr(catalogue, "connect_to_read", connection.connect_unchanging)
    with built_otherwise(monkeypatch, prepare), pytest.raises(CollectionError, match="unsafe use of spy"):
        Collection.open(folder)
    assert ran == []


def test_nobody_writes_between_a_look_at_the_catalogue_and_the_change(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that open a collection of an older format at once: one of them changes it."""
    with zipfile.ZipFile(OLDEST) as archive:
        archive.extractall(tmp_path)
    other = CONNECT(tmp_path / "places.delf" / NAME, timeout=0, isolation_level=None)
    tries: list[str] = []

    def overtaken(version: int) -> Iterator[str]:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            tries.append(str(error))
        else:
            tries.append("came between")
            other.execute("ROLLBACK")
        yield from migration(version)

    monkeypatch.setattr(catalogue, "migration", overtaken)
    Catalogue.open(tmp_path / "places.delf").close()
    other.close()
    assert tries == ["database is locked"]


def test_a_failed_change_is_undone(folder: Path) -> None:
    with Catalogue.open(folder) as opened:
        with pytest.raises(CollectionError), opened._transaction() as connection:
            connection.execute("DELETE FROM files")
            connection.execute("INSERT INTO nowhere VALUES (1)")
        assert opened.counts() == (1, 1)


def test_making_one_leaves_nothing_beside_it(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [NAME, "segments", "writer.lock"]
