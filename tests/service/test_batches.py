"""Many photos at once: batches that come in within bounds, and the jobs that add them."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from delf import AsyncClient, Client, DelfError
from delf.client import ServiceError
from delf.collection import Collection
from delf.service import jobs as module
from delf.service.app import create_app
from delf.service.library import Library
from delf.service.options import ServiceOptions

LIMITS = {"jobs": 2, "batch_photos": 6, "upload_bytes": 30_000, "spool_bytes": 90_000}


@pytest.fixture
def stubbed(hosted: Any, stub: Any, token: str, tmp_path: Path) -> Iterator[Any]:
    """A service on an empty collection, with low limits, whose features cost nothing."""
    Collection.create(tmp_path / "places.delf", stub).close()
    (tmp_path / "uploads").mkdir()
    library = Library(tmp_path / "places.delf", stub, ["delf"])
    one = hosted(create_app(library, ServiceOptions(token=token, uploads=tmp_path / "uploads", watch_seconds=0.05,
                                                    **LIMITS)))
    one.http.headers["Authorization"] = f"Bearer {token}"
    yield one
    one.stop()
    assert not (tmp_path / "uploads" / ".incoming").exists(), "nothing is left behind"


@pytest.fixture
def client(stubbed: Any, token: str) -> Client:
    return Client(stubbed.url, token=token, attempts=1)


@pytest.fixture
def held(stubbed: Any, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Another one writes the collection until this is called."""
    release, holds = threading.Event(), threading.Event()

    def hold() -> None:
        with Collection.open(tmp_path / "places.delf") as opened, opened.writing():
            holds.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(60)

    def let_go() -> None:
        release.set()
        thread.join(60)

    yield let_go
    let_go()


def send(stubbed: Any, *photos: Path | bytes, **fields: str) -> Any:
    parts: list[Any] = [(name, (None, value)) for name, value in fields.items()]
    parts += [("image", ("x", one if isinstance(one, bytes) else one.read_bytes())) for one in photos]
    return stubbed.http.post("/api/v1/images/batch", files=parts or [("metadata", (None, "{}"))])


def job_of(answer: Any) -> str:
    """The address of the job of an answer."""
    return urljoin("/api/v1/images/batch", answer.headers["Location"])


def ended(stubbed: Any, answer: Any) -> Any:
    """The job of an answer when it has ended."""
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(stubbed.http.get(job_of(answer)).json())
        return found["state"] in ("done", "failed", "cancelled")

    stubbed.until(look)
    return found


def key_of(photo: Path) -> str:
    return hashlib.sha256(photo.read_bytes()).hexdigest()


def files_in(folder: Path) -> set[str]:
    return {one.stem for one in folder.iterdir() if one.is_file()}


def test_photos_are_added_and_what_is_wrong_is_told_of_each(stubbed: Any, draw: Any, tmp_path: Path) -> None:
    first, second = draw("a.png", 1), draw("b.png", 2)
    assert stubbed.post("images", first).status_code == 201
    job = ended(stubbed, send(stubbed, first, b"no photo", second, second, bytes(30_001), metadata='{"album": "Rome"}'))
    assert (job["state"], job["done"], job["total"], job["added"], job["known"]) == ("done", 5, 5, 1, 2)
    assert job["keys"] == [key_of(first), None, key_of(second), key_of(second), None]
    (two, five) = job["errors"]
    assert two["photo"] == 2 and "not an image that can be read" in two["message"]
    assert five["photo"] == 5 and "more than 30,000 bytes" in five["message"]
    listed = stubbed.http.get("/api/v1/images", params={"where": "album = Rome"}).json()
    assert {one["key"] for one in listed["images"]} == {key_of(first), key_of(second)}
    assert files_in(tmp_path / "uploads") == {key_of(first), key_of(second)}
    assert stubbed.metric("delf_jobs") == 0
    assert [one["id"] for one in stubbed.http.get("/api/v1/jobs").json()["jobs"]] == [job["id"]]


def test_it_needs_the_token(stubbed: Any, draw: Any) -> None:
    del stubbed.http.headers["Authorization"]
    for response in (send(stubbed, draw("a.png", 1)), stubbed.http.get("/api/v1/jobs"),
                     stubbed.http.get("/api/v1/jobs/x"), stubbed.http.delete("/api/v1/jobs/x")):
        stubbed.refused(response, 401, "token")


def test_forms_that_are_no_batch(stubbed: Any, draw: Any, tmp_path: Path) -> None:
    stubbed.refused(send(stubbed), 422, "option", "give photos")
    stubbed.refused(send(stubbed, draw("a.png", 1), metadata="[1]"), 422, "option", "a JSON object")
    stubbed.refused(send(stubbed, draw("a.png", 1), album="Rome"), 422, "option", "'album'")
    stubbed.refused(send(stubbed, *[b"x"] * 7), 413, "too_large", "at most 6 photos")
    stubbed.refused(send(stubbed, *[bytes(29_000)] * 4), 413, "too_large", "90,000 bytes together")
    stubbed.refused(stubbed.http.post("/api/v1/images/batch", json={}), 415, "form", "multipart/form-data")
    cut = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc'
    response = stubbed.http.post("/api/v1/images/batch", content=cut,
                                 headers={"Content-Type": "multipart/form-data; boundary=x"})
    stubbed.refused(response, 400, "form", "its end is missing")
    assert not any(one.is_file() for one in (tmp_path / "uploads").rglob("*")), "what was refused is not kept"
    assert ended(stubbed, send(stubbed, *[bytes(29_000)] * 3))["state"] == "done", "the room was given back"


def test_a_job_waits_for_another_writer_and_no_more_than_some_jobs(stubbed: Any, held: Any, draw: Any) -> None:
    first = send(stubbed, draw("a.png", 1))
    second = send(stubbed, draw("b.png", 2))
    full = send(stubbed, draw("c.png", 3))
    stubbed.refused(full, 429, "full", "2 batches")
    assert int(full.headers["Retry-After"]) >= 1
    stubbed.until(lambda: "is being written by" in stubbed.http.get(job_of(first)).json()["sentence"])
    gone = stubbed.http.delete(job_of(second)).json()
    assert (gone["state"], gone["added"]) == ("cancelled", 0) and "cancelled before" in gone["sentence"]
    held()
    assert ended(stubbed, first)["added"] == 1
    assert stubbed.http.get("/api/v1/images").json()["total"] == 1
    again = stubbed.http.delete(job_of(second))
    assert again.status_code == 200 and again.json() == gone, "what has ended stays as it is"
    stubbed.refused(stubbed.http.get("/api/v1/jobs/none"), 404, "not_found", "forgets jobs when it ends")


def test_bytes_that_wait_are_bounded(stubbed: Any, held: Any) -> None:
    waiting = send(stubbed, *[bytes(29_000)] * 2)
    stubbed.refused(send(stubbed, *[bytes(29_000)] * 2), 429, "full", "at most 90,000 may")
    held()
    ended(stubbed, waiting)
    assert ended(stubbed, send(stubbed, *[bytes(29_000)] * 2))["done"] == 2


@pytest.fixture
def slow(stub: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Events: the second photo is being extracted, which goes on with the other one."""
    extract, reached, go_on = stub.extract, threading.Event(), threading.Event()

    def extract_slowly(*arguments: Any, **more: Any) -> Any:
        if stub.extracted == 2:
            reached.set()
            assert go_on.wait(60)
        return extract(*arguments, **more)

    monkeypatch.setattr(stub, "extract", extract_slowly)
    return reached, go_on


def test_cancelled_in_the_middle_what_was_added_stays(stubbed: Any, draw: Any, tmp_path: Path, slow: Any) -> None:
    photos, (reached, go_on) = [draw(f"{seed}.png", seed) for seed in range(5)], slow
    answer = send(stubbed, *photos)
    assert reached.wait(60)
    assert stubbed.http.delete(job_of(answer)).json()["state"] == "cancelling"
    go_on.set()
    job = ended(stubbed, answer)
    assert job["state"] == "cancelled" and job["total"] == 5 and 1 <= job["added"] < 5
    there = {one["key"] for one in stubbed.http.get("/api/v1/images").json()["images"]}
    assert there == {key for key in job["keys"] if key} == files_in(tmp_path / "uploads")
    assert ended(stubbed, send(stubbed, *photos))["known"] == job["added"], "the same again goes on from there"


@pytest.mark.parametrize("count", [2, 5])
def test_a_service_that_ends_stores_what_is_being_added(stubbed: Any, draw: Any, tmp_path: Path, slow: Any,
                                                        count: int) -> None:
    """Also where that is the last photo of a job, so that nothing is left to be stopped."""
    photos, (reached, go_on) = [draw(f"{seed}.png", seed) for seed in range(count)], slow
    send(stubbed, *photos)
    assert reached.wait(60)
    stopping = threading.Thread(target=stubbed.stop)
    stopping.start()
    stopping.join(0.5)  # by which the service has been told to end
    go_on.set()
    stopping.join(60)
    with Collection.open(tmp_path / "places.delf") as opened:
        there = {photo.key for photo in opened.images()}
    assert {key_of(photo) for photo in photos[:2]} <= there == files_in(tmp_path / "uploads")


def test_what_a_service_that_was_killed_left_is_deleted(stub: Any, hosted: Any, token: str, tmp_path: Path) -> None:
    left = tmp_path / "uploads" / ".incoming" / "0123"
    left.mkdir(parents=True)
    (left / "1").write_bytes(b"half a photo")
    torn = [tmp_path / "uploads" / f".{'ab' * 8}.partial", tmp_path / "shared" / f".{'cd' * 8}.partial"]
    (tmp_path / "shared").mkdir()
    for path in torn:
        path.write_bytes(b"half a photo")
    (tmp_path / "uploads/mine.partial").touch()
    Collection.create(tmp_path / "places.delf", stub).close()
    one = hosted(create_app(Library(tmp_path / "places.delf", stub, ["delf"]), ServiceOptions(
        token=token, uploads=tmp_path / "uploads", share_folder=tmp_path / "shared")))
    one.until(lambda: not any(path.exists() for path in (left, *torn)))
    assert (tmp_path / "uploads/mine.partial").exists()
    other = Client(one.url, token=token)
    assert other.info()["limits"]["batch_photos"] == ServiceOptions().batch_photos
    one.stop()


# --- the clients


def test_the_client_adds_a_folder(client: Client, draw: Any, tmp_path: Path) -> None:
    photos = [draw(f"photos/{seed:02}.png", seed) for seed in range(14)]
    (tmp_path / "photos" / "05b.jpg").write_bytes(b"no photo")
    (tmp_path / "photos" / "09b.jpg").write_bytes(bytes(40_000))
    told: list[tuple[int, int]] = []
    report = client.add_many(tmp_path / "photos", metadata={"album": "Rome"},
                             progress=lambda done, total: told.append((done, total)))
    assert (report.added, report.known, len(report.keys), len(report.errors)) == (14, 0, 16, 2)
    assert [key for key in report.keys if key] == [key_of(path) for path in photos]
    assert "05b.jpg: " in report.errors[0] and "not an image" in report.errors[0]
    assert "09b.jpg: " in report.errors[1] and "at most 30,000 bytes" in report.errors[1]
    assert told[-1] == (16, 16) and told == sorted(told)
    again = client.add_many([photos[3], str(photos[4])])
    assert (again.added, again.known) == (0, 2)
    assert client.add_many(path.read_bytes() for path in photos[:1]).known == 1
    with pytest.raises(DelfError, match=r"missing"):
        client.add_many([tmp_path / "missing.jpg"])


def test_the_client_tells_of_a_job_that_was_ended(client: Client, stubbed: Any, draw: Any, token: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise DelfError("the disk is full")

    monkeypatch.setattr(module, "add_waiting", broken)
    with pytest.raises(DelfError, match=r"was ended: the disk is full.*send the photos again"):
        client.add_many([draw("a.png", 1)])
    monkeypatch.setattr(module, "add_waiting", lambda *_: 1 / 0)
    with pytest.raises(DelfError, match="should not have happened"):
        client.add_many([draw("a.png", 1)])
    with pytest.raises(ServiceError, match="needs the token"):
        Client(stubbed.url, token="").add_many([draw("a.png", 1)])


def test_the_asynchronous_client_cancels_its_jobs(stubbed: Any, held: Any, draw: Any, token: str,
                                                  run_scene: Any) -> None:
    photo = draw("a.png", 1)

    async def scene() -> None:
        async with AsyncClient(stubbed.url, token=token) as client:
            task = asyncio.create_task(client.add_many([photo]))
            while 'route="/api/v1/jobs/{id}"' not in stubbed.http.get("/metrics").text:
                await asyncio.sleep(0.02)  # until it knows of its job, for which it asks
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run_scene(scene())
    stubbed.until(lambda: stubbed.http.get("/api/v1/jobs").json()["jobs"][0]["state"] == "cancelled")
    held()
    assert run_scene(AsyncClient(stubbed.url, token=token).add_many([photo])).added == 1
