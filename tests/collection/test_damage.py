"""Whatever happens to the files of a collection: a sentence that names the file, never a traceback."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from delf.collection import Collection
from delf.collection.segment import DTYPES
from delf.errors import CollectionError
from delf.search import SearchEngine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_stub: Any) -> Path:
    """A folder with three photos, and a collection of them in two segments."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    for seed in range(3):
        blocks = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(blocks).save(folder / f"photos/{seed}.png")
    with Collection.create(folder / "places.delf", make_stub()) as collection:
        collection.add([folder / "photos"], images_per_segment=2)
    return folder


@pytest.fixture
def intact(made: Path, tmp_path: Path) -> Path:
    """A copy of that collection, to be damaged."""
    return Path(shutil.copytree(made / "places.delf", tmp_path / "places.delf"))


def segment_of(folder: Path) -> Path:
    """The folder of the segment that holds two images."""
    [found] = [path.parent for path in folder.glob("segments/*/segment.json")
               if json.loads(path.read_text())["images"] == 2]
    return found


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(CollectionError) as caught:
        Collection.open(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def change(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


# --- the folder and its catalogue


@pytest.mark.parametrize("made", ["nothing", "folder", "photos", "catalogue is a folder"])
def test_what_is_not_a_collection(tmp_path: Path, made: str) -> None:
    folder = tmp_path / "x\ny"
    if made != "nothing":
        folder.mkdir()
    if made == "photos":
        (folder / "a.jpg").touch()
    if made == "catalogue is a folder":
        (folder / "catalogue.sqlite").mkdir()
    refused(folder, r"x\ny is not a collection", "delf index PHOTOS -o")


def test_no_cure_is_named_that_does_not_help(intact: Path, tmp_path: Path) -> None:
    path = intact / "catalogue.sqlite"
    path.write_bytes(b"")
    refused(intact, "is damaged (it is empty)", "put it back from a copy", "into a new collection")
    path.unlink()
    refused(intact, "the segments of a collection, and no catalogue.sqlite", "into a new collection")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is not a collection: it is a file")


def test_the_database_of_another_program(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE about (key, value)")
    refused(tmp_path, "catalogue.sqlite was not written by delf")


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 9000, -4096])
def test_a_truncated_catalogue(intact: Path, length: int) -> None:
    path = intact / "catalogue.sqlite"
    path.write_bytes(path.read_bytes()[:length])
    refused(intact, str(intact))


def test_a_catalogue_of_random_bytes(intact: Path) -> None:
    (intact / "catalogue.sqlite").write_bytes(np.random.default_rng(0).bytes(20_000))
    refused(intact, f"the catalogue of {intact} is damaged", "index the photos again")


@pytest.mark.parametrize("statement", [
    "DELETE FROM about", "DELETE FROM about WHERE key = 'options'", "UPDATE about SET value = '{'",
    "UPDATE about SET value = '[]'", "UPDATE about SET value = x'ff'", "UPDATE about SET value = '{\"name\": 3}'",
    "UPDATE about SET value = '{\"dimensions\": \"many\"}' WHERE key = 'options'", "DROP TABLE segments",
    "INSERT INTO about VALUES ('index', '3')", "INSERT INTO about VALUES ('index', '{\"kind\": 1}')",
    "INSERT INTO about VALUES ('quantiser', '3')", "INSERT INTO about VALUES ('ivfpq', '[]')",
    "UPDATE segments SET folder = x'00' WHERE id = 1", "UPDATE segments SET folder = '../../elsewhere' WHERE id = 1",
    "UPDATE segments SET folder = '/etc' WHERE id = 1", "UPDATE segments SET folder = 'gone' WHERE id = 1",
])
def test_a_catalogue_that_says_what_cannot_be(intact: Path, statement: str) -> None:
    change(intact, statement)
    refused(intact, str(intact))


@pytest.mark.parametrize("statement", ["UPDATE files SET shown = 5", "UPDATE files SET size = 'large'",
                                       "UPDATE images SET position = 'first' WHERE id = 2", "DROP TABLE images"])
def test_damage_that_shows_later(made: Path, intact: Path, stub: Any, statement: str) -> None:
    change(intact, statement)
    with pytest.raises(CollectionError, match=re.escape(str(intact))), Collection.open(intact, stub) as collection:
        collection.ordinal_of(made / "photos/1.png")
        collection.image(0)
        collection.add([made / "photos"])


def test_an_image_at_a_place_that_is_not_there(intact: Path) -> None:
    change(intact, "DELETE FROM files")
    change(intact, "UPDATE images SET position = 1000000 WHERE position = 0")
    with Collection.open(intact) as collection:
        assert collection.alive.tolist() == [True, False, True]


# --- segments


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "longer", "header", "random", "objects", "other type"])
def test_a_damaged_array(intact: Path, name: str, damage: str) -> None:
    path = segment_of(intact) / f"{name}.npy"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "objects":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "other type":
        np.save(path, np.zeros((3, 2), np.float64))
    else:
        path.write_bytes({"empty": b"", "cut": data[:-1], "longer": data + b"\0",
                          "header": data.replace(b"shape", b"sha\xffe"),
                          "random": np.random.default_rng(1).bytes(len(data))}[damage])
    refused(intact, str(path), "index the photos again")


@pytest.mark.parametrize("content", [b"{'descr': (", b"{'descr': 0777, ", b"{" * 50, b"\xff" * 20, b"[]"])
def test_an_array_whose_header_does_not_parse(intact: Path, content: bytes) -> None:
    path = segment_of(intact) / "scales.npy"
    data = path.read_bytes()
    path.write_bytes(data[:10] + content.ljust(118) + data[128:])
    refused(intact, str(path))


@pytest.mark.parametrize(("name", "array"), [
    ("offsets", np.array([0, 30, 20])), ("offsets", np.array([1, 20, 40])), ("offsets", np.array([0, 20, 41])),
    ("offsets", np.array([], np.int64)), ("offsets", np.array([0, 40])), ("sizes", np.zeros((3, 2), np.int32)),
    ("scores", np.zeros(39, np.float16)), ("keypoints", np.zeros((40, 3), np.uint16)),
    ("descriptors", np.zeros((40, 8), np.int8)), ("globals", np.zeros((1, 8), np.float16)),
    # Each difference of these wraps around to a number that is not negative.
    ("offsets", np.array([0, 2**63 - 1, -2**63, -1, 40])),
])
def test_arrays_that_do_not_fit_each_other(intact: Path, name: str, array: np.ndarray) -> None:
    folder = segment_of(intact)
    np.save(folder / f"{name}.npy", array)
    if len(array) == 5:
        np.save(folder / "sizes.npy", np.ones((4, 2), np.int32))
        np.save(folder / "globals.npy", np.zeros((4, 8), np.float16))
    refused(intact, str(folder), "do not fit each other")


@pytest.mark.parametrize(("changed", "words"), [
    ({"format": 4}, "has format 4, and this version of delf reads up to 3"), ({"format": "1"}, "has format '1'"),
    ({"model": "ffff"}, "is of another model than its collection"), ({"images": 3}, "does not fit the arrays"),
    ({"features": 39}, "does not fit the arrays"), ({"features": None}, "does not fit the arrays"),
])
def test_an_altered_manifest(intact: Path, changed: dict[str, Any], words: str) -> None:
    path = segment_of(intact) / "segment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    refused(intact, str(path), words)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 1'])
def test_a_manifest_that_is_none(intact: Path, content: bytes | None) -> None:
    path = segment_of(intact) / "segment.json"
    path.unlink() if content is None else path.write_bytes(content)
    refused(intact, str(path))


# --- what leads out of it


@pytest.mark.parametrize("name", ["catalogue.sqlite", "catalogue.sqlite-wal", "segments", "writer.lock",
                                  "quantiser.faiss", "words-1.words", "SEGMENT", "SEGMENT/segment.json",
                                  "SEGMENT/scores.npy", "SEGMENT/ivfpq.faiss", "SEGMENT/asmk-1.lists"])
def test_links_are_not_followed(intact: Path, tmp_path: Path, name: str) -> None:
    path = intact / name.replace("SEGMENT", f"segments/{segment_of(intact).name}")
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_bytes(b"not ours to read")
    path.symlink_to(outside)
    refused(intact, str(path), "is a link, which may lead out of the collection")


# --- anything at all


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_bytes_anywhere(made: Path, intact: Path, stub: Any, data: st.DataObject) -> None:
    copy = intact.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(intact, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    # The segments have random names; their kinds do not.
    path = data.draw(st.sampled_from(sorted(files, key=lambda file: (file.name, file.parent.name))))
    content = bytearray(path.read_bytes())
    used = [place for place, byte in enumerate(content) if byte]
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.sampled_from(used))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        with Collection.open(copy, stub) as collection:
            SearchEngine(collection, stub, method="delf").search(made / "photos/1.png")
            collection.add([made / "photos"])
            collection.ordinal_of(made / "photos/1.png")
    except CollectionError as error:
        assert str(copy) in str(error)
