"""`delf.Client`, and the example of the documentation, against a service that runs."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import http.server
import io
import json
import pickle
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from shown import examples

from delf import AsyncClient, Client, DelfError, SearchEngine
from delf.client import ServiceError
from delf.errors import OptionError
from delf.remote import RemoteResult

ROOT = Path(__file__).parents[2]


def test_a_search_gives_what_the_engine_gives(service: Any, collection: Any, extractor: Any, queries: Any) -> None:
    client, query = Client(service.url), queries["rocket"].path
    expected = SearchEngine(collection, extractor).search(query, top=4)
    for given in (query, str(query), query.read_bytes()):
        answer = client.search(given, top=4)
        assert answer.query == ("" if isinstance(given, bytes) else str(query))
        assert (answer.method, answer.match) == (expected.method, True)
        for found, result in zip(answer.results, expected.results, strict=True):
            assert isinstance(found, RemoteResult)
            assert (found.rank, found.image, found.inliers, found.key, found.files, found.examined) == (
                result.rank, result.image, result.inliers, result.key, result.files, result.examined)
            assert found.probability == pytest.approx(result.probability)
            np.testing.assert_allclose(found.inlier_points, result.inlier_points, atol=0.006)
            if result.transform is not None:
                np.testing.assert_allclose(found.transform, result.transform)
            assert found.name == Path(result.image).name and found.id == found.photo.id == found.key
    assert client.search(query, threshold=0.99, top=2, points=False).results[0].inlier_points.shape == (0, 4)
    assert client.search(query, box=(5, 5, 200, 300), method="delf", top=1).method == "delf"


def test_connections_are_kept_open(service: Any, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    connect = http.client.HTTPConnection.connect
    monkeypatch.setattr(http.client.HTTPConnection, "connect", lambda self: opened.append(1) or connect(self))
    with Client(service.url) as client:
        listed = [one.key for one in client.images("name contains coffee")]
        assert len(listed) == 2 and keys["coffee.jpg"] in listed
        client.picture(listed[0], side=64)
        client.info()
        assert len(opened) == 1
        client._connections._idle[0].sock.shutdown(socket.SHUT_RDWR)  # as a service does with one that is idle
        assert client.info()["images"] == 12
        assert len(opened) == 2
    assert pickle.loads(pickle.dumps(client)).info()["images"] == 12


def test_the_asynchronous_client(service: Any, keys: dict[str, str], queries: Any, run_scene: Any) -> None:
    async def scene() -> None:
        async with AsyncClient(service.url, connections=3) as client:
            wanted = Client(service.url).search(queries["coffee"].path, top=2)
            answers = await asyncio.gather(*(client.search(queries["coffee"].path, top=2) for _ in range(4)))
            keys_of = [[one.key for one in answer.results] for answer in answers]
            assert keys_of == [[one.key for one in wanted.results]] * 4
            assert [one.name async for one in client.images("name = cat.jpg")] == ["cat.jpg"]
            assert (await client.thumbnail(keys["cat.jpg"])).startswith(b"\xff\xd8")
            with pytest.raises(ServiceError):
                await client.remove(keys["cat.jpg"])

    run_scene(scene())


def test_a_request_that_is_cancelled_is_dropped(run_scene: Any) -> None:
    """By a service that never answers: the thread that waits for it is free again at once, and asks nothing twice."""
    asked: list[bytes] = []
    gone = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            while data := connection.recv(65536):
                asked.append(data)
        gone.set()

    thread = threading.Thread(target=serve)
    thread.start()

    async def scene() -> None:
        client = AsyncClient(f"http://127.0.0.1:{listening.getsockname()[1]}", connections=1)
        task = asyncio.create_task(client.info())
        while not asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(gone.wait, 30)

    run_scene(scene())
    thread.join(30)
    listening.close()
    assert b"".join(asked).count(b"GET ") == 1


def test_a_photo_of_the_collection(service: Any, keys: dict[str, str]) -> None:
    client = Client(service.url + "/")
    [coffee] = [one for one in client.images() if one.name == "coffee.jpg"]
    best = client.search(keys["coffee.jpg"], top=1).results[0]
    assert best.name == "coffee-side.jpg" and client.search(coffee, top=1).results[0].key == best.key
    assert client.search(best, top=1).results[0].key == coffee.key
    pair = client.matches(coffee, best.id)
    assert pair.inliers == client.matches(coffee, best).inliers
    assert pair.inliers == best.inliers and pair.transform.shape == (3, 3)
    assert pair.inlier_points.dtype == np.float32


def test_the_photos(service: Any, keys: dict[str, str], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(service.url)
    listed = list(client.images())
    assert [one.id for one in listed] == sorted(keys.values())
    assert {one.name: one.key for one in listed} == keys
    assert {one.path for one in listed} == {str(path) for path in photos.iterdir()}
    monkeypatch.setattr("delf.client._PAGE", 5)
    assert list(client.images()) == listed
    with Image.open(io.BytesIO(client.thumbnail(listed[2], side=80))) as thumbnail:
        assert max(thumbnail.size) == 80
    with Image.open(io.BytesIO(client.attention(listed[2]))) as attention:
        assert attention.size == listed[2].size
    assert client.info()["images"] == 12


def test_adding_and_removing(writable: Any, token: str, queries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(writable.url, token=token)
    key = client.add(queries["camera"].path)
    assert key == hashlib.sha256(queries["camera"].path.read_bytes()).hexdigest()
    assert client.add(queries["camera"].path) == key
    assert client.search(key, top=1).match
    client.remove(key)
    with pytest.raises(ServiceError, match=f"the image {key} was removed") as missing:
        client.remove(key)
    assert (missing.value.status, missing.value.code) == (410, "removed")
    with pytest.raises(ServiceError, match="has no image") as missing:
        client.remove("0" * 64)
    assert (missing.value.status, missing.value.code) == (404, "not_found")
    with pytest.raises(ServiceError, match="needs the token"):
        Client(writable.url).add(queries["camera"].path)
    monkeypatch.setenv("DELF_TOKEN", token)
    assert Client(writable.url).add(queries["camera"].path) == key


def test_errors_are_sentences(service: Any, tmp_path: Path) -> None:
    client = Client(service.url)
    (tmp_path / "no.jpg").write_text("no photo")
    with pytest.raises(ServiceError, match="not an image that can be read"):
        client.search(tmp_path / "no.jpg")
    with pytest.raises(ServiceError, match="the method 'sift' is unknown"):
        client.search("0" * 64, method="sift")
    with pytest.raises(OptionError, match="known by its key"):
        client.thumbnail("cat.jpg")
    with pytest.raises(ServiceError, match="at most 20,000,000 bytes") as large:
        client.search(bytes(60_000_000))
    assert large.value.status == 413
    with pytest.raises(DelfError, match=r"There is no file .*missing\.jpg: check the path"):
        client.search(tmp_path / "missing.jpg")
    with pytest.raises(DelfError, match=r"does not answer .*delf serve"):
        Client("http://127.0.0.1:1").info()
    for url in ("127.0.0.1:8000", "ftp://host", "http://", ""):
        with pytest.raises(OptionError, match="address of a service"):
            Client(url)


class Busy(http.server.BaseHTTPRequestHandler):
    """A service that is busy now and then, and what it was asked."""

    answers: list[tuple[int, str | None, bytes]]
    times: list[float]

    def do_GET(self) -> None:
        self.times.append(time.monotonic())
        status, pause, body = self.answers.pop(0)
        self.send_response(status)
        if pause is not None:
            self.send_header("Retry-After", pause)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def busy() -> Iterator[tuple[type[Busy], str]]:
    class Handler(Busy):
        answers, times = [], []

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


REFUSAL = json.dumps({"error": {"code": "busy", "message": "come back later"}}).encode()


def test_it_comes_back_when_it_is_told_to(busy: Any) -> None:
    handler, url = busy
    handler.answers += [(503, "1", REFUSAL), (429, "0", REFUSAL), (200, None, b'{"images": 3}')]
    assert Client(url).info() == {"images": 3}
    assert handler.times[1] - handler.times[0] >= 1
    assert len(handler.times) == 3


def test_it_does_not_ask_for_ever(busy: Any) -> None:
    handler, url = busy
    handler.answers += [(503, "0", REFUSAL)] * 3
    with pytest.raises(ServiceError, match="come back later") as refused:
        Client(url, attempts=3).info()
    assert refused.value.status == 503 and handler.answers == []


def test_what_is_no_service(busy: Any) -> None:
    handler, url = busy
    handler.answers += [(200, None, b"<html>"), (404, None, b"<html>"), (500, None, b'{"error": "x"}')]
    with pytest.raises(DelfError, match="no search service"):
        Client(url).info()
    for status in (404, 500):
        with pytest.raises(ServiceError, match=f"status {status}"):
            Client(url).info()


# --- the documentation

DOCS = ROOT / "docs" / "service.md"


def shown(language: str) -> list[str]:
    """The examples of the page that are run here."""
    found = [one.text for one in examples(DOCS) if one.language == language and one.by]
    assert len(found) >= 3
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_examples(writable: Any, token: str, queries: Any, tmp_path: Path) -> None:
    shutil.copy(queries["coffee"].path, tmp_path / "query.jpg")
    shutil.copy(queries["camera"].path, tmp_path / "new.jpg")
    answers = []
    for example in shown("sh"):
        script = example.replace("http://127.0.0.1:8000", writable.url)
        done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin",
                              "DELF_TOKEN": token}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert json.loads(answers[0])["match"] is True
    assert "coffee" in json.loads(answers[0])["results"][0]["name"]
    assert any('"added":true' in answer for answer in answers)
    assert (tmp_path / "thumbnail.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_python_example(service: Any, queries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(queries["coffee"].path, tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    example, *_ = shown("python")
    assert urlsplit(service.url).hostname == "127.0.0.1"
    exec(compile(example.replace("http://127.0.0.1:8000", service.url), "service.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("1 coffee") and "%" in out[0]


def test_the_example_that_adds_a_folder(writable: Any, token: str, draw: Any, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    draw("photos/a.png", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DELF_TOKEN", token)
    _, example, _ = shown("python")
    exec(compile(example.replace("http://127.0.0.1:8000", writable.url), "service.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "1 added, 0 known, 0 refused"


def test_the_example_of_a_mounted_service(copied: Any, extractor: Any, hosted: Any, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("delf.Delf.load", lambda: extractor)
    *_, example = shown("python")
    names: dict[str, Any] = {}
    exec(compile(example, "service.md", "exec"), names)
    client = hosted(names["app"]).http
    assert client.get("/places/api/v1/images", headers={"Host": "photos.example"}).json()["total"] == 12
    assert client.get("/places/", headers={"Host": "other.example"}).status_code == 421


def test_the_documentation_names_every_option_and_address(service: Any) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for path in service.http.get("/openapi.json").json()["paths"]:
        assert path in text, path
    from typer.main import get_command

    from delf.cli.app import app

    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    for parameter in command.params:
        if parameter.name not in ("collection", "help", "runtime", "device", "threads", "quiet", "model"):
            assert parameter.opts[0] in text, parameter.opts[0]


@pytest.mark.parametrize("wrong", [{"a": {1}}, {"a": float("nan")}, {"a": b"b"}, ["a"], 7])
def test_metadata_that_are_no_json_are_refused_before_anything_is_sent(wrong: Any) -> None:
    client = Client("http://127.0.0.1:9")  # nobody answers there
    for add in (client.add, client.add_many, client.add_paths):
        with pytest.raises(OptionError, match="the metadata of a photo are a JSON object"):
            add(b"photo", metadata=wrong)  # type: ignore[operator]
