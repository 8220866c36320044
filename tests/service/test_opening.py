"""`delf open`: photos are indexed while the service answers, and it says how far that is."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection
from delf.service.app import create_app
from delf.service.indexing import Indexing
from delf.service.library import Library
from delf.service.options import ServiceOptions

pytest.importorskip("watchfiles", reason="needs watchfiles, which a plain install has")


@pytest.fixture
def pictures(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """A folder of five pictures and a file that is none."""
    for number in range(5):
        draw(f"pictures/{number}.png", number)
    (tmp_path / "pictures/bad.jpg").write_bytes(b"no picture")
    return tmp_path / "pictures"


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is to become true."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def test_photos_appear_while_the_service_answers(hosted: Any, pictures: Path, tmp_path: Path, make_stub: Any) -> None:
    place, stub, told = tmp_path / "places.delf", make_stub(), []
    Collection.create(place, stub).close()
    library = Library(place, stub, ["global"])
    indexing = Indexing(place, stub, [pictures], changed=library.refresh, told=told.append)
    one = hosted(create_app(library, ServiceOptions(), indexing))
    one.until(lambda: not one.http.get("/api/v1/work").json()["running"])
    now = one.http.get("/api/v1/work").json()
    assert (now["done"], now["total"], now["sentence"]) == (6, 6, "5 photos added, 1 could not be read.")
    assert [re.search("bad.jpg", sentence) is not None for sentence in now["skipped"]] == [True]
    assert one.http.get("/api/v1/images").json()["total"] == 5
    assert told == [now["sentence"]]


def test_it_is_stopped_between_two_photos_and_goes_on(pictures: Path, tmp_path: Path, make_stub: Any) -> None:
    place, reached, go = tmp_path / "places.delf", threading.Event(), threading.Event()

    class Slow(make_stub):  # type: ignore[misc]
        def extract(self, image: Any, **options: Any) -> Any:
            if self.extracted == 3:
                reached.set()
                go.wait(30)
            return super().extract(image, **options)

    Collection.create(place, Slow()).close()
    first = Indexing(place, Slow(), [pictures])
    first.start()
    assert reached.wait(30)
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    while not first._stop.is_set():
        pass
    go.set()
    stopping.join(30)
    assert (first.progress.running, first.progress.sentence[:9]) == (False, "Stopped: ")
    with Collection.open(place) as collection:
        assert 0 < len(collection) < 5
    second = Indexing(place, make_stub(), [pictures])
    second.start()
    until(lambda: not second.progress.running)
    second.stop()
    with Collection.open(place) as collection:
        assert len(collection) == 5


def test_what_changes_later_is_seen(hosted: Any, pictures: Path, tmp_path: Path, make_stub: Any, draw: Any) -> None:
    place, stub = tmp_path / "places.delf", make_stub()
    Collection.create(place, stub).close()
    library = Library(place, stub, ["global"])
    one = hosted(create_app(library, ServiceOptions(), Indexing(place, stub, [pictures], changed=library.refresh)))

    def total() -> int:
        return int(one.http.get("/api/v1/images").json()["total"])

    one.until(lambda: total() == 5)
    draw("pictures/new/6.png", 6)
    one.until(lambda: total() == 6)
    (pictures / "0.png").unlink()
    one.until(lambda: total() == 5)
    one.until(lambda: one.http.get("/api/v1/work").json()["sentence"] == "No new photos, 1 gone and forgotten.")


def test_what_goes_wrong_is_told(tmp_path: Path, pictures: Path, make_stub: Any) -> None:
    Collection.create(tmp_path / "places.delf", make_stub()).close()
    shutil.rmtree(pictures)
    indexing = Indexing(tmp_path / "places.delf", make_stub(), [pictures])
    indexing.start()
    until(lambda: not indexing.progress.running)
    assert indexing.progress.sentence.startswith("Indexing ended: ") and "pictures" in indexing.progress.sentence


@pytest.mark.parametrize("again", [False, True])
def test_the_command(again: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture[str]) -> None:
    from delf.cli.opening import open as open_photos

    seen: dict[str, Any] = {}
    opened = threading.Event()

    def serve(library: Any, options: Any, host: str, port: int, *, indexing: Any, started: Any) -> None:
        seen.update(library=library, options=options, indexing=indexing, at=(host, port))
        started("http://127.0.0.1:1234/")
        library.close()

    monkeypatch.setattr("delf.service.server.serve", serve)
    monkeypatch.setattr("webbrowser.open", lambda url: seen.update(url=url) or opened.set())
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"output": None, "port": 0, "browser": True, "extractor": "rootsift", "model": None,
                               "settings": None, "runtime": "auto", "device": "cpu", "threads": 1, "quiet": False}
    open_photos([pictures], **options)
    if again:  # the collection itself: there is nothing to index
        opened.clear()
        open_photos([tmp_path / "pictures.delf"], **options | {"extractor": None})
        assert seen["indexing"] is None
    assert opened.wait(30)
    assert Collection.exists(tmp_path / "pictures.delf")
    assert seen["at"] == ("127.0.0.1", 0), "only this computer may see it"
    assert seen["url"] == f"http://127.0.0.1:1234/#token={seen['options'].token}" and len(seen["options"].token) >= 32
    assert seen["url"] in capsys.readouterr().out
