"""A collection kept as its folders are."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import AddReport, Collection
from delf.collection.lock import WriterLock
from delf.errors import BeingWrittenError, ImageError
from delf.images import find_images, is_walked
from delf.watching import watch

pytest.importorskip("watchfiles", reason="needs watchfiles, which a plain install has")
Draw = Callable[..., Path]


class Watcher:
    """Watches in a thread; what was done and told is listed."""

    def __init__(self, collection: Collection, photos: list[Path], **options: Any) -> None:
        self.reports: list[AddReport] = []
        self.told: list[str] = []
        self._stop = threading.Event()
        self._collection = collection
        self._thread = threading.Thread(target=self._run, args=(photos, options))
        self._thread.start()

    def _run(self, photos: list[Path], options: dict[str, Any]) -> None:
        for report in watch(self._collection, photos, stop=self._stop, told=self.told.append, **options):
            self.reports.append(report)

    def until(self, condition: Callable[[], bool]) -> None:
        """What is seen in the collection is reported a little later."""
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end and self._thread.is_alive(), (self.reports, self.told)
            time.sleep(0.02)

    def until_there(self, *names: str) -> None:
        """Wait until the collection has these photos and no others."""
        self.until(lambda: sorted(photo.path.rpartition("/")[2] for photo in self._collection) == sorted(names))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def watched(tmp_path: Path, make_stub: Any) -> Iterator[Callable[..., Watcher]]:
    started: list[Watcher] = []
    collection = Collection.create(tmp_path / "places.delf", make_stub())

    def start(*photos: Path, **options: Any) -> Watcher:
        started.append(Watcher(collection, list(photos), **options))
        started[-1].until(lambda: bool(started[-1].reports))
        return started[-1]

    yield start
    for one in started:
        one.stop()
    collection.close()


def test_photos_come_change_move_and_go(watched: Any, draw: Draw, tmp_path: Path) -> None:
    folder = draw("photos/a.png", 1).parent
    one = watched(folder, exclude=["*.gif", "private/old"])
    one.until_there("a.png")
    draw("photos/new/b.png", 2)
    one.until_there("a.png", "b.png")
    key = one._collection[folder / "a.png"].key
    draw("photos/a.png", 3)
    one.until(lambda: key not in one._collection)  # a path is asked of the catalogue, which may be ahead
    one.until_there("a.png", "b.png")
    (folder / "new/b.png").rename(folder / "c.png")
    one.until_there("a.png", "c.png")
    one.until(lambda: sum(report.moved for report in one.reports) == 1)  # known again, and not computed anew
    for name in ("photos/x.gif", "photos/@eaDir/t.png", "photos/.h.png", "photos/private/old/p.png", "photos/n.txt"):
        draw(name, 9)
    draw("photos/d.png", 4)
    one.until_there("a.png", "c.png", "d.png")
    shutil.rmtree(folder / "new")
    (folder / "c.png").unlink()
    one.until_there("a.png", "d.png")


def test_a_folder_that_vanishes_loses_nothing(watched: Any, draw: Draw, tmp_path: Path) -> None:
    folder = draw("photos/a.png", 1).parent
    draw("beside/b.png", 2)
    one = watched(folder, tmp_path / "beside")
    one.until_there("a.png", "b.png")
    folder.rename(tmp_path / "elsewhere")
    one.until(lambda: any("is not there any more: its photos are kept" in sentence for sentence in one.told))
    draw("beside/c.png", 3)
    one.until_there("a.png", "b.png", "c.png")
    draw("elsewhere/d.png", 4)
    (tmp_path / "elsewhere").rename(folder)
    one.until_there("a.png", "b.png", "c.png", "d.png")
    assert any("is there again" in sentence for sentence in one.told)


def test_another_writer_is_waited_for(watched: Any, draw: Draw, tmp_path: Path) -> None:
    folder = draw("photos/a.png", 1).parent
    one = watched(folder)
    with WriterLock(tmp_path / "places.delf"):
        draw("photos/b.png", 2)
        one.until(lambda: any("is looked at again when that is done" in sentence for sentence in one.told))
    one.until_there("a.png", "b.png")


def test_a_writer_that_was_there_first_is_waited_for(draw: Draw, tmp_path: Path, make_stub: Any) -> None:
    """As where a folder is opened twice: the second process goes on when the first has ended."""
    with Collection.create(tmp_path / "places.delf", make_stub()) as collection:
        with WriterLock(tmp_path / "places.delf"):
            one = Watcher(collection, [draw("photos/a.png", 1).parent])
            one.until(lambda: any("is looked at again when that is done" in sentence for sentence in one.told))
        one.until_there("a.png")
        one.stop()


def test_the_index_is_built_before_anybody_else_writes(watched: Any, draw: Draw, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def building(collection: Collection) -> None:
        with pytest.raises(BeingWrittenError), WriterLock(collection.folder):
            pass
        built.append(len(collection))

    monkeypatch.setattr("delf.watching.build_index", building)
    one = watched(draw("photos/a.png", 1).parent)
    draw("photos/b.png", 2)
    one.until(lambda: built == [1, 2])


def test_what_was_never_there_is_told(tmp_path: Path, make_stub: Any, draw: Draw) -> None:
    with Collection.create(tmp_path / "places.delf", make_stub()) as collection, \
            pytest.raises(ImageError, match="no file or folder"):
        next(watch(collection, [draw("photos/a.png", 1).parent, tmp_path / "no"]))


def test_a_path_is_walked_where_the_walk_comes_to_it(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "in.delf").mkdir()
    (tmp_path / "in.delf/catalogue.sqlite").touch()
    paths = [draw(name, 1) for name in (
        "a.png", "b/c.png", ".d/e.png", "@eaDir/f.png", "in.delf/g.png", "out.delf/h.png", "b/k.gif", "old/l.png",
        "x.photoslibrary/originals/i.png", "x.photoslibrary/resources/j.png")]
    for exclude in ([], ["*.gif"], ["old"], [f"{tmp_path}/b/c.*"]):
        walked = set(find_images([tmp_path], exclude=exclude))
        assert {path for path in paths if is_walked(path, tmp_path, exclude)} == walked & set(paths)


def test_videos_come_and_go(watched: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from filming import Shot, film

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.txt").touch()
    one = watched(folder)
    picture = np.kron(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    film(tmp_path / "v.mp4", [Shot(picture, 1, 0.0)], size=(80, 60)).rename(folder / "v.mp4")
    one.until_there("v.mp4#t=0.000")
    (folder / "v.mp4").rename(folder / "w.mp4")
    one.until_there("w.mp4#t=0.000")
    (folder / "w.mp4").unlink()
    one.until_there()
