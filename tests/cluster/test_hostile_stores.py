"""Stores as bad luck, strangers and other programs leave them: files harmed, names of others, what is half there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from inline_ray import Inline

from delf.cluster import Store, compact, publish, running
from delf.cluster.indexing import index_photos
from delf.cluster.manifest import NAME, Manifest
from delf.cluster.pieces import Piece
from delf.cluster.running import ClusterOptions
from delf.cluster.work import Job, index_piece
from delf.collection import Collection
from delf.errors import CollectionError


def worker(job: Job, piece: Piece) -> Iterator[Any]:
    yield "node a", "a"
    yield from index_piece(job, piece)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, stub: Any) -> Callable[..., Any]:
    """Indexes into a store with tasks that are done in this process."""
    monkeypatch.setattr("delf.cluster.indexing.connected", lambda address: nullcontext(Inline(cores=1)))
    monkeypatch.setattr(running, "_work", worker)
    return lambda photos, place, **others: index_photos([photos], place, stub, address="local",
                                                        options=ClusterOptions(piece=4), **others)


@pytest.fixture
def made(pictures: Path, tmp_path: Path, stub: Any) -> Store:
    with Collection.create(tmp_path / "made.delf", stub) as collection:
        collection.add([pictures], images_per_segment=4)
        return publish(collection, tmp_path / "places.store")


@pytest.mark.parametrize("harm", ["gone", "a folder", "cut", "changed"])
def test_a_file_that_is_harmed_is_named(harm: str, made: Store, tmp_path: Path) -> None:
    entry = made.manifest.segments[0]
    for file in (*entry.files, entry.facts):
        path = tmp_path / "places.store/segments" / entry.name / file.name
        data = path.read_bytes()
        path.unlink()
        if harm == "a folder":
            path.mkdir()
        elif harm != "gone":
            path.write_bytes(data[:-1] if harm == "cut" else bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(CollectionError, match=rf"{file.name}.*put it back"):
            made.as_collection(tmp_path / "part.delf")
        path.rmdir() if harm == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(data)
    with made.as_collection(tmp_path / "part.delf") as part:
        assert len(part) == 10


def test_no_bit_of_a_manifest_may_change(made: Store, tmp_path: Path) -> None:
    data = (tmp_path / "places.store" / NAME).read_bytes()
    for place in range(0, len(data), 7):
        harmed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(CollectionError):
            Manifest.from_json(harmed, "here")


def test_a_place_without_its_manifest_is_no_place_for_a_new_store(made: Store, tmp_path: Path, stub: Any) -> None:
    (tmp_path / "places.store" / NAME).unlink()
    with pytest.raises(CollectionError, match=f"no {NAME}: put a copy of that back"):
        Store.create(made.url, stub.identity)
    for place, told in ((tmp_path / "made.delf", "is a collection"), (tmp_path / "pictures", "is there already"),
                        (tmp_path / "pictures/1.png", "is there already"), (f"{tmp_path}/a\0b", "cannot be made")):
        with pytest.raises(CollectionError, match=told):
            Store.create(place, stub.identity)


def test_compact_leaves_what_is_named_and_what_is_not_ours(made: Store, tmp_path: Path) -> None:
    folder, live = tmp_path / "places.store", made.manifest.segments[0].name
    said = json.loads((folder / NAME).read_bytes())
    del said["sha256"]  # as who changes it by hand has to
    said["dropped"] = [{"path": f"segments/{live}", "since": 1.0}]
    (folder / NAME).write_text(json.dumps(said))
    foreign = [folder / "segments/notes.txt", folder / "segments/*", folder / "pieces/notes.json"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    compact(Store.open(folder), grace=-10.0, images_per_segment=1)
    assert all(path.exists() for path in foreign)
    with Store.open(folder).as_collection(tmp_path / "part.delf") as part:
        assert len(part) == 10


def test_a_piece_whose_segment_is_gone_is_done_again(index: Callable[..., Any], pictures: Path, tmp_path: Path,
                                                     stub: Any) -> None:
    """As after a compact without a grace period, while a job is under way."""
    place = tmp_path / "places.store"
    store = Store.create(place, stub.identity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index(pictures, place)
    pieces = sorted((place / "pieces").iterdir())
    assert len(pieces) > 1
    [gone, *_] = [json.loads(path.read_bytes())["entry"]["name"] for path in pieces]
    shutil.rmtree(place / "segments" / gone)
    report = index(pictures, place)
    assert (report.added, report.before) == (10, len(pieces) - 1)
    with Store.open(place).as_collection(tmp_path / "part.delf") as part:
        assert len(part) == 10
    assert store.location.names("pieces") == []


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_words_that_are_harmed_store_nothing(index: Callable[..., Any], pictures: Path, tmp_path: Path,
                                             draw: Callable[..., Path]) -> None:
    place = tmp_path / "places.store"
    index(pictures, place, storage="compact")
    [words] = (file for file in Store.open(place).manifest.shared if not file.name.startswith("words-"))
    path = place / "shared" / words.name
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    draw("pictures/new.png", 99)
    with pytest.raises(CollectionError, match=f"{words.name} of the store .* is not what was written"):
        index(pictures, place)
    assert Store.open(place).manifest.images == 10


def test_without_photos_there_are_no_words(index: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match="no photo from which visual words"):
        index(tmp_path / "empty", tmp_path / "places.store", storage="compact")
    assert index(tmp_path / "empty", tmp_path / "places.store").added == 0
    with pytest.raises(CollectionError, match=r"full storage.*or make a new store"):
        index(tmp_path / "empty", tmp_path / "places.store", storage="compact")
