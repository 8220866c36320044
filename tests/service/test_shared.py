"""Queries that are shared by a link: for how long, how many, and where they are kept."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from delf import Client
from delf.client import ServiceError
from delf.errors import DelfError, OptionError
from delf.service.options import ServiceOptions
from delf.service.problems import Problem
from delf.service.shared import SharedQueries

HOUR = 3600.0


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def key_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["memory", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared" if request.param == "folder" else None


def gone(kept: SharedQueries, data: bytes) -> bool:
    try:
        assert kept.get(key_of(data))[0] == data
    except Problem as problem:
        assert (problem.status, problem.code) == (410, "expired") and "not kept any more" in str(problem)
        return True
    return False


def test_they_are_kept_for_their_time(folder: Path | None) -> None:
    clock = Clock()
    kept = SharedQueries(ServiceOptions(share_seconds=2 * HOUR, share_folder=folder), clock)
    assert kept.keep(b"one") == (key_of(b"one"), clock.now + 2 * HOUR)
    clock.now += HOUR
    kept.keep(b"two")
    assert not gone(kept, b"one")
    clock.now += HOUR
    assert gone(kept, b"one") and not gone(kept, b"two")
    kept.keep(b"two")  # its time begins anew
    clock.now += 1.5 * HOUR
    assert not gone(kept, b"two")
    clock.now += HOUR
    kept.expire()
    assert folder is None or not list(folder.iterdir())
    assert gone(kept, b"two") and gone(kept, b"three")


def test_the_oldest_make_room(folder: Path | None) -> None:
    clock = Clock()
    kept = SharedQueries(ServiceOptions(share_photos=2, share_bytes=10, share_folder=folder), clock)
    for data in (b"aaa", b"bbb", b"ccc"):
        clock.now += 1
        kept.keep(data)
    assert [gone(kept, data) for data in (b"aaa", b"bbb", b"ccc")] == [True, False, False]
    clock.now += 1
    kept.keep(b"d" * 8)
    assert [gone(kept, data) for data in (b"bbb", b"ccc", b"d" * 8)] == [True, True, False]
    with pytest.raises(Problem, match="10 bytes in all") as told:
        kept.keep(b"e" * 11)
    assert told.value.status == 413 and not gone(kept, b"d" * 8)


def test_in_a_folder_they_outlive_the_service_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    key = key_of(b"secret")
    (folder / f"{key}.query").symlink_to(tmp_path / "secret")
    clock = Clock()
    clock.now = time.time()
    kept = SharedQueries(ServiceOptions(share_folder=folder, share_photos=1), clock)
    assert gone(kept, b"secret"), "a link is not followed"
    kept.keep(b"one")
    again = SharedQueries(ServiceOptions(share_folder=folder), clock)
    assert not gone(again, b"one")
    (folder / f"{key_of(b'one')}.query").write_bytes(b"another")
    assert gone(again, b"one"), "it has another content by now"
    for wrong in ("../secret", key[:-1], key + "/", "..", ""):
        with pytest.raises((Problem, ValueError)):
            again.get(wrong)
    clock.now += 30 * 24 * HOUR
    again.expire()
    assert {path.name for path in folder.iterdir()} == {f"{key}.query", "notes.txt"}
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    kept = SharedQueries(ServiceOptions(share_folder=folder))
    folder.rmdir()
    with pytest.raises(Problem, match="cannot be kept for the link") as told:
        kept.keep(b"one")
    assert told.value.status == 507 and gone(kept, b"one")


@pytest.mark.parametrize("wrong", [{"share_seconds": -1.0}, {"share_photos": 0}, {"share_bytes": 0},
                                   {"share_seconds": float("nan")}, {"share_folder": Path("/no/such/folder")},
                                   {"map_tiles": "https://tiles.example/{z}/{x}.png"}, {"map_tiles": "tiles.example"},
                                   {"map_tiles": "https://a.example; script-src *//{z}/{x}/{y}"},
                                   {"map_tiles": "javascript:{z}/{x}/{y}"}])
def test_wrong_options_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ServiceOptions(**wrong)


def test_others_search_with_the_key(stub_service: Any, pictures: Path) -> None:
    one, photo = stub_service(share_seconds=HOUR), pictures / "0.png"
    with Client(one.url) as client:
        shared = client.share(photo)
        assert shared.url == f"{one.url}/?shared={key_of(photo.read_bytes())}" and shared.until.endswith("+00:00")
        ours, theirs = client.search(photo), client.search(shared)
        assert [result.key for result in theirs.results] == [result.key for result in ours.results] != []
        assert client.matches(shared, ours.results[0].key).inliers == client.matches(photo, ours.results[0].key).inliers
    answer = one.http.get(f"/api/v1/shared/{shared.key}").json()
    assert (answer["key"], answer["until"], answer["size"]) == (shared.key, shared.until, [160, 120])
    picture = one.http.get(f"/api/v1/shared/{shared.key}/picture?side=50")
    assert picture.content.startswith(b"\xff\xd8") and picture.headers["cache-control"] == "no-store"
    as_json = one.http.post("/api/v1/search", json={"shared": shared.key, "top": 1})
    assert len(as_json.json()["results"]) == 1
    one.refused(one.http.post("/api/v1/search", json={"shared": shared.key, "id": shared.key}), 422, "option", "either")
    one.refused(one.http.post("/api/v1/search", json={"shared": "x"}), 422, "option", "shared")


def test_what_is_gone_or_not_kept_is_said(stub_service: Any, pictures: Path) -> None:
    one, off = stub_service(share_seconds=0.5 * HOUR), stub_service(share_seconds=0)
    for address in ("f" * 64, f"{'f' * 64}/picture"):
        one.refused(one.http.get(f"/api/v1/shared/{address}"), 410, "expired", "30 minutes", "another one")
        off.refused(off.http.get(f"/api/v1/shared/{address}"), 403, "sharing", "--share-hours")
    one.refused(one.http.post("/api/v1/search", json={"shared": "f" * 64}), 410, "expired")
    one.refused(one.post("shared", b"no photo"), 422, "image")
    one.refused(one.post("shared"), 422, "option")
    off.refused(off.post("shared", pictures / "0.png"), 403, "sharing")
    assert off.http.get("/api/v1/collection").json()["share_seconds"] is None
    with Client(off.url) as client, pytest.raises(ServiceError) as told:
        client.share(pictures / "0.png")
    assert told.value.status == 403 and isinstance(told.value, DelfError)
