"""Adding and removing by way of the service, and changes by others while it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from delf.collection import Collection


def total(served: Any) -> int:
    return int(served.http.get("/api/v1/images").json()["total"])


def test_a_photo_is_added_found_and_removed(writable: Any, queries: Any, tmp_path: Path) -> None:
    assert writable.http.get("/api/v1/collection").json()["writable"] is True
    query = queries["camera"]
    response = writable.post("images", query.path)
    assert (response.status_code, response.json()) == (201, {"id": 12, "added": True})
    best = writable.search(query.path, top=2)["results"][0]
    assert (best["id"], best["size"]) == (12, writable.http.get("/api/v1/images/12").json()["size"])
    assert total(writable) == 13
    assert writable.http.get("/api/v1/images/12/thumbnail").status_code == 200
    [stored] = (tmp_path / "uploads").iterdir()

    again = writable.post("images", query.path)
    assert (again.status_code, again.json()) == (200, {"id": 12, "added": False})

    assert writable.http.delete("/api/v1/images/12").status_code == 204
    assert not stored.exists()
    writable.refused(writable.http.get("/api/v1/images/12"), 404, "not_found")
    writable.refused(writable.http.delete("/api/v1/images/12"), 404, "not_found", "has no image 12")
    assert 12 not in [one["id"] for one in writable.search(query.path)["results"]]

    response = writable.post("images", query.path)
    assert (response.status_code, response.json()) == (201, {"id": 12, "added": True}), "its features were kept"
    assert writable.search(query.path, top=1)["results"][0]["id"] == 12


def test_photos_of_the_user_are_left_alone(writable: Any, collection: Any, photos: Path, extractor: Any,
                                           tmp_path: Path) -> None:
    number = collection.ordinal_of(photos / "cat.jpg")
    assert writable.post("images", photos / "cat.jpg").json() == {"id": number, "added": False}
    shutil.copy(photos / "cat.jpg", tmp_path / "copy.jpg")
    with Collection.open(tmp_path / "places.delf", extractor) as opened:
        assert opened.add([tmp_path / "copy.jpg"]).duplicates == 1
    assert writable.http.delete(f"/api/v1/images/{number}").status_code == 204
    assert total(writable) == 11, "with all of its files"
    assert (photos / "cat.jpg").is_file() and (tmp_path / "copy.jpg").is_file()


def test_changes_of_another_process_are_seen(writable: Any, queries: Any, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "delf", "index", queries["camera"].path, "-o",
                           tmp_path / "places.delf", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    writable.until(lambda: total(writable) == 13)
    assert writable.search(id=12, top=1)["match"] is True

    key = writable.http.get("/api/v1/images/5").json()["key"]
    assert writable.http.delete("/api/v1/images/2").status_code == 204
    done = subprocess.run([sys.executable, "-m", "delf", "compact", tmp_path / "places.delf", "--json"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = "/api/v1/images/5/thumbnail"
    writable.until(lambda: writable.http.get(path, params={"v": key}).status_code == 404)
    assert writable.http.get(path).status_code == 200
    assert writable.search(queries["coffee"].path, top=1)["match"] is True


def test_one_writes_at_a_time(writable: Any, draw: Any, queries: Any, tmp_path: Path) -> None:
    with Collection.open(tmp_path / "places.delf") as collection, collection.writing():
        writable.refused(writable.post("images", queries["camera"].path), 409, "collection", "is being written by")
        writable.refused(writable.http.delete("/api/v1/images/0"), 409, "collection", "is being written by")
        assert writable.search(queries["coffee"].path)["match"] is True, "readers do not mind"
    assert list((tmp_path / "uploads").iterdir()) == []

    def add(path: Path) -> int:
        response = writable.post("images", path)
        assert response.status_code == 201, response.text
        return int(response.json()["id"])

    def search(_: int) -> bool:
        return bool(writable.search(queries["coffee"].path, top=1)["match"])

    drawn = [draw(f"{number}.png", number, (160, 120)) for number in range(5)]
    with ThreadPoolExecutor(4) as pool:
        found, added = pool.map(search, range(6)), pool.map(add, drawn)
        assert sorted(added) == list(range(12, 17))
        assert all(found)
    assert total(writable) == 17


def test_a_token_without_a_folder_takes_no_photos(serve: Any, copied: Any, token: str, photos: Path,
                                                  tmp_path: Path) -> None:
    one = serve(copied(tmp_path), DELF_TOKEN=token)
    headers = {"Authorization": f"Bearer {token}"}
    one.refused(one.post("images", photos / "cell.jpg", headers), 403, "read_only", "--uploads")
    assert one.http.delete("/api/v1/images/0", headers=headers).status_code == 204
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
                                     words: list[str]) -> None:
    values = {"PLACES": str(collection.folder), "TAKEN": service.url.rpartition(":")[2]}
    done = subprocess.run([sys.executable, "-m", "delf", "serve", *(values.get(one, one) for one in arguments)],
                          cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("delf: ") and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
