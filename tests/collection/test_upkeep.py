"""The life of a collection: moved, gone, removed, merged; what torn runs left; older formats."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.collection.schema import FORMAT
from delf.collection.upkeep import CROWD, crowd
from delf.errors import BeingWrittenError, CollectionError
from delf.indexing import IndexOptions, build_index
from delf.methods import SearchOptions
from delf.retrieval import VoteOptions
from delf.search import SearchEngine

Draw = Callable[..., Path]
FORMATS = Path(__file__).with_name("formats")


@pytest.fixture
def five(draw: Draw, stub: Any, tmp_path: Path) -> Any:
    """Five photos, a/0.png to a/2.png and b/3.png and b/4.png, two in a segment."""
    for seed in range(5):
        draw(f"{'a' if seed < 3 else 'b'}/{seed}.png", seed)
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add([tmp_path / "a", tmp_path / "b"], images_per_segment=2)
        yield collection


def names(collection: Collection) -> list[str]:
    return [collection.image(i).file.name for i in np.flatnonzero(collection.alive).tolist()]


def bytes_of(collection: Collection) -> dict[str, tuple[bytes, ...]]:
    return {collection.image(i).file.name: (features.keypoints.tobytes(), features.scales.tobytes(),
                                            features.scores.tobytes(), features.descriptors.tobytes())
            for i in np.flatnonzero(collection.alive).tolist() for features in [collection.features(i)]}


# --- gone and moved


def test_prune_forgets_what_is_gone_below_the_given_paths(five: Collection, tmp_path: Path) -> None:
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "b/3.png").unlink()
    assert five.add([tmp_path / "a"]).pruned == 0
    assert len(five) == 5, "without being asked nothing is forgotten"
    report = five.add([tmp_path / "a"], prune=True)
    assert (report.pruned, report.unchanged, report.skipped) == (1, 2, ())
    assert names(five) == ["0.png", "2.png", "3.png", "4.png"]


def test_an_emptied_folder_is_not_pruned(five: Collection, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "b").mkdir()
    report = five.add([tmp_path / "b"], prune=True)
    assert (report.pruned, len(five)) == (0, 5)
    assert "has no photo any more, so the 2 of the collection were kept" in report.skipped[0]


def test_a_moved_photo_is_the_same_image(five: Collection, tmp_path: Path, stub: Any) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "a/1.png").rename(tmp_path / "c/one.png")
    report = five.add([tmp_path / "c"])
    assert (report.moved, report.added, report.duplicates) == (1, 0, 0)
    assert (stub.extracted, len(five), five.files()) == (5, 5, 5)
    assert names(five) == ["0.png", "one.png", "2.png", "3.png", "4.png"]


def test_a_moved_folder(five: Collection, tmp_path: Path) -> None:
    (tmp_path / "b").rename(tmp_path / "c")
    assert five.add([tmp_path / "c"]).moved == 2
    assert five.files() == 5


# --- removing


def test_remove_files_and_folders_that_may_be_gone(five: Collection, tmp_path: Path, stub: Any) -> None:
    shutil.rmtree(tmp_path / "b")
    assert five.remove([tmp_path / "a/0.png", tmp_path / "b"]) == 3
    assert names(five) == ["1.png", "2.png"]
    assert len(five.alive) == 5, "the features stay until the collection is compacted"
    assert five.add([tmp_path / "a"]).duplicates == 1, "and are used again"
    assert (stub.extracted, names(five)) == (5, ["0.png", "1.png", "2.png"])


def test_remove_what_is_not_there(five: Collection, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"has no photo at or below .*/c; nothing was removed"):
        five.remove([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(CollectionError, match="has no photo at or below"):
        five.remove(tmp_path / "a/0.pn")
    assert len(five) == 5


def test_one_of_two_copies_is_removed(five: Collection, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "a/0.png", tmp_path / "copy.png")
    assert five.add(tmp_path / "copy.png").duplicates == 1
    assert five.remove(tmp_path / "a/0.png") == 1
    assert names(five)[0] == "copy.png"
    assert len(five) == 5


def test_a_state_that_was_opened_goes_on(five: Collection, tmp_path: Path) -> None:
    with Collection.open(five.folder) as reader:
        before = names(reader), bytes_of(reader)
        five.remove(tmp_path / "a")
        five.compact()
        assert (names(reader), bytes_of(reader)) == before
        reader.refresh()
        assert names(reader) == ["3.png", "4.png"]


# --- merging


def test_compact_drops_and_merges_and_changes_no_feature(five: Collection, tmp_path: Path) -> None:
    five.remove(tmp_path / "a/1.png")
    before, order = bytes_of(five), names(five)
    size = sum(five.bytes_by_kind().values())
    assert five.compact() == (1, 2)
    assert (bytes_of(five), names(five)) == (before, order)
    assert (len(five.segments), len(five.alive)) == (1, 4)
    assert len(list((five.folder / "segments").iterdir())) == 1
    assert sum(five.bytes_by_kind().values()) < size
    assert five.compact() == (0, 0)
    assert five.add([tmp_path / "a", tmp_path / "b"]).added == 1, "what was dropped can come again"


def test_compact_leaves_full_segments_alone(five: Collection) -> None:
    before = {path.name for path in (five.folder / "segments").iterdir()}
    assert five.compact(images_per_segment=2) == (0, 0)
    assert {path.name for path in (five.folder / "segments").iterdir()} == before


def test_compact_when_all_is_removed(five: Collection, tmp_path: Path) -> None:
    five.remove([tmp_path / "a", tmp_path / "b"])
    assert five.compact() == (5, 3)
    assert (len(five), len(five.alive), five.rows) == (0, 0, 0)
    assert five.add(tmp_path / "a").added == 3


@pytest.mark.parametrize("most", [1, 7, 512])
def test_segments_stay_few_and_are_copied_seldom(most: int) -> None:
    """Additions of all sizes: the number of segments, and how often an image is copied, grow as a logarithm."""
    rng, full = np.random.default_rng(0), 16384
    sizes, copied, added, largest = list[int](), 0, 0, 0
    for _ in range(20_000):
        sizes.append(int(rng.integers(1, most + 1)))
        added += sizes[-1]
        if count := crowd(sizes, full):
            merged = sum(sizes[-count:])
            sizes[-count:] = [merged]
            copied += merged
        largest = max(largest, len(sizes) - sum(size > full // 2 for size in sizes))
    assert sum(sizes) == added
    assert largest <= 4 * CROWD
    assert copied <= np.log2(full) * added
    assert max(sizes) <= full


def test_many_small_additions_are_merged(tmp_path: Path, stub: Any, draw: Draw, monkeypatch: Any) -> None:
    monkeypatch.setattr("delf.collection.upkeep.CROWD", 4)
    photos = [draw(f"{seed:02}.png", seed) for seed in range(14)]
    with Collection.create(tmp_path / "whole.delf", stub) as collection:
        collection.add(photos)
        whole = bytes_of(collection)
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        counts = []
        for number, photo in enumerate(photos):
            collection.add(photo)
            counts.append(len(collection.segments))
            assert names(collection) == [one.name for one in photos[: number + 1]]
            if number == 8:
                build_index(collection, IndexOptions(kind="ivfpq"))
        assert counts == [1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4, 2, 3, 4]
        assert bytes_of(collection) == whole
        assert len(list((collection.folder / "segments").iterdir())) == 4
        collection.remove(photos[13])
        collection.add(draw("14.png", 14))
        assert (len(collection.segments), len(collection.alive)) == (5, 15)
        collection.add(draw("15.png", 15))
        assert (len(collection.segments), len(collection.alive)) == (1, 15), "the removed one is not copied"
        options = SearchOptions(VoteOptions(1), candidates=0, ranking="retrieval")
        engine = SearchEngine(collection, stub, options=options)
        assert [Path(engine.search(photo, top=1).results[0].image) for photo in photos[:13]] == photos[:13]
        assert check_collection(collection.folder).problems == ()


@pytest.mark.parametrize("kind", ["exact", "ivfpq"])
def test_searches_find_the_same_before_and_after(five: Collection, stub: Any, tmp_path: Path, kind: str) -> None:
    build_index(five, IndexOptions(kind=kind))
    five.remove(tmp_path / "a/0.png")

    def found() -> list[list[str]]:
        engine = SearchEngine(five, stub, options=SearchOptions(VoteOptions(1), candidates=0, ranking="retrieval"))
        return [[Path(r.image).name for r in engine.search(tmp_path / path, top=1).results] for path in
                ("a/1.png", "a/2.png", "b/3.png", "b/4.png")]

    wanted = [["1.png"], ["2.png"], ["3.png"], ["4.png"]]
    assert found() == wanted
    five.compact()
    assert found() == wanted, "what has no index yet is searched exactly"
    assert build_index(five) == kind, "the index is of the kind that was asked for"
    assert found() == wanted


def test_a_full_disk_while_merging(five: Collection, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = bytes_of(five)
    with monkeypatch.context() as patch:
        patch.setattr("delf.collection.segment.write_npy", full)
        with pytest.raises(CollectionError, match=r"cannot write to .* \(No space left on device\); nothing was lost"):
            five.compact()
    assert not list((five.folder / "segments").glob(".*"))
    five.refresh()
    assert bytes_of(five) == before
    assert five.compact() == (0, 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_while_adding(five: Collection, draw: Draw, monkeypatch: Any, code: int) -> None:
    new = [draw(f"new/{seed}.png", seed) for seed in range(10, 14)]
    calls = []

    def failing(file: Any) -> None:
        calls.append(file)
        if len(calls) > 12:  # in the second segment
            raise OSError(code, "the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr("delf.collection.arrays.flush", failing)
        with pytest.raises(CollectionError, match=r"the disk fails.*what was published before is safe"):
            five.add(new, images_per_segment=2)
    five.refresh()
    assert len(five) == 7
    report = five.add(new)
    assert (report.added, report.unchanged, len(five)) == (2, 2, 9)


# --- what torn runs left


def test_leftovers_go_and_what_is_not_ours_stays(five: Collection, tmp_path: Path) -> None:
    torn = [five.folder / "segments" / f".{'a' * 32}", five.folder / "segments" / ("b" * 32)]
    for folder in torn:
        folder.mkdir()
        (folder / "offsets.npy").write_bytes(b"half")
    [first, *_] = five.segments
    files = [five.folder / f"quantiser-{'c' * 32}.faiss", five.folder / ".catalogue.sqlite.77",
             first.folder / "ivfpq.faiss.spill", first.folder / "ivfpq.faiss.partial",
             first.folder / f"ivfpq-{'e' * 16}.faiss"]
    foreign = [five.folder / "notes.txt", five.folder / "segments/notes.txt", five.folder / "quantiser-mine.faiss"]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "dear.txt").touch()
    (five.folder / "segments" / ("d" * 32)).symlink_to(outside)
    for path in files + foreign:
        path.touch()
    five.add(tmp_path / "a")
    assert not any(path.exists() for path in torn + files)
    assert all(path.exists() for path in [*foreign, outside / "dear.txt"])
    assert len(five) == 5


def test_making_a_collection_that_was_cut_short(tmp_path: Path, stub: Any, draw: Draw) -> None:
    folder = tmp_path / "places.delf"
    (folder / "segments").mkdir(parents=True)
    (folder / ".catalogue.sqlite.123").write_bytes(b"SQLite")
    (folder / "writer.lock").write_text("{")
    with Collection.open_or_create(folder, stub) as collection:
        assert collection.add(draw("a.png", 1)).added == 1


def test_links_inside_of_a_collection_are_not_followed(five: Collection, tmp_path: Path) -> None:
    folder = five.segments[0].folder
    for path in (folder, folder / "scores.npy"):
        moved = tmp_path / "elsewhere"
        path.rename(moved)
        path.symlink_to(moved)
        with pytest.raises(CollectionError, match="link"):
            Collection.open(five.folder)
        path.unlink()
        moved.rename(path)
    with Collection.open(five.folder) as opened:
        assert len(opened) == 5


# --- formats


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_every_format_is_read_and_written(version: int, tmp_path: Path, make_stub: Any, draw: Draw) -> None:
    """The collections in `formats/` were made by the versions of delf that wrote them: 0.png was changed later."""
    with zipfile.ZipFile(FORMATS / f"{version}.zip") as archive:
        archive.extractall(tmp_path)
    with Collection.open(tmp_path / "places.delf", make_stub()) as collection:
        assert [collection.image(i).path for i in (1, 2, 3)] == [f"photos/{n}.png" for n in (1, 2, 0)]
        assert (collection.alive.tolist(), len(collection.segments)) == ([False, True, True, True], 3)
        blocks = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
        wanted = make_stub().extract(blocks).descriptors
        np.testing.assert_allclose(collection.features(1).descriptors, wanted, atol=0.02)
        assert collection.add(draw("new.png", 77)).added == 1
        assert collection.compact()[0] == 1
        assert (len(collection), len(collection.alive)) == (4, 4)
    connection = sqlite3.connect(tmp_path / "places.delf/catalogue.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
    connection.close()


def test_a_change_of_several_steps_is_one(stub: Any, draw: Draw, tmp_path: Path) -> None:
    """Steps nest in the thread that writes; nobody else, in another thread or another object, comes between them."""
    with Collection.create(tmp_path / "c.delf", stub) as collection, Collection.open(tmp_path / "c.delf") as other:
        def refused(to_write: Collection) -> None:
            with pytest.raises(BeingWrittenError):
                to_write.compact()

        with collection.writing():
            collection.add(draw("a.png", 1))
            build_index(collection)
            refused(other)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(refused, collection).result()
            collection.describe({draw("a.png", 1): {"album": "Rome"}})
            assert len(collection) == 1
        other.refresh()
        assert [photo.metadata for photo in other] == [{"album": "Rome"}]
        with pytest.raises(KeyError), collection.writing():
            raise KeyError
        other.compact()
