"""A collection brought to another model or other options: in one step, and whatever cuts it short."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection, renewal
from delf.collection.lock import WriterLock
from delf.errors import CollectionError
from delf.features import Delf
from delf.images import display_path
from delf.indexing import build_index
from delf.search import SearchEngine
from delf.types import SearchResult

ACTORS = Path(__file__).with_name("actors.py")
KILLED_EACH = 6  # steps: enough to be killed in each part of the work
Draw = Callable[..., Path]
PHOTOS = 5


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a catalogue are looked up in several steps."""
    monkeypatch.setattr("delf.collection.catalogue.FILES_AT_ONCE", 2)


@pytest.fixture
def folder(tmp_path: Path, draw: Draw, stub: Any) -> Path:
    """A collection of five photos, two in a segment, one of them with a copy."""
    for number in range(PHOTOS):
        draw(f"in/{number}.png", number)
    shutil.copy(tmp_path / "in/2.png", tmp_path / "in/copy of 2.png")
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(tmp_path / "in", images_per_segment=2)
    return tmp_path / "places.delf"


@pytest.fixture
def other(make_stub: Any) -> Any:
    """Another model: of another name, and with fewer features of a photo."""
    return make_stub(name="other", fingerprint="ffeeddccbbaa99887766")


def content(collection: Collection) -> dict[str, tuple[bytes, ...]]:
    """What is stored of each image that is there, by its key, with its files."""
    return {collection.image(i).key: tuple(
        array.tobytes() for array in (features.keypoints, features.scales, features.scores, features.descriptors))
        for i in np.flatnonzero(collection.alive).tolist() for features in [collection.features(i)]}


def files(folder: Path) -> dict[bytes, tuple[bytes, bytes]]:
    """How each file is shown, and its key."""
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    rows = connection.execute("SELECT path, shown, sha256 FROM files JOIN images ON image = id").fetchall()
    connection.close()
    return {path: (shown, key) for path, shown, key in rows}


def hidden(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(".renewal"))


def assert_old(folder: Path, extractor: Any) -> None:
    """It answers as before."""
    assert check_collection(folder).problems == ()
    with Collection.open(folder, extractor) as collection:
        assert len(collection) == PHOTOS


def assert_renewed(folder: Path, extractor: Any, tmp_path: Path) -> None:
    """It is as one that was made by this extractor, and nothing is left over."""
    assert check_collection(folder).problems == ()
    with Collection.create(tmp_path / "fresh.delf", extractor) as fresh, Collection.open(folder, extractor) as renewed:
        fresh.add(tmp_path / "in", images_per_segment=2)
        assert content(renewed) == content(fresh)
        assert renewed.files() == fresh.files()
        assert {path.name for path in (folder / "segments").iterdir()} == {one.folder.name for one in renewed.segments}
        assert renewed.add(tmp_path / "in").unchanged == PHOTOS + 1
    assert hidden(folder) == []
    assert files(folder) == files(tmp_path / "fresh.delf")
    shutil.rmtree(tmp_path / "fresh.delf")


def test_it_becomes_as_one_made_by_the_new_model(folder: Path, other: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for name in ("words-0123.words", "pairs-0123.sqlite", "pairs-0123.sqlite-wal", "quantiser-" + "0" * 32 + ".faiss"):
        (folder / name).touch()
    with Collection.open(folder) as collection:
        report = collection.renew(other, progress=lambda *now: seen.append(now), images_per_segment=2)
        assert (report.added, report.duplicates, report.unchanged, report.skipped) == (PHOTOS, 1, 0, ())
        assert seen[-1] == (PHOTOS + 1, PHOTOS + 1)
        assert collection.about["model"]["name"] == "other"
        assert len(collection) == PHOTOS
        assert collection.bytes_by_kind().keys().isdisjoint({"renewal", "words", "pairs", "index"})
        assert collection.add(tmp_path / "in").unchanged == PHOTOS + 1, "photos are added by the new one from now on"
    assert_renewed(folder, other, tmp_path)


def test_of_other_options(folder: Path, make_stub: Any, tmp_path: Path) -> None:
    fewer = make_stub(options=SimpleNamespace(dimensions=16, max_features=5))
    with Collection.open(folder) as collection:
        collection.renew(fewer)
    assert_renewed(folder, fewer, tmp_path)


def test_where_nothing_is_to_be_done(folder: Path, stub: Any) -> None:
    with Collection.open(folder) as collection:
        before = collection.snapshot
        report = collection.renew(stub)
        assert (report.added, report.unchanged, stub.extracted) == (0, PHOTOS + 1, PHOTOS)
        assert collection.snapshot.same_as(before)


def test_an_empty_one(tmp_path: Path, stub: Any, other: Any) -> None:
    Collection.create(tmp_path / "empty.delf", stub).close()
    with Collection.open(tmp_path / "empty.delf") as collection:
        assert collection.renew(other).added == 0
        assert (len(collection), collection.about["model"]["name"]) == (0, "other")


def test_removed_images_are_left_out(folder: Path, other: Any, tmp_path: Path) -> None:
    with Collection.open(folder) as collection:
        collection.remove(tmp_path / "in/0.png")
        collection.renew(other)
        assert (len(collection), len(collection.alive)) == (PHOTOS - 1, PHOTOS - 1)
    assert check_collection(folder).problems == ()


def test_a_file_that_has_changed_is_what_it_is_now(folder: Path, other: Any, draw: Draw, tmp_path: Path) -> None:
    draw("in/1.png", 99)
    draw("in/copy of 2.png", 98)
    with Collection.open(folder) as collection:
        collection.renew(other)
        assert len(collection) == PHOTOS + 1
    assert_renewed(folder, other, tmp_path)


# --- who has it open


def test_readers_keep_their_state_and_are_told(folder: Path, stub: Any, other: Any, draw: Draw) -> None:
    with Collection.open(folder, stub) as reader, Collection.open(folder) as writer:
        before, snapshot = content(reader), reader.snapshot
        writer.renew(other)
        assert content(reader) == before
        with pytest.raises(CollectionError, match=r"made with the model other .*, not stub"):
            reader.add(draw("in/new.png", 50))
        assert reader.snapshot is not snapshot, "it has looked"
        assert not reader.snapshot.is_of(stub)
        assert len(reader.snapshot.features(0)) == len(snapshot.features(0)) > 0
    assert check_collection(folder).problems == (), "nothing of the old model came in"


def test_one_writer_at_a_time(folder: Path, other: Any) -> None:
    with (Collection.open(folder) as collection, WriterLock(folder),
          pytest.raises(CollectionError, match="being written")):
        collection.renew(other)
    assert hidden(folder) == []


# --- cut short


def test_ctrl_c_keeps_what_is_done(folder: Path, stub: Any, make_stub: Any, tmp_path: Path) -> None:
    named = {"name": "other", "fingerprint": "ffee"}
    with Collection.open(folder) as collection:
        report = collection.renew(make_stub(interrupt_after=3, **named), images_per_segment=2)
        assert (report.interrupted, report.added) == (True, 3)
        assert collection.about["model"]["name"] == "stub"
        assert collection.bytes_by_kind()["renewal"] > 1000
    assert_old(folder, stub)
    again = make_stub(**named)
    with Collection.open(folder) as collection:
        report = collection.renew(again, images_per_segment=2)
        assert (report.added, report.unchanged + report.duplicates, again.extracted) == (2, 4, 2)
    assert_renewed(folder, again, tmp_path)


def test_the_collection_may_change_meanwhile(folder: Path, stub: Any, make_stub: Any, draw: Draw,
                                             tmp_path: Path) -> None:
    named = {"name": "other", "fingerprint": "ffee"}
    with Collection.open(folder, stub) as collection:
        assert collection.renew(make_stub(interrupt_after=3, **named)).interrupted
        collection.remove(tmp_path / "in/0.png")
        (tmp_path / "in/0.png").unlink()
        (tmp_path / "in/1.png").rename(tmp_path / "in/moved.png")
        draw("in/2.png", 97)
        draw("in/new.png", 96)
        assert collection.add(tmp_path / "in", prune=True).moved == 1
        assert len(hidden(folder)) == 1, "that is no leftover"
        again = make_stub(**named)
        assert not collection.renew(again).interrupted
        assert again.extracted == 4, "the moved one was done"
    assert_renewed(folder, again, tmp_path)


def test_another_renewal_takes_the_place_of_one_that_was_left_off(folder: Path, make_stub: Any, other: Any,
                                                                   tmp_path: Path) -> None:
    with Collection.open(folder) as collection:
        collection.renew(make_stub(interrupt_after=3, name="third", fingerprint="3333"))
        (folder / ".renewal-0123456789abcdef").mkdir()  # nobody's: it says nothing
        [begun] = [path for path in hidden(folder) if (path / "catalogue.sqlite").exists()]
        collection.remove(tmp_path / "in/copy of 2.png")
        assert hidden(folder) == [begun]
        collection.renew(other)
    assert hidden(folder) == []


class Cut(BaseException):
    """The power goes."""


def cut_at(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, *, after: bool) -> None:
    """The next call of a function is the last thing that happens, or what comes after it."""
    real = getattr(place, name)

    def cut(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise Cut

    monkeypatch.setattr(place, name, cut)


@pytest.fixture(params=[(step, after) for step in ("move_segments", "take_over", "remove_leftovers")
                        for after in (False, True)], ids=lambda one: f"{'after' if one[1] else 'before'} {one[0]}")
def cut(request: pytest.FixtureRequest, folder: Path, other: Any) -> Iterator[str]:
    """A collection whose renewal was cut short at one of its last steps."""
    step, after = request.param
    with pytest.MonkeyPatch.context() as patch, Collection.open(folder) as collection:
        cut_at(patch, renewal.Catalogue if step == "take_over" else renewal, step, after=after)
        with pytest.raises(Cut):
            collection.renew(other, images_per_segment=2)
    yield "old" if step == "move_segments" or (step, after) == ("take_over", False) else "new"


def test_the_last_step_is_one_step(cut: str, folder: Path, stub: Any, make_stub: Any, tmp_path: Path) -> None:
    again = make_stub(name="other", fingerprint="ffeeddccbbaa99887766")
    if cut == "old":
        assert_old(folder, stub)
    with Collection.open(folder, stub if cut == "old" else again) as collection:
        if cut == "old":
            assert collection.add(tmp_path / "in").unchanged == PHOTOS + 1, "it can be changed as before"
            assert_old(folder, stub)
        collection.renew(again)
        assert again.extracted == 0, "all was done"
    with Collection.open(folder) as collection, collection.writing():
        pass
    assert_renewed(folder, make_stub(name="other", fingerprint="ffeeddccbbaa99887766"), tmp_path)


def test_some_segments_were_moved(folder: Path, stub: Any, other: Any, make_stub: Any, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    rename, moved = Path.rename, []

    def cut(path: Path, target: Path) -> Path:
        if ".renewal-" in str(path) and target.parent == folder / "segments":
            if moved:
                raise Cut
            moved.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", cut)
    with Collection.open(folder) as collection, pytest.raises(Cut):
        collection.renew(other, images_per_segment=2)
    monkeypatch.undo()
    assert moved[0].is_dir()
    assert_old(folder, stub)
    with Collection.open(folder) as collection:
        collection.renew(make_stub(name=other.name, fingerprint=other.fingerprint))
    assert_renewed(folder, other, tmp_path)


def test_a_full_disk(folder: Path, stub: Any, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("delf.collection.arrays.flush", full)
    with Collection.open(folder) as collection, pytest.raises(CollectionError, match="No space left on device"):
        collection.renew(other)
    monkeypatch.undo()
    assert_old(folder, stub)
    with Collection.open(folder) as collection:
        collection.renew(other)
    assert_renewed(folder, other, tmp_path)


def test_one_that_is_damaged_is_told(folder: Path, stub: Any, make_stub: Any) -> None:
    with Collection.open(folder) as collection:
        collection.renew(make_stub(interrupt_after=3, name="other", fingerprint="ffee"))
        [begun] = hidden(folder)
        next(begun.glob("segments/*/scores.npy")).unlink()
        with pytest.raises(CollectionError, match=r"scores.npy .*is not touched: delete .*\.renewal-\w+ to begin anew"):
            collection.renew(make_stub(name="other", fingerprint="ffee"))
        (begun / "catalogue.sqlite").write_bytes(b"nonsense")
        with collection.writing():
            pass
    assert_old(folder, stub)


# --- real photos


@pytest.fixture
def few(photos: Path, tmp_path: Path) -> Path:
    """A folder of four photos of two things, and a copy of one."""
    (tmp_path / "few").mkdir()
    for name in ("coffee", "coffee-side", "rocket", "rocket-side"):
        shutil.copy(photos / f"{name}.jpg", tmp_path / "few")
    shutil.copy(photos / "rocket.jpg", tmp_path / "few/copy.jpg")
    return tmp_path / "few"


def told(answer: SearchResult) -> list[Any]:
    """What an answer says."""
    return [answer.match, *((one.key, one.score, one.inliers, one.probability, one.files) for one in answer.results)]


def test_it_answers_as_one_made_by_the_new_model(few: Path, extractor: Delf, queries: Any, tmp_path: Path) -> None:
    old = extractor.changed(scales=(0.5, 1.0), max_features=100)
    new = old.changed(dimensions=64, max_features=150)
    queried = [queries["coffee"].path, queries["rocket"].path]

    def answers(engine: SearchEngine) -> list[list[Any]]:
        return [told(engine.search(query)) for query in queried]

    with Collection.create(tmp_path / "places.delf", old) as collection:
        collection.add(few, images_per_segment=2)
        build_index(collection)
        engine = SearchEngine(collection, old)
        before = answers(engine)
        with Collection.open(tmp_path / "places.delf") as writer:
            writer.renew(new)
            build_index(writer)
            after = answers(SearchEngine(writer, new))
        for _ in range(2):
            with pytest.raises(CollectionError, match=r"places.delf was renewed with another model \(delf-r18\) or with"
                                                      r" .* Make a new engine, SearchEngine\(collection\), to search"):
                engine.refresh()
        assert answers(engine) == before
        assert [told(SearchEngine(collection, new).search(queried[0]))] == after[:1]
    with Collection.create(tmp_path / "fresh.delf", new) as fresh:
        fresh.add(few)
        build_index(fresh)
        assert answers(SearchEngine(fresh, new)) == after
    assert [answer[0] for answer in after] == [True, True]


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Path, int], int]]:
    """Renews a collection in a process that is killed before a step; how it ended."""
    actor = subprocess.Popen([sys.executable, str(ACTORS), "renew"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    assert actor.stdin
    assert actor.stdout
    with actor, actor.stdin as orders, actor.stdout as answers:
        def renew(folder: Path, step: int) -> int:
            print(folder, step, file=orders, flush=True)
            return int(answers.readline())

        yield renew
        orders.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_it_is_whole_and_goes_on(few: Path, tmp_path: Path,
                                                    killed: Callable[[Path, int], int]) -> None:
    old = Delf.load(runtime="onnx", threads=1, max_features=60, max_image_size=112)  # those of the actor
    new = old.changed(dimensions=32)
    with (Collection.create(tmp_path / "places.delf", old) as collection,
          Collection.create(tmp_path / "fresh.delf", new) as fresh):
        collection.add(few, images_per_segment=2)
        fresh.add(few)
        before, after = content(collection), content(fresh)
    done = []
    for step in itertools.count(0, KILLED_EACH):
        folder = Path(shutil.copytree(tmp_path / "places.delf", tmp_path / f"{step}.delf"))
        ended = killed(folder, step)
        assert ended in (0, -signal.SIGKILL)
        assert check_collection(folder).problems == ()
        with Collection.open(folder) as collection:
            is_new = collection.snapshot.is_of(new)
            assert content(collection) == (after if is_new else before), "it is whole"
            report = collection.renew(new, images_per_segment=2)
            assert report.added + report.unchanged + report.duplicates == 5
            done.append((is_new, report.unchanged))
            with collection.writing():  # what is left over goes with the next change
                pass
            assert content(collection) == after
            assert {path.name for path in (folder / "segments").iterdir()} == {
                one.folder.name for one in collection.segments}
        assert hidden(folder) == []
        shutil.rmtree(folder)
        if ended == 0:
            break
    assert done[0] == (False, 0)
    assert {is_new for is_new, _ in done} == {False, True}
    assert len({unchanged for _, unchanged in done}) >= 3, f"killed in different parts: {done}"


# --- what would be lost


def test_photos_that_are_gone_are_not_lost(folder: Path, stub: Any, other: Any, make_stub: Any, draw: Draw,
                                           tmp_path: Path) -> None:
    (tmp_path / "in/0.png").unlink()
    (tmp_path / "in/1.png").write_bytes(b"no photo any more")
    (tmp_path / "in/copy of 2.png").unlink()
    with Collection.open(folder) as collection:
        with pytest.raises(CollectionError) as told:
            collection.renew(other)
        assert str(told.value) == (
            f"{folder} was not renewed, since 2 of its photos would be lost. {tmp_path / 'in/0.png'} is gone; put it "
            f"back, or say --prune to forget it. {tmp_path / 'in/1.png'} cannot be read any more; mend it, or take "
            "it out with 'delf remove'. What was done is kept: the same command goes on from there, and "
            "until then the collection stays as it was")
        assert_old(folder, stub)
        with pytest.raises(CollectionError, match="1 of its photos would be lost"):
            collection.renew(other, prune=True)
        collection.remove(tmp_path / "in/1.png")
        again = make_stub(name=other.name, fingerprint=other.fingerprint)
        report = collection.renew(again, prune=True)
        assert (report.pruned, again.extracted, len(collection)) == (1, 0, 3)
        assert collection.files() == 4, "a copy that is gone is known as before"
    draw("in/0.png", 0)
    draw("in/1.png", 1)
    shutil.copy(tmp_path / "in/2.png", tmp_path / "in/copy of 2.png")
    with Collection.open(folder, other) as collection:
        collection.add(tmp_path / "in")
    assert_renewed(folder, other, tmp_path)


def test_a_disk_that_is_not_there_is_not_pruned(folder: Path, stub: Any, other: Any, tmp_path: Path) -> None:
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    (tmp_path / "in").mkdir()
    with Collection.open(folder) as collection:
        with pytest.raises(CollectionError, match=r"6 of its photos would be lost.*in/0.png, .* and 3 more are gone; "
                                                  "put them back, or take them out with 'delf remove': nothing is"):
            collection.renew(other, prune=True)
        assert_old(folder, stub)
        (tmp_path / "in").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "in")
        collection.renew(other)
    assert_renewed(folder, other, tmp_path)


def test_a_name_that_is_no_text(folder: Path, other: Any, stub: Any, tmp_path: Path) -> None:
    strange = os.fsencode(tmp_path / "in") + b"/\xff.png"
    shutil.copy(tmp_path / "in/0.png", strange)
    (tmp_path / "in/0.png").unlink()
    with Collection.open(folder, stub) as collection:
        collection.add(tmp_path / "in", prune=True)
        Path(os.fsdecode(strange)).unlink()
        with pytest.raises(CollectionError) as told:
            collection.renew(other)
        assert display_path(strange) in str(told.value)


# --- what may be mixed


def test_the_command_is_told(folder: Path, make_stub: Any, other: Any) -> None:
    def told(extractor: Any) -> str:
        with pytest.raises(CollectionError) as error:
            Collection.open(folder, extractor)
        return str(error.value)

    command = f"'delf index -o {folder} --renew --extractor MODULE:FACTORY"
    assert ("by --model stub (searches find a packaged one by themselves), or by --extractor where it is one of your "
            f"own, or renew the collection with the other one: {command} --dimensions 16 --max-features 20', or "
            "Collection.renew in Python") in told(other)
    assert "by --model with its file, or renew" in told(make_stub(fingerprint="ffee"))
    assert f"(now 9); use those, or renew the collection: {command} --dimensions 16 --max-features 9'" in told(
        make_stub(options=SimpleNamespace(dimensions=16, max_features=9)))
