"""Adding and removing by way of the service, and changes by others while it runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from delf.cli import main
from delf.collection import Collection
from delf.errors import BeingWrittenError, CollectionError
from delf.service import adding, writing
from delf.service.adding import add_waiting
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.spool import Waiting


def total(served: Any) -> int:
    return int(served.http.get("/api/v1/images").json()["total"])


def key_of(photo: Path) -> str:
    return hashlib.sha256(photo.read_bytes()).hexdigest()


def test_a_photo_is_added_found_and_removed(writable: Any, queries: Any, tmp_path: Path) -> None:
    assert writable.http.get("/api/v1/collection").json()["writable"] is True
    query, key = queries["camera"], key_of(queries["camera"].path)
    address = f"/api/v1/images/{key}"
    writable.refused(writable.http.get(address), 404, "not_found", f"has no image {key}")
    response = writable.post("images", query.path)
    assert (response.status_code, response.json()) == (201, {"id": key, "key": key, "added": True})
    best = writable.search(query.path, top=2)["results"][0]
    assert (best["id"], best["size"]) == (key, writable.http.get(address).json()["size"])
    assert total(writable) == 13
    assert writable.http.get(f"{address}/thumbnail").status_code == 200
    [stored] = (tmp_path / "uploads").iterdir()

    said = '{"album": "space", "tags": ["sea"]}'
    assert writable.post("images", query.path, metadata=said).status_code == 200
    listed = writable.http.get("/api/v1/images", params={"where": "album = space"}).json()["images"]
    assert [(one["key"], one["metadata"]) for one in listed] == [(key, {"album": "space", "tags": ["sea"]})]
    writable.refused(writable.post("images", query.path, metadata="[1]"), 422, "option", "a JSON object")
    writable.refused(writable.post("images", query.path, metadata="{"), 422, "option", "a JSON object")
    writable.refused(writable.post("images", query.path, metadata=f'"{"x" * 70_000}"'), 400, "form", "longer than")

    again = writable.post("images", query.path)
    assert (again.status_code, again.json()) == (200, {"id": key, "key": key, "added": False})

    assert writable.http.delete(address).status_code == 204
    assert not stored.exists()
    for response in (writable.http.get(address), writable.http.get(f"{address}/thumbnail"),
                     writable.http.delete(address), writable.post("search", id=key)):
        writable.refused(response, 410, "removed", f"the image {key} was removed")
    assert key not in [one["id"] for one in writable.search(query.path)["results"]]
    assert key not in [one["id"] for one in writable.http.get("/api/v1/images").json()["images"]]

    response = writable.post("images", query.path)
    assert (response.status_code, response.json()["added"]) == (201, True), "its features were kept"
    assert writable.search(query.path, top=1)["results"][0]["id"] == key


def test_photos_of_the_user_are_left_alone(writable: Any, keys: dict[str, str], photos: Path, extractor: Any,
                                           tmp_path: Path) -> None:
    key = keys["cat.jpg"]
    assert writable.post("images", photos / "cat.jpg").json() == {"id": key, "key": key, "added": False}
    for name in ("copy.jpg", "gone.jpg"):
        shutil.copy(photos / "cat.jpg", tmp_path / name)
    with Collection.open(tmp_path / "places.delf", extractor) as opened:
        assert opened.add([tmp_path / "copy.jpg", tmp_path / "gone.jpg"]).duplicates == 2
    (tmp_path / "gone.jpg").unlink()
    copies = {str(photos / "cat.jpg"), str(tmp_path / "copy.jpg")}
    assert set(writable.http.get(f"/api/v1/images/{key}").json()["files"]) == copies
    assert writable.http.delete(f"/api/v1/images/{key}").status_code == 204
    assert total(writable) == 11, "with all of its files, also the one that is gone"
    writable.refused(writable.http.get(f"/api/v1/images/{key}"), 410, "removed")
    assert (photos / "cat.jpg").is_file() and (tmp_path / "copy.jpg").is_file()


def test_changes_of_another_process_are_seen(writable: Any, queries: Any, keys: dict[str, str], extractor: Any,
                                             tmp_path: Path) -> None:
    camera = queries["camera"].path
    with Collection.open(tmp_path / "places.delf", extractor) as opened:
        opened.add([camera])
    writable.until(lambda: total(writable) == 13)
    assert writable.search(id=key_of(camera), top=1)["match"] is True
    done = subprocess.run([sys.executable, "-m", "delf", "remove", tmp_path / "places.delf", camera],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    writable.until(lambda: total(writable) == 12)
    assert writable.search(queries["coffee"].path, top=1)["match"] is True


def test_an_address_means_the_same_photo_for_ever(writable: Any, keys: dict[str, str], photos: Path,
                                                  extractor: Any, tmp_path: Path) -> None:
    """Whatever is removed, merged and added: it shows that photo, or says that it is gone."""
    def thumbnails() -> dict[str, bytes]:
        found = {key: writable.http.get(f"/api/v1/images/{key}/thumbnail?side=32") for key in keys.values()}
        assert {one.status_code for one in found.values()} <= {200, 404, 410}
        return {key: one.content for key, one in found.items() if one.status_code == 200}

    before = thumbnails()
    first, last = sorted(keys.values())[0], sorted(keys.values())[4]
    page = writable.http.get("/api/v1/images", params={"limit": 5}).json()
    assert page["next"] == last
    for key in (first, last):
        assert writable.http.delete(f"/api/v1/images/{key}").status_code == 204
    with Collection.open(tmp_path / "places.delf", extractor) as opened:
        opened.compact()
    writable.until(lambda: writable.http.get(f"/api/v1/images/{first}").status_code == 404)
    rest = writable.http.get("/api/v1/images", params={"after": page["next"]}).json()
    assert [one["key"] for one in rest["images"]] == sorted(keys.values())[5:], "none is missed, and none comes twice"
    now = thumbnails()
    assert now == {key: data for key, data in before.items() if key not in (first, last)}
    writable.refused(writable.http.delete(f"/api/v1/images/{first}"), 404, "not_found")
    assert len(thumbnails()) == 10


def test_one_writes_at_a_time(writable: Any, draw: Any, queries: Any, keys: dict[str, str], tmp_path: Path) -> None:
    with Collection.open(tmp_path / "places.delf") as collection, collection.writing():
        writable.refused(writable.post("images", queries["camera"].path), 409, "collection", "is being written by")
        writable.refused(writable.http.delete(f"/api/v1/images/{keys['cat.jpg']}"), 409, "collection",
                         "is being written by")
        assert writable.search(queries["coffee"].path)["match"] is True, "readers do not mind"
    assert list((tmp_path / "uploads").iterdir()) == []

    def add(path: Path) -> str:
        response = writable.post("images", path)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def search(_: int) -> bool:
        return bool(writable.search(queries["coffee"].path, top=1)["match"])

    drawn = [draw(f"{number}.png", number, (160, 120)) for number in range(5)]
    with ThreadPoolExecutor(4) as pool:
        found, added = pool.map(search, range(6)), pool.map(add, drawn)
        assert list(added) == [key_of(path) for path in drawn]
        assert all(found)
    assert total(writable) == 17


def test_a_token_without_a_folder_takes_no_photos(hosted_on: Any, copied: Any, token: str, photos: Path,
                                                  keys: dict[str, str], tmp_path: Path) -> None:
    one = hosted_on(copied(tmp_path), token=token)
    headers = {"Authorization": f"Bearer {token}"}
    one.refused(one.post("images", photos / "cell.jpg", headers), 403, "read_only", "--uploads")
    assert one.http.delete(f"/api/v1/images/{keys['cat.jpg']}", headers=headers).status_code == 204
    assert one.http.get("/api/v1/collection").json()["writable"] is False
    one.stop()


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["nowhere.delf"], 1, ["is not a collection"]),
    (["PLACES", "--token", "short"], 2, ["at least 16 characters"]),
    (["PLACES", "--uploads", "."], 2, ["without a token"]),
    (["PLACES", "--uploads", "missing", "--token", "0123456789abcdef"], 2, ["'missing'", "make it first"]),
    (["PLACES", "--host", "192.0.2.1"], 1, ["cannot listen at 192.0.2.1", "--host"]),
    (["PLACES", "--host", "no such name"], 1, ["cannot listen"]),
    (["PLACES", "--port", "TAKEN"], 1, ["is the port taken"]),
])
def test_what_keeps_it_from_starting(service: Any, collection: Any, tmp_path: Path, arguments: list[str], code: int,
                                     words: list[str], monkeypatch: pytest.MonkeyPatch,
                                     capfd: pytest.CaptureFixture[str]) -> None:
    values = {"PLACES": str(collection.folder), "TAKEN": service.url.rpartition(":")[2]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["delf", "serve", *(values.get(one, one) for one in arguments)])
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: pytest.fail("it has started"))
    with pytest.raises(SystemExit) as end:
        main()
    said = capfd.readouterr()
    assert (end.value.code, said.out) == (code, "")
    assert said.err.startswith("delf: ") and "Traceback" not in said.err
    for word in words:
        assert word in said.err


@pytest.fixture
def shelf(stub: Any, tmp_path: Path) -> tuple[Library, ServiceOptions]:
    """An empty collection whose features cost nothing, and a folder for uploads; no service."""
    Collection.create(tmp_path / "shelf.delf", stub).close()
    (tmp_path / "shelf").mkdir()
    return Library(tmp_path / "shelf.delf", stub, ["delf"]), ServiceOptions(token=16 * "t", uploads=tmp_path / "shelf")


def _sent(path: Path, name: str) -> Waiting:
    return Waiting(1, Path(shutil.copy(path, path.with_name(name))), path.stat().st_size)


def _add(shelf: tuple[Library, ServiceOptions], photo: Path, many: bool) -> Any:
    if many:
        return add_waiting(*shelf, [_sent(photo, "sent")], {"album": "Rome"}, lambda done: True)
    return writing.add(*shelf, photo.read_bytes(), {"album": "Rome"})


def _shown(shelf: tuple[Library, ServiceOptions]) -> list[Any]:
    snapshot = shelf[0].state.snapshot
    return [snapshot.image(ordinal) for ordinal in range(len(snapshot.alive)) if snapshot.alive[ordinal]]


@pytest.mark.parametrize("many", [False, True])
def test_nobody_else_writes_between_the_steps_of_adding(shelf: Any, many: bool, draw: Any, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def building(collection: Collection) -> None:
        with pytest.raises(BeingWrittenError), Collection.open(tmp_path / "shelf.delf") as other:
            other.remove(tmp_path / "shelf")
        tried.append(collection.folder)

    monkeypatch.setattr(adding if many else writing, "build_index", building)
    _add(shelf, draw("a.png", 1), many)
    assert tried
    assert [photo.metadata for photo in _shown(shelf)] == [{"album": "Rome"}]


@pytest.mark.parametrize("many", [False, True])
def test_what_fails_later_leaves_the_file_of_a_photo_that_was_added(shelf: Any, many: bool, draw: Any,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise CollectionError("the disk is full")

    photo = draw("a.png", 1)
    with monkeypatch.context() as patch, pytest.raises(CollectionError, match="the disk is full"):
        if many:  # at the latest possible moment of adding itself
            patch.setattr(Collection, "_merge_newest", full)
        patch.setattr(writing, "build_index", full)
        _add(shelf, photo, many)
    shelf[0].reload()
    [there] = _shown(shelf)
    assert there.file.read_bytes() == photo.read_bytes()
    _add(shelf, photo, many)
    shelf[0].reload()
    assert [one.metadata for one in _shown(shelf)] == [{"album": "Rome"}]


@pytest.mark.parametrize("many", [False, True])
def test_a_photo_whose_file_is_gone_is_stored_again(shelf: Any, many: bool, draw: Any, tmp_path: Path) -> None:
    photo = draw("in/a.png", 1)
    with Collection.open(tmp_path / "shelf.delf", shelf[0].extractor) as collection:
        collection.add(photo)
    sent = Path(shutil.copy(photo, tmp_path / "kept.png"))
    photo.unlink()
    added = _add(shelf, sent, many)
    assert added[0].added is False if many else added == (key_of(sent), False)
    [there] = _shown(shelf)
    assert there.file.parent == tmp_path / "shelf"
    assert there.file.read_bytes() == sent.read_bytes()
    _add(shelf, sent, many)
    assert len(list((tmp_path / "shelf").iterdir())) == 1
