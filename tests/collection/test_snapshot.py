"""One state of a collection, and its photos: what an open engine answers after a change, and what names a photo."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.collection.catalogue import NAME, Catalogue
from delf.collection.records import FileRecord
from delf.errors import CollectionError
from delf.methods import METHODS
from delf.search import SearchEngine

Draw = Callable[..., Path]
FORMATS = Path(__file__).with_name("formats")


@pytest.fixture
def four(tmp_path: Path, stub: Any, draw: Draw) -> Iterator[Collection]:
    """Four drawings in two segments."""
    with Collection.create(tmp_path / "four.delf", stub) as collection:
        collection.add([draw(f"photos/{seed}.png", seed) for seed in range(4)], images_per_segment=2)
        yield collection


def key_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def found(engine: SearchEngine, photo: Path) -> list[tuple[str, str, int]]:
    """All that an engine answers: names, keys and inliers."""
    return [(Path(one.image).name, one.key, one.inliers) for one in engine.search(photo, top=None).results]


def change_add(collection: Collection, draw: Draw) -> None:
    collection.add([draw(f"photos/{seed}.png", seed) for seed in (10, 11)])


def change_remove(collection: Collection, draw: Draw) -> None:
    collection.remove([collection.image(0).file, collection.image(2).file])


def change_compact(collection: Collection, draw: Draw) -> None:
    change_remove(collection, draw)
    collection.compact()


def change_everything(collection: Collection, draw: Draw) -> None:
    """As many images as before, and other ones."""
    change_compact(collection, draw)
    change_add(collection, draw)
    collection.compact()


CHANGES = {name.removeprefix("change_"): change for name, change in sorted(globals().items())
           if name.startswith("change_")}


@pytest.mark.parametrize("method", ["delf-asmk", "delf", "asmk", "hqe+sp", "global", "delf+global+qe"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "by another"])
def test_an_open_engine_answers_for_its_state(four: Collection, stub: Any, draw: Draw, method: str, change: str,
                                              elsewhere: bool) -> None:
    engine = SearchEngine(four, stub, method=method)
    photos = [four.image(ordinal).file for ordinal in range(4)]
    before = [found(engine, photo) for photo in photos]
    assert all(before)
    with Collection.open(four.folder, stub) as other:
        CHANGES[change](other if elsewhere else four, draw)
    for photo in photos:  # what is gone from the disk cannot be read, and is not needed
        assert photo.exists()
    assert [found(engine, photo) for photo in photos] == before
    assert engine.refresh()
    with Collection.open(four.folder, stub) as other:
        fresh = SearchEngine(other, stub, method=method)
        for photo in (*photos, draw("photos/11.png", 11)):
            assert found(engine, photo) == found(fresh, photo)
    assert not engine.refresh(), "there is nothing new"


def test_refreshing_opens_only_what_is_new(four: Collection, stub: Any, draw: Draw,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    engine, opened = SearchEngine(four, stub), list[str]()
    from delf.collection.snapshot import open_segment

    def noted(folder: Path, **options: Any) -> Any:
        opened.append(folder.name)
        return open_segment(folder, **options)

    monkeypatch.setattr("delf.collection.snapshot.open_segment", noted)
    with Collection.open(four.folder, stub) as other:
        opened.clear()
        change_add(other, draw)
    opened.clear()
    assert engine.refresh()
    assert opened == [engine.snapshot.segments[-1].folder.name]


def test_a_snapshot_cannot_be_changed(four: Collection) -> None:
    snapshot = four.snapshot
    with pytest.raises(AttributeError):
        snapshot.segments = ()  # type: ignore[misc]
    for array in (snapshot.alive, snapshot.bases, snapshot.segments[0].descriptors):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# --- what names a photo


def test_a_key_names_a_photo_for_ever(four: Collection, draw: Draw) -> None:
    keys = {four.image(ordinal).file: four.image(ordinal).key for ordinal in range(4)}
    assert keys == {path: key_of(path) for path in keys}
    lost = four.image(1)
    change_everything(four, draw)
    for path, key in keys.items():
        ordinal = four.snapshot.ordinal_of_key(key)
        if four.ordinal_of(path) is None:
            assert ordinal is None
        else:
            assert ordinal == four.ordinal_of(path)
            assert four.image(ordinal).key == four.snapshot.key_of(ordinal) == key
    assert four.snapshot.ordinal_of_key(lost.key) is not None, "it was not removed"
    for nonsense in ("", "00", "zz" * 32, "é" * 64, key_of(lost.file)[:-2], "00" * 32):
        assert four.snapshot.ordinal_of_key(nonsense) is None


def test_a_photo_that_is_replaced_is_there_all_the_time(four: Collection, stub: Any, draw: Draw) -> None:
    """Another thread or process replaces what is behind a path and a key; nobody has refreshed this state."""
    path = draw("photos/3.png", 3)  # "x/photos/3.png" and "photos/3.png1" are not this path
    draw("photos/x/photos/3.png", 30)
    four.add([path.parent])
    four.add(draw("photos/3.png1", 31).read_bytes(), key="shop")
    old = [four[which].key for which in (path, "shop")]
    with Collection.open(four.folder, stub) as other:
        other.add([draw("photos/3.png", 40)])
        other.add(draw("41.png", 41).read_bytes(), key="shop")
        assert [four[which].key for which in (path, "shop")] == old and path in four and path in four.snapshot
        new = [other[which].key for which in (path, "shop")]
        assert not set(old) & set(new)
        other.remove(path)
        assert path not in four  # and this is what is so now
    four.refresh()
    assert four["shop"].key == new[1] and path not in four


def test_an_old_snapshot_knows_its_keys_when_segments_have_other_numbers(four: Collection, draw: Draw) -> None:
    before = four.snapshot
    keys = [before.key_of(ordinal) for ordinal in range(4)]
    four.remove(four.folder.parent / "photos")
    four.compact()  # no segment is left, so that the next one gets a number that there was before
    four.add([draw("photos/3.png", 3), draw("photos/9.png", 9)])
    assert set(four.segment_ids) & set(before.segment_ids)
    assert [before.ordinal_of_key(key) for key in keys] == [0, 1, 2, 3]
    assert [Path(before.image(ordinal).path).name for ordinal in range(4)] == [f"{n}.png" for n in range(4)]


def test_images_are_forgotten_by_their_keys(four: Collection, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(four.image(2).file, copy)
    four.add(copy)
    key, files = four.image(2).key, set(four.image(2).files)
    assert files == {copy, tmp_path / "photos/2.png"}
    assert set(four.forget(key)) == files
    assert (len(four), four.alive.tolist()) == (3, [True, True, False, True])
    with pytest.raises(CollectionError, match=f"has no image {key}; nothing was removed"):
        four.forget([four.image(0).key, key])
    assert len(four) == 3


def test_a_copy_in_another_place_is_shown_where_the_first_is_gone(four: Collection, tmp_path: Path, stub: Any) -> None:
    shutil.copytree(tmp_path / "photos", tmp_path / "usb")
    four.add(tmp_path / "usb")
    engine = SearchEngine(four, stub)
    query = tmp_path / "query.png"
    shutil.copy(tmp_path / "usb/1.png", query)
    best = engine.search(query).results[0]
    assert set(best.files) == {tmp_path / "photos/1.png", tmp_path / "usb/1.png"}
    assert len(best.copies) == 1
    shutil.rmtree(tmp_path / "photos")
    best = engine.search(query).results[0]
    assert (best.file, best.image, best.copies) == (tmp_path / "usb/1.png", str(tmp_path / "usb/1.png"), ())


def test_a_root_that_is_gone_can_be_pruned(four: Collection, tmp_path: Path, draw: Draw) -> None:
    shutil.copytree(tmp_path / "photos", tmp_path / "usb")
    four.add([tmp_path / "usb", draw("photos/only.png", 30)])
    shutil.rmtree(tmp_path / "photos")
    report = four.add([tmp_path / "photos", tmp_path / "usb"], prune=True)
    assert (report.pruned, report.added, report.unchanged, report.skipped) == (5, 0, 4, ())
    assert len(four) == 4
    assert all(file.parent == tmp_path / "usb" for ordinal in range(4) for file in four.image(ordinal).files)


def test_what_may_lie_on_a_disk_that_is_not_there_is_kept(four: Collection, tmp_path: Path, draw: Draw) -> None:
    disk = tmp_path / "media"
    photo = draw("media/usb/photos/7.png", 7)
    shutil.copy(four.image(0).file, disk / "usb/photos/0.png")
    four.add(disk / "usb/photos")
    shutil.rmtree(disk / "usb")
    report = four.add([disk / "usb/photos"], prune=True)
    assert report.pruned == 1, "its content is elsewhere"
    assert "is its disk there?" in report.skipped[0]
    assert four.ordinal_of(photo) is not None


def test_a_path_that_never_was_there_cannot_be_pruned(four: Collection, tmp_path: Path) -> None:
    from delf.errors import ImageError

    with pytest.raises(ImageError, match="never"):
        four.add(tmp_path / "never", prune=True)


@pytest.mark.parametrize("there", [True, False])
def test_results_name_the_photo_that_was_indexed(tmp_path: Path, stub: Any, draw: Draw, there: bool,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexed by a relative path; searched from a folder where that path is another photo, or none."""
    here, elsewhere = draw("a/photos/x.png", 1), draw("b/photos/x.png", 2)
    if not there:
        elsewhere.unlink()
    monkeypatch.chdir(tmp_path / "a")
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add("photos")
    monkeypatch.chdir(tmp_path / "b")
    with Collection.open(tmp_path / "c.delf") as collection:
        best = SearchEngine(collection, stub).search(here).results[0]
    assert (best.image, best.file, best.shown, best.key) == ("photos/x.png", here, str(here), key_of(here))
    np.testing.assert_array_equal(best.plot(here).pixels, best.plot(str(here)).pixels)


@pytest.mark.parametrize("name", ["1.zip", "2.zip"])
def test_collections_of_older_formats_know_their_keys(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(FORMATS / name) as archive:
        archive.extractall(tmp_path)
    [catalogue] = tmp_path.rglob(NAME)
    with Collection.open(catalogue.parent) as collection:
        keys = [collection.snapshot.key_of(ordinal) for ordinal in np.flatnonzero(collection.alive).tolist()]
        assert len(set(keys)) == len(collection) > 1
        for key in keys:
            ordinal = collection.snapshot.ordinal_of_key(key)
            assert ordinal is not None and collection.image(ordinal).key == key
            assert collection.image(ordinal).file.is_absolute()
        paths = {collection.image(ordinal).path for ordinal in np.flatnonzero(collection.alive).tolist()}
        collection.compact()
        assert {collection.image(ordinal).path for ordinal in range(len(collection))} == paths
        assert {collection.snapshot.key_of(ordinal) for ordinal in range(len(collection))} == set(keys)


# --- what a reader costs those who write


def test_the_log_does_not_grow_with_what_is_written(four: Collection, stub: Any, tmp_path: Path) -> None:
    """Readers are open all the while: the collection that is written to, another one, and an engine."""
    log, largest = four.folder / f"{NAME}-wal", 0
    with Collection.open(four.folder) as reader, four.writing() as catalogue:
        engine = SearchEngine(reader, stub)
        image = catalogue.image_of(bytes.fromhex(four.image(0).key))
        assert image is not None
        for number in range(400):  # some six pages of 4 kB each
            path = os.fsencode(tmp_path / f"{number * 7919 % 400:03}")
            catalogue.link([(FileRecord(path, path, 1, number), image)])
            largest = max(largest, log.stat().st_size)
        assert engine.search(four.image(1).file).results
    assert largest < 4_500_000, "SQLite begins its log anew after a thousand pages, where nobody holds a state of it"


# --- processes


def test_a_collection_can_be_used_in_a_forked_child(four: Collection, stub: Any) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    photo = four.image(3).file
    engine = SearchEngine(four, stub)
    expected = found(engine, photo)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (another process)
        try:
            os.write(writing, pickle.dumps(found(engine, photo)))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pickle.loads(pipe.read()) == expected
    os.waitpid(child, 0)
    assert found(engine, photo) == expected


def test_a_child_has_a_connection_of_its_own(four: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalogue.open(four.folder) as catalogue:
        before = catalogue._connection
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert catalogue._connection is not before
        assert catalogue.counts() == (4, 4)


def test_an_engine_is_pickled_by_its_folder_and_a_snapshot_not_at_all(four: Collection, stub: Any) -> None:
    engine = SearchEngine(four, stub, method="delf")
    photo = four.image(3).file
    with pytest.raises(pickle.PicklingError, match="pickle the collection"):
        pickle.dumps(four.snapshot)
    other = pickle.loads(pickle.dumps(engine))
    with other.collection:
        assert (other.method, other.options) == (engine.method, engine.options)
        assert found(other, photo) == found(engine, photo)


# --- methods that hide nothing


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_photo_where_all_share_its_words(tmp_path: Path, stub: Any, draw: Draw,
                                                              method: str) -> None:
    photo = draw("photos/1.png", 1)
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add(photo)
        answer = SearchEngine(collection, stub, method=method).search(photo)
    assert [one.key for one in answer.results] == [key_of(photo)]
    assert answer.results[0].inliers == (20 if METHODS[method].verifies else 0), "all that it has"
