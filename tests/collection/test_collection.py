"""A collection: what it has, what adding does, and what it says of an image."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from delf.collection import Collection
from delf.collection.catalogue import Catalogue
from delf.errors import CollectionError, ImageError
from delf.search import SearchEngine

Draw = Callable[..., Path]


@pytest.fixture
def empty(tmp_path: Path, stub: Any) -> Any:
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        yield collection


def counts(report: Any) -> tuple[int, int, int, int]:
    return report.added, report.unchanged, report.duplicates, len(report.skipped)


def paths(collection: Collection) -> list[str]:
    return [collection.image(ordinal).path for ordinal in np.flatnonzero(collection.alive)]


def answer(collection: Collection, stub: Any, query: Path) -> list[Any]:
    found = SearchEngine(collection, stub, method="delf").search(query, top=None)
    return [(r.rank, r.image, r.score, r.inliers, r.probability, r.inlier_points.tolist(),
             None if r.transform is None else r.transform.tolist()) for r in found.results]


# --- making and opening


def test_a_new_collection_is_empty_and_opens_again(tmp_path: Path, stub: Any) -> None:
    folder = tmp_path / "a" / "places.delf"
    assert not Collection.exists(folder)
    with Collection.create(folder, stub) as collection:
        assert (len(collection), collection.rows, collection.files()) == (0, 0, 0)
        assert collection.global_descriptors().shape == (0, 0)
        assert collection.dimensions == 16
    assert Collection.exists(folder)
    with Collection.open(folder) as collection:
        assert collection.about == stub.identity
        assert len(collection) == 0


def test_open_or_create_makes_once(tmp_path: Path, stub: Any, draw: Draw) -> None:
    for expected in (1, 1):
        with Collection.open_or_create(tmp_path / "c", stub) as collection:
            collection.add([draw("a.png", 1)])
            assert len(collection) == expected


def test_a_folder_with_something_in_it_is_not_taken(tmp_path: Path, stub: Any) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(CollectionError, match=r"is not empty: give the name of a new folder"):
        Collection.create(tmp_path, stub)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_a_place_where_no_folder_can_be(tmp_path: Path, stub: Any, name: str) -> None:
    (tmp_path / "file").touch()
    assert not Collection.exists(tmp_path / name)
    with pytest.raises(CollectionError, match="cannot make a collection at"):
        Collection.open_or_create(tmp_path / name, stub)
    with pytest.raises(CollectionError, match="is not a collection"):
        Collection.open(tmp_path / name)


def test_adding_needs_an_extractor(empty: Collection, draw: Draw) -> None:
    with Collection.open(empty.folder) as collection, pytest.raises(CollectionError, match="with an extractor"):
        collection.add([draw("a.png", 1)])


# --- adding


def test_one_folder_may_be_added_without_a_list(empty: Collection, draw: Draw) -> None:
    folder = draw("photos/a.png", 1).parent
    assert counts(empty.add(str(folder))) == (1, 0, 0, 0)
    assert counts(empty.add(folder)) == (0, 1, 0, 0)


def test_adding_is_seen_at_once_and_after_opening_again(empty: Collection, draw: Draw, stub: Any) -> None:
    files = [draw(f"photos/{name}.png", seed, size) for name, seed, size in
             [("b", 1, (64, 48)), ("a", 2, (80, 60)), ("c/d", 3, (48, 64))]]
    calls: list[tuple[int, int]] = []
    report = empty.add([files[0].parent], progress=lambda done, total: calls.append((done, total)))
    assert counts(report) == (3, 0, 0, 0)
    assert not report.interrupted
    assert calls[-1] == (3, 3)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    for collection in (empty, Collection.open(empty.folder)):
        with collection:
            assert [Path(path).name for path in paths(collection)] == ["a.png", "b.png", "d.png"]
            assert (len(collection), collection.files(), collection.rows) == (3, 3, 60)
            assert [collection.features(i).image_size for i in range(3)] == [(80, 60), (64, 48), (48, 64)]
            assert collection.starts.tolist() == [0, 20, 40, 60]
            assert collection.images_of(np.array([0, 19, 20, 59])).tolist() == [0, 0, 1, 2]
            assert collection.global_descriptors().shape == (3, 8)


def test_adding_again_changes_nothing(empty: Collection, draw: Draw, stub: Any) -> None:
    draw("photos/a.png", 1), draw("photos/b.png", 2)
    empty.add([draw("photos/c.png", 3).parent])
    before = {path: path.read_bytes() for path in empty.folder.rglob("*.npy")}
    assert counts(empty.add([empty.folder.parent / "photos"])) == (0, 3, 0, 0)
    assert stub.extracted == 3
    assert {path: path.read_bytes() for path in empty.folder.rglob("*.npy")} == before


def test_a_file_that_changed_is_another_image(empty: Collection, draw: Draw, stub: Any) -> None:
    file, other = draw("a.png", 1), draw("b.png", 2)
    empty.add([file, other])
    old = SearchEngine(empty, stub, method="delf").search(file).results[0]
    assert old.image == str(file)
    draw("a.png", 7, (100, 70))
    report = empty.add([file, other])
    assert counts(report) == (1, 1, 0, 0)
    assert (len(empty), empty.files()) == (2, 2)
    assert empty.alive.tolist() == [False, True, True]
    assert empty.ordinal_of(file) == 2
    assert empty.features(2).image_size == (100, 70)
    gone = empty.image(0)
    assert (gone.path, gone.file, gone.files) == (str(file), file, ()), "where it was indexed"
    assert len(gone.key) == 64 and empty.snapshot.ordinal_of_key(gone.key) is None


def test_a_file_that_was_only_touched_is_known_by_its_content(empty: Collection, draw: Draw, stub: Any) -> None:
    file = draw("a.png", 1)
    empty.add([file])
    os.utime(file, ns=(1, 1))
    assert counts(empty.add([file])) == (0, 1, 0, 0)
    assert counts(empty.add([file])) == (0, 1, 0, 0)
    assert (stub.extracted, empty.alive.tolist()) == (1, [True])


def test_equal_files_are_one_image(empty: Collection, draw: Draw, stub: Any) -> None:
    first, other = draw("x/a.png", 1), draw("x/b.png", 2)
    second = first.parent.parent / "y" / "again.png"
    second.parent.mkdir()
    shutil.copy(first, second)
    assert counts(empty.add([first, other, second])) == (2, 0, 1, 0)
    assert (len(empty), empty.files(), stub.extracted) == (2, 3, 2)
    assert empty.ordinal_of(first) == empty.ordinal_of(second) == 0
    third = Path(shutil.copy(first, second.with_name("late.png")))
    assert counts(empty.add([third])) == (0, 0, 1, 0), "a copy that comes after its image was published"
    assert (len(empty), empty.files(), empty.ordinal_of(third)) == (2, 4, 0)
    first.unlink()
    draw("x/a.png", 9)
    empty.add([first])
    assert len(empty) == 3, "the copies keep the image alive"
    assert empty.image(0).file == third.with_name("again.png")


def test_the_same_photo_by_two_ways_is_one_file(empty: Collection, draw: Draw, monkeypatch: Any) -> None:
    file = draw("x/a.png", 1)
    monkeypatch.chdir(file.parent.parent)
    empty.add(["x"])
    assert empty.image(0).path == "x/a.png"
    assert empty.image(0).file == file
    assert counts(empty.add([file, "x/../x/a.png"])) == (0, 1, 0, 0)
    assert empty.ordinal_of("x/a.png") == empty.ordinal_of(file) == 0
    assert empty.ordinal_of("a.png") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
@pytest.mark.parametrize("name", [b"two words.png", b"new\nline.png", b"caf\xe9\xff.png", b"%d 'quoted\" \x1b[31m.png"])
def test_any_file_name(empty: Collection, draw: Draw, name: bytes) -> None:
    file = draw(b"photos/" + name, 1)
    assert counts(empty.add([file.parent])) == (1, 0, 0, 0)
    with Collection.open(empty.folder) as collection:
        assert os.fsencode(collection.image(0).path) == os.fsencode(file)
        assert collection.image(0).file.read_bytes() == file.read_bytes()
        assert collection.ordinal_of(file) == 0
    assert counts(empty.add([file])) == (0, 1, 0, 0)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(empty: Collection, draw: Draw, tmp_path: Path) -> None:
    folder = draw("photos/a.png", 1).parent
    draw("photos/z.png", 2)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    (folder / "empty.png").touch()
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "notes.txt").write_text("not a photo by its name")
    report = empty.add([folder])
    assert counts(report) == (2, 0, 0, 3)
    for sentence, name in zip(report.skipped, ("broken.jpg", "empty.png", "gone.png"), strict=True):
        assert name in sentence
    assert [Path(path).name for path in paths(empty)] == ["a.png", "z.png"]
    assert counts(empty.add([folder])) == (0, 2, 0, 3), "what was skipped is tried again"


def test_a_root_that_is_not_there(empty: Collection, tmp_path: Path, draw: Draw) -> None:
    with pytest.raises(ImageError, match=r"There is no file or folder .*nowhere"):
        empty.add([draw("a.png", 1), tmp_path / "nowhere"])
    assert len(empty) == 0


def test_time_and_place_are_kept(empty: Collection, draw: Draw) -> None:
    rational = TiffImagePlugin.IFDRational
    exif = Image.Exif()
    exif[0x8769] = {0x9003: "2019:07:14 21:05:09"}
    exif[0x8825] = {1: "N", 2: (rational(48), rational(51), rational(30)),
                    3: "W", 4: (rational(2), rational(15), rational(0))}
    written = Image.Exif()
    written.load(exif.tobytes())
    empty.add([draw("a.png", 1, exif=written), draw("b.png", 2)])
    image = empty.image(0)
    assert image.captured_at == "2019-07-14T21:05:09"
    assert image.latitude == pytest.approx(48 + 51 / 60 + 30 / 3600)
    assert image.longitude == pytest.approx(-2.25)
    assert (empty.image(1).captured_at, empty.image(1).latitude, empty.image(1).longitude) == (None, None, None)


def test_a_picture_without_features_is_an_image(empty: Collection, draw: Draw, tmp_path: Path, stub: Any) -> None:
    Image.new("RGB", (50, 40), (9, 9, 9)).save(tmp_path / "flat.png")
    empty.add([draw("a.png", 1), tmp_path / "flat.png", draw("b.png", 2)])
    assert [len(empty.features(i)) for i in range(3)] == [20, 0, 20]
    assert empty.images_of(np.array([19, 20])).tolist() == [0, 2]
    assert SearchEngine(empty, stub, method="delf").search(draw("b.png", 2)).results[0].image.endswith("b.png")


# --- segments


def test_many_segments_answer_as_one(tmp_path: Path, stub: Any, draw: Draw) -> None:
    files = [draw(f"photos/{seed}.png", seed) for seed in range(5)]
    with Collection.create(tmp_path / "one", stub) as one, Collection.create(tmp_path / "many", stub) as many:
        one.add(files)
        many.add(files, images_per_segment=2)
        assert [segment.images for segment in one.segments] == [5]
        assert [segment.images for segment in many.segments] == [2, 2, 1]
        assert many.starts.tolist() == one.starts.tolist()
        for ordinal, file in enumerate(files):
            assert one.ordinal_of(file) == many.ordinal_of(file) == ordinal
            assert many.image(ordinal) == one.image(ordinal)
            for name in ("keypoints", "scales", "scores", "descriptors", "global_descriptor"):
                np.testing.assert_array_equal(getattr(many.features(ordinal), name),
                                              getattr(one.features(ordinal), name))
            assert answer(many, stub, file) == answer(one, stub, file)
        np.testing.assert_array_equal(many.global_descriptors(), one.global_descriptors())


def test_a_reader_keeps_its_state_until_it_refreshes(empty: Collection, draw: Draw) -> None:
    empty.add([draw("a.png", 1)])
    with Collection.open(empty.folder) as reader:
        late = draw("b.png", 2)
        empty.add([late])
        assert (len(reader), reader.ordinal_of(late)) == (1, None)
        draw("b.png", 3)
        empty.add([late])
        reader.refresh()
        assert (len(reader), reader.ordinal_of(late)) == (2, 2)


def test_what_is_published_between_two_looks_at_the_catalogue(empty: Collection, draw: Draw, monkeypatch: Any) -> None:
    empty.add([draw("a.png", 1)])
    monkeypatch.setattr(Catalogue, "removed", lambda catalogue: [(99, 0)])
    empty.refresh()
    assert empty.alive.tolist() == [True]


def test_bytes_by_kind_are_those_on_disk(empty: Collection, draw: Draw) -> None:
    empty.add([draw(f"{seed}.png", seed) for seed in range(4)], images_per_segment=2)
    kinds = empty.bytes_by_kind()
    header = 128 * len(empty.segments)
    assert kinds["descriptors"] == 80 * 16 + header
    assert kinds["keypoints"] == 80 * 4 + header
    assert kinds["scales"] == kinds["scores"] == 80 * 2 + header
    assert set(kinds) == {"catalogue", "descriptors", "globals", "keypoints", "keys", "offsets", "path_ends", "paths",
                          "scales", "scores", "sizes"}
    assert kinds["keys"] == 4 * 32 + header
    arrays = sum(path.stat().st_size for path in empty.folder.rglob("*.npy"))
    assert sum(kinds.values()) == arrays + (empty.folder / "catalogue.sqlite").stat().st_size


def test_bytes_of_what_searches_were_prepared_with(empty: Collection, draw: Draw) -> None:
    empty.add([draw("a.png", 1)])
    before = empty.bytes_by_kind()
    segment = empty.segments[0].folder
    for name, size in (("asmk-12.lists", 30), ("asmk-12-medians.lists", 12), ("ivfpq.faiss", 7), ("1.partial", 99),
                       (".x.lists", 99)):
        (segment / name).write_bytes(bytes(size))
    (empty.folder / "words-12.words").write_bytes(bytes(5))
    assert empty.bytes_by_kind() == {**before, "asmk": 42, "index": 7, "words": 5}


# --- being interrupted


def test_ctrl_c_publishes_what_is_done_and_the_next_call_goes_on(tmp_path: Path, make_stub: Any, draw: Draw) -> None:
    files = [draw(f"photos/{seed}.png", seed) for seed in range(6)]
    with Collection.create(tmp_path / "c", make_stub(interrupt_after=3)) as collection:
        report = collection.add(files, images_per_segment=2)
        assert report.interrupted
        assert counts(report) == (3, 0, 0, 0)
        assert len(collection) == 3
    with Collection.open(tmp_path / "c", make_stub()) as collection:
        report = collection.add(files)
        assert not report.interrupted
        assert counts(report) == (3, 3, 0, 0)
        assert [Path(path).name for path in paths(collection)] == [file.name for file in files]


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_while_publishing_loses_nothing(empty: Collection, draw: Draw, monkeypatch: Any, before: bool) -> None:
    publish, pressed = Catalogue.publish, []

    def interrupted(catalogue: Catalogue, *arguments: Any) -> None:
        if pressed or not before:
            publish(catalogue, *arguments)
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    monkeypatch.setattr(Catalogue, "publish", interrupted)
    files = [draw(f"{seed}.png", seed) for seed in range(4)]
    report = empty.add(files, images_per_segment=2)
    assert report.interrupted
    assert (report.added, len(empty)) == (2, 2)
    assert counts(empty.add(files)) == (2, 2, 0, 0)


def test_a_crash_leaves_what_was_published(tmp_path: Path, stub: Any, draw: Draw, monkeypatch: Any) -> None:
    files = [draw(f"{seed}.png", seed) for seed in range(5)]

    def crash(catalogue: Catalogue, *arguments: Any) -> None:
        raise RuntimeError("the power went out")

    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add(files[:2])
        with monkeypatch.context() as patched, pytest.raises(RuntimeError):
            patched.setattr(Catalogue, "publish", crash)
            collection.add(files)
    with Collection.open(tmp_path / "c", stub) as collection:
        assert len(collection) == 2
        assert counts(collection.add(files)) == (3, 2, 0, 0)


def test_a_full_disk_is_said(empty: Collection, draw: Draw, monkeypatch: Any) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("delf.collection.adding.write_segment", full)
    with pytest.raises(CollectionError, match=r"cannot write to .*places\.delf \(No space left on device\)"):
        empty.add([draw("a.png", 1)])


def test_two_that_add_the_same_photo_at_once(empty: Collection, draw: Draw, make_stub: Any, monkeypatch: Any) -> None:
    file, other = draw("a.png", 1), draw("b.png", 2)
    publish = Catalogue.publish

    def overtaken(catalogue: Catalogue, *arguments: Any) -> None:
        monkeypatch.setattr(Catalogue, "publish", publish)
        with Collection.open(empty.folder, make_stub()) as second:
            second.add([file])
        publish(catalogue, *arguments)

    monkeypatch.setattr(Catalogue, "publish", overtaken)
    with pytest.raises(CollectionError, match=rf"being written by process {os.getpid()} on .* since 20"):
        empty.add([file, other])
    assert counts(empty.add([file, other])) == (2, 0, 0, 0)
    assert len(empty) == 2


# --- what may be mixed


def test_another_model_is_refused_and_both_are_named(empty: Collection, make_stub: Any) -> None:
    with pytest.raises(CollectionError, match=r"the model stub \(00112233\), not other \(00112233\)"):
        Collection.open(empty.folder, make_stub(name="other"))
    with pytest.raises(CollectionError, match=r"the model stub \(00112233\), not stub \(ffeeddcc\)"):
        Collection.open(empty.folder, make_stub(fingerprint="ffeeddccbbaa"))


def test_other_options_are_refused_and_both_are_named(empty: Collection, make_stub: Any) -> None:
    with pytest.raises(CollectionError, match=r"other options: max_features 20 \(now 99\); use those"):
        Collection.open(empty.folder, make_stub(options=SimpleNamespace(dimensions=16, max_features=99)))
    with pytest.raises(CollectionError, match=r"other options: sharpness unset \(now 3\)"):
        empty.require(make_stub(options=SimpleNamespace(dimensions=16, max_features=20, sharpness=3)))


def test_a_newer_format_is_refused(empty: Collection) -> None:
    with sqlite3.connect(empty.folder / "catalogue.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CollectionError, match=r"format 99, which is newer than this version of delf reads \(3\)"):
        Collection.open(empty.folder)


def test_about_is_json_and_survives(empty: Collection) -> None:
    connection = sqlite3.connect(empty.folder / "catalogue.sqlite")
    rows = dict(connection.execute("SELECT key, value FROM about").fetchall())
    connection.close()
    assert json.loads(rows["model"]) == {"fingerprint": "00112233445566778899", "name": "stub"}


# --- what is passed over


@pytest.mark.usefixtures("without_extras")
def test_what_is_not_added_and_what_the_report_says_of_it(tmp_path: Path, draw: Draw, empty: Any) -> None:
    for number, name in enumerate(("in/a.png", "in/@eaDir/a.png/SYNOPHOTO_THUMB_M.png", "in/deep/b.png",
                                   "in/private/c.png", "in/d.gif.png")):
        draw(name, number)
    for name in ("in/a.nef", "in/deep/b.CR3", "in/c.mov", "in/private/d.dng"):
        (tmp_path / name).write_bytes(b"x")
    root = tmp_path / "in"
    report = empty.add([root, root / "deep", root / "." / "a.png"], exclude=["private", "*.gif.*"])
    assert counts(report) == (2, 0, 0, 0)
    assert (report.passed_over.raw, report.passed_over.videos) == (2, 1)
    assert sorted(Path(path).name for path in paths(empty)) == ["a.png", "b.png"]
    assert counts(empty.add([root, root / "deep"], exclude="private")) == (1, 2, 0, 0)
    assert counts(empty.add(root)) == (1, 3, 0, 0)
    assert counts(empty.add(root / "@eaDir")) == (1, 0, 0, 0), "it is asked for"


def test_a_model_that_came_to_say_its_space_is_the_same_model(stub: Any, make_stub: Any, tmp_path: Path) -> None:
    """As those have that were made before models said it."""
    class Spaced(type(stub)):  # type: ignore[misc]
        space = "of another"

        @property
        def identity(self) -> dict[str, Any]:
            plain = super().identity
            return {**plain, "model": {**plain["model"], "space": self.space}}

    Collection.create(tmp_path / "old.delf", stub).close()
    Collection.create(tmp_path / "new.delf", Spaced()).close()
    for folder in ("old.delf", "new.delf"):
        for extractor in (stub, Spaced()):
            with Collection.open(tmp_path / folder, extractor) as opened:
                assert opened.snapshot.is_of(extractor)
        other = Spaced(fingerprint="11")
        with pytest.raises(CollectionError, match="features of two models do not mix"):
            Collection.open(tmp_path / folder, other)
