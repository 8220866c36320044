"""The files of photos as they are, in an order, and shown in their folder; for whom they are meant."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from delf import Client
from delf.service.originals import kind_of


@pytest.fixture(scope="module")
def local(stub_service: Any) -> Any:
    return stub_service(local=True)


def key_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_original_is_the_very_file(local: Any, pictures: Path) -> None:
    file = pictures / "1.png"
    response = local.http.get(f"/api/v1/images/{key_of(file)}/original")
    assert response.content == file.read_bytes()
    assert response.headers["content-type"] == "image/png"
    assert 'filename="1.png"' in response.headers["content-disposition"]
    assert response.headers["x-content-type-options"] == "nosniff"
    with Client(local.url) as client:
        assert client.original(key_of(file)) == file.read_bytes()
    local.refused(local.http.get(f"/api/v1/images/{'0' * 64}/original"), 404, "not_found", "no image")


@pytest.mark.parametrize(("asked", "status"), [
    ("bytes=0-9", 206), ("bytes=-5", 206), ("bytes=0-0, 2-3", 206), ("bytes=5-" + "9" * 400, 200), ("bytes=9-2", 200),
    ("bytes=abc", 200), ("items=0-1", 200), ("bytes=--1", 200), ("bytes=99999999-", 416), ("bytes=-0", 416)])
def test_a_part_of_an_original(local: Any, pictures: Path, asked: str, status: int) -> None:
    """What is no range is passed over; a range that the file does not have is refused as everything else is."""
    file = pictures / "1.png"
    response = local.http.get(f"/api/v1/images/{key_of(file)}/original", headers={"Range": asked})
    assert response.status_code == status, response.text
    if status == 200:
        assert response.content == file.read_bytes()
    if status == 416:
        local.refused(response, 416, "range", "none of those")
        assert response.headers["content-range"] == f"bytes */{file.stat().st_size}"
    assert local.http.head(f"/api/v1/images/{key_of(file)}/original", headers={"Range": asked}).status_code == status


def test_who_may_ask_from_elsewhere_gets_new_pictures_only(stub_service: Any, pictures: Path) -> None:
    one, key = stub_service(), key_of(pictures / "0.png")
    about = one.http.get("/api/v1/collection").json()
    assert (about["originals"], about["local"]) == (False, False)
    one.refused(one.http.get(f"/api/v1/images/{key}/original"), 403, "originals", "--originals")
    one.refused(one.http.post(f"/api/v1/images/{key}/folder"), 403, "not_local", "from other computers")
    assert stub_service(originals=True).http.get(f"/api/v1/images/{key}/original").status_code == 200


def test_a_photo_is_shown_in_its_folder(local: Any, stub_service: Any, pictures: Path, tmp_path: Path, token: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    seen, program = tmp_path / "seen", tmp_path / "xdg-open"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path / "part"} && mv {tmp_path / "part"} {seen}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("sys.platform", "linux")
    address = f"/api/v1/images/{key_of(pictures / '2.png')}/folder"
    assert local.http.post(address).status_code == 204
    local.until(seen.exists)
    assert seen.read_text() == f"{pictures}\n"
    local.refused(local.http.post(address, headers={"Origin": "http://elsewhere.example"}), 403, "origin")
    guarded = stub_service(local=True, token=token)
    guarded.refused(guarded.http.post(address), 401, "token")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    local.refused(local.http.post(address), 501, "no_program", "xdg-open", str(pictures))


def test_a_browser_is_told_images_only() -> None:
    kinds = {b"\xff\xd8\xff\xe0": "image/jpeg", b"RIFF\1\2\3\4WEBPVP8 ": "image/webp", b"GIF89a": "image/gif",
             b"\0\0\0\x18ftypheic": "image/heic", b"\0\0\0\x18ftypavif": "image/avif", b"II*\0": "image/tiff",
             b"<html><script>": "application/octet-stream", b"<svg": "application/octet-stream"}
    assert {start: kind_of(start) for start in kinds} == kinds


def test_photos_are_listed_in_an_order_from_any_place(local: Any) -> None:
    listed = local.http.get("/api/v1/images", params={"order": "name", "offset": 1, "limit": 1}).json()
    assert (listed["total"], listed["next"]) == (3, None)
    assert [one["name"] for one in listed["images"]] == ["1.png"]
    assert local.http.get("/api/v1/images", params={"order": "name", "offset": 9}).json()["images"] == []
    some = local.http.get("/api/v1/images/sections", params={"order": "folder", "where": "name != 0.png"}).json()
    assert (some["total"], [one["count"] for one in some["sections"]]) == (2, [2])
    local.refused(local.http.get("/api/v1/images", params={"offset": 1}), 422, "option", "give an 'order'")
    both = local.http.get("/api/v1/images", params={"order": "name", "after": "0" * 64})
    local.refused(both, 422, "option", "offset")
    local.refused(local.http.get("/api/v1/images", params={"order": "size"}), 422, "option", "newest")
    local.refused(local.http.get("/api/v1/images/sections", params={"where": "x"}), 422, "option", "not understood")
    with Client(local.url) as client:
        assert [one.name for one in client.images(order="name")] == ["0.png", "1.png", "2.png"]
        assert [(one.start, one.count) for one in client.sections("name")] == [(0, 3)]
