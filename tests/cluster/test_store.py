from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.checking import check_collection
from delf.cluster import Store, compact, publish, remove
from delf.collection import Collection
from delf.errors import CollectionError


@pytest.fixture
def made(pictures: Path, tmp_path: Path, stub: Any) -> Collection:
    """Ten pictures and a copy in three segments; one is described."""
    shutil.copy(pictures / "3.png", pictures / "3-again.png")
    collection = Collection.create(tmp_path / "made.delf", stub)
    collection.add([pictures], images_per_segment=4)
    collection.describe({pictures / "1.png": {"album": "Rome"}})
    return collection


def seen(collection: Collection) -> list[Any]:
    return [(image.key, image.path, image.files, image.size, dict(image.metadata)) for image in collection]


def test_a_store_of_a_collection_is_that_collection_again(made: Collection, tmp_path: Path) -> None:
    made.remove([tmp_path / "pictures/5.png"])
    store = publish(made, tmp_path / "places.store")
    assert (store.manifest.version, store.manifest.images, len(store.manifest.segments)) == (1, 9, 3)
    with Store.open(tmp_path / "places.store").as_collection(tmp_path / "part.delf") as part:
        assert seen(part) == seen(made)
        assert part.files() == made.files() == 10
        for ordinal in range(10):
            assert (part.features(ordinal).descriptors == made.features(ordinal).descriptors).all()
        assert part.snapshot.matching("album = Rome").sum() == 1
    assert not check_collection(tmp_path / "part.delf").problems
    with pytest.raises(CollectionError, match="is there already"):
        publish(made, tmp_path / "places.store")


def test_a_part_is_a_collection_of_what_is_asked_for(made: Collection, tmp_path: Path) -> None:
    store = publish(made, tmp_path / "places.store")
    first, second, third = (entry.name for entry in store.manifest.segments)
    part = store.place([first, second], tmp_path / "part")
    before = part.snapshot
    kept = (tmp_path / "part/segments" / second / "keys.npy").stat().st_ino
    with store.place([second, third], tmp_path / "part") as other:
        assert [segment.folder.name for segment in other.segments] == [second, third]
        assert {path.name for path in (tmp_path / "part/segments").iterdir()} == {second, third}
        assert (tmp_path / "part/segments" / second / "keys.npy").stat().st_ino == kept
    assert before.features(0).descriptors.shape == (20, 16)  # who has it open reads on
    part.refresh()
    assert len(part) == 6
    with pytest.raises(CollectionError, match="no segment"):
        store.place(["0" * 32], tmp_path / "part")
    with pytest.raises(CollectionError, match="no store has put there"):
        store.as_collection(made.folder)
    with pytest.raises(CollectionError, match="not empty"):
        store.as_collection(tmp_path / "pictures")


def test_fetching_goes_on_where_it_was_cut_short(made: Collection, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    store = publish(made, tmp_path / "places.store")
    fetch, asked = store.location.fetch, list[str]()

    def cut_short(name: str, temporary: Path) -> None:
        asked.append(name)
        if len(asked) == 20:
            raise KeyboardInterrupt
        fetch(name, temporary)

    monkeypatch.setattr(store.location, "fetch", cut_short)
    monkeypatch.setattr("delf.cluster.store._FETCHED_AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        store.as_collection(tmp_path / "part.delf")
    with store.as_collection(tmp_path / "part.delf") as part:
        assert seen(part) == seen(made)
    first = [name for name in asked if store.manifest.segments[0].name in name]
    assert len(first) == len(set(first))


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "link"])
def test_what_was_not_written_is_not_read(harm: str, made: Collection, tmp_path: Path) -> None:
    store = publish(made, tmp_path / "places.store")
    path = tmp_path / "places.store/segments" / store.manifest.segments[1].name / "descriptors.npy"
    data = path.read_bytes()
    path.unlink()
    if harm == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "link":
        path.symlink_to("/etc/hostname")
    with pytest.raises(CollectionError, match=r"places\.store"):
        store.as_collection(tmp_path / "part.delf")


def test_who_comes_second_does_not_overwrite(made: Collection, tmp_path: Path) -> None:
    publish(made, tmp_path / "places.store")
    one, other = (Store.open(tmp_path / "places.store") for _ in range(2))
    assert remove(one, [tmp_path / "pictures/1.png"]) == 1
    with pytest.raises(CollectionError, match="another process has changed the store"):
        remove(other, [tmp_path / "pictures/2.png"])
    assert other.refresh().version == 2
    with pytest.raises(CollectionError, match="nothing was removed"):
        remove(other, [tmp_path / "elsewhere", tmp_path / "pictures/2.png"])
    assert Store.open(tmp_path / "places.store").manifest.images == 9


def test_compact_merges_now_and_deletes_when_the_time_has_come(made: Collection, tmp_path: Path) -> None:
    store = publish(made, tmp_path / "places.store")
    old = [entry.name for entry in store.manifest.segments]
    torn = tmp_path / "places.store/segments" / ("e" * 32)
    shutil.copytree(tmp_path / "places.store/segments" / old[0], torn)  # of a worker that was killed, or is at work
    assert remove(store, [tmp_path / "pictures/3.png"]) == 1  # there is a copy
    assert remove(store, [tmp_path / "pictures/5.png"]) == 1
    report = compact(store, grace=3600)
    assert (report.images, report.segments, report.deleted) == (1, 2, 0)
    with store.as_collection(tmp_path / "part.delf") as part:
        made.remove([tmp_path / "pictures/3.png", tmp_path / "pictures/5.png"])
        assert [one[:4] for one in seen(part)] == [one[:4] for one in seen(made)]
        assert part[str(tmp_path / "pictures/1.png")].metadata == {"album": "Rome"}
    for name in (*old, torn.name):  # whoever serves by an old manifest has its segments
        assert (tmp_path / "places.store/segments" / name).is_dir()
    for path in (torn, *torn.iterdir()):
        os.utime(path, (time.time() - 7200,) * 2)
    assert compact(store, grace=3600).deleted == 1
    assert not torn.exists()
    assert compact(store, grace=0).deleted >= 3
    left = {path.name for path in (tmp_path / "places.store/segments").iterdir()}
    assert left == {entry.name for entry in store.manifest.segments}
    assert store.manifest.dropped == ()


def test_no_store_and_no_folder_say_what_to_do(tmp_path: Path, make_stub: Callable[..., Any]) -> None:
    with pytest.raises(CollectionError, match=r"no store at .*delf index"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(CollectionError, match=r"no storage of the kind nosuch://|needs the package"):
        Store.open("nosuch://bucket/places")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CollectionError, match="is there already"):
        Store.create(tmp_path / "file", make_stub().identity)
