"""More to do than it takes on, clients that go, and an end in the midst of it: real connections."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PATIENCE = 120.0  # seconds after which what should have come has not


def form(data: bytes) -> bytes:
    """A whole request to search with a photo."""
    body = (b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n")
    return (b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)) + body


def connect(served: Any) -> socket.socket:
    parts = urlsplit(served.url)
    return socket.create_connection((parts.hostname, parts.port), PATIENCE)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


ONE_AT_A_TIME = ("--workers", "1", "--waiting", "2", "--threads", "1")


@dataclass(frozen=True)
class Slow:
    """A service that computes one search at a time, none of which ends before it may, and lets two more wait.

    go_on: whether searches may end.
    """

    service: Any
    go_on: threading.Event

    def send(self, *contents: bytes) -> list[socket.socket]:
        """Search with photos, of which the first is being computed before the next one is sent, and the others wait."""
        connections = []
        for data in contents:
            connections.append(connect(self.service))
            connections[-1].sendall(form(data))
            if len(connections) == 1:
                self.service.until(lambda: self.service.metric("delf_running") == 1)
        self.service.until(lambda: self.service.metric("delf_queue") == min(2, len(contents) - 1))
        return connections


@pytest.fixture
def slow(stub_service: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    from delf.service.queries import Queries

    go_on, search = threading.Event(), Queries.search

    def held(self: Queries, job: Any, *wanted: Any) -> Any:
        go_on.wait(PATIENCE)
        job.check()
        return search(self, job, *wanted)

    monkeypatch.setattr(Queries, "search", held)
    one = Slow(stub_service(workers=1, waiting=2, upload_seconds=PATIENCE), go_on)
    yield one
    go_on.set()
    one.service.stop()


@pytest.fixture
def contents(photos: Path) -> list[bytes]:
    """Photos whose features no service knows yet: what follows the end of a JPEG changes nothing of the picture."""
    return [path.read_bytes() + secrets.token_bytes(8) for path in sorted(photos.iterdir())]


def test_what_is_too_much_is_told_to_come_back(slow: Slow, contents: list[bytes]) -> None:
    accepted = slow.send(*contents[:3])
    refused = [answer(one) for one in slow.send(*contents[3:])]
    slow.go_on.set()
    assert [answer(one)[:13] for one in accepted] == [b"HTTP/1.1 200 "] * 3
    assert len(refused) == 9
    for one in refused:
        head, _, body = one.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        [seconds] = [line for line in head.splitlines() if line.lower().startswith(b"retry-after: ")]
        assert 1 <= int(seconds.split()[1]) <= 60
        assert b'"full"' in body and b"try again in a moment" in body
    assert slow.service.metric("delf_queue") == slow.service.metric("delf_running") == 0
    assert slow.service.post("search", contents[3]).status_code == 200, "it goes on"


def test_clients_that_go_are_not_worked_for(slow: Slow, contents: list[bytes]) -> None:
    stays, *leave = slow.send(*contents[:3])
    for connection in leave:
        connection.close()
    slow.service.until(lambda: slow.service.http.get("/metrics").text.count(
        'delf_requests_total{method="POST",route="/api/v1/search",status="499"} 2') == 1)
    slow.go_on.set()
    assert answer(stays).startswith(b"HTTP/1.1 200 ")
    assert slow.service.metric("delf_queue") == slow.service.metric("delf_running") == 0
    assert slow.service.metric("delf_searches_total") == 1, "none of them had begun"


def test_clients_that_go_while_they_send(slow: Slow, contents: list[bytes]) -> None:
    slow.go_on.set()
    one = slow.service
    for share in (0.01, 0.2, 0.9):
        connection = connect(one)
        whole = form(contents[0])
        connection.sendall(whole[: int(len(whole) * share)])
        connection.close()
    assert one.post("search", contents[0]).status_code == 200
    one.until(lambda: one.http.get("/metrics").text.count('status="499"') > 0)


def test_forms_that_come_in_slowly_are_bounded(slow: Slow, contents: list[bytes]) -> None:
    slow.go_on.set()
    one, connections = slow.service, [connect(slow.service) for _ in range(32)]
    for connection in connections:
        connection.sendall(form(contents[0])[:2000])
    one.until(lambda: one.post("search", id="0" * 64).status_code == 503)
    response = one.post("search", contents[1])
    assert response.status_code == 503 and int(response.headers["retry-after"]) == 1
    assert "receives as many photos" in response.json()["error"]["message"]
    assert one.http.get("/api/v1/images").status_code == 200
    for connection in connections:
        connection.close()
    one.until(lambda: one.post("search", id="0" * 64).status_code == 404)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_finishes_what_was_begun(serve: Any, copied: Any, contents: list[bytes], tmp_path: Path,
                                         number: int) -> None:
    one = serve(copied(tmp_path), *ONE_AT_A_TIME)
    one.process.send_signal(signal.SIGSTOP)  # so that all of them are there before the first is done
    connections = [connect(one) for _ in range(3)]
    for connection, data in zip(connections, contents, strict=False):
        connection.sendall(form(data))
    idle = connect(one)
    one.process.send_signal(signal.SIGCONT)
    one.until(lambda: sum(map(one.metric, ("delf_queue", "delf_running", "delf_searches_total"))) == 3)
    one.process.send_signal(number)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(answer, connections))
    assert [given[:13] for given in answers] == [b"HTTP/1.1 200 "] * 3, "one was computed, two were waiting"
    idle.close()
    assert one.process.wait(PATIENCE) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(one)
    assert one.log.read_text() == "Press Ctrl-C to end the service.\n"


def test_times_are_limited(slow: Slow, stub_service: Any, contents: list[bytes]) -> None:
    """Of the body of a request, and of an answer: here of a search that does not end."""
    one = stub_service(upload_seconds=0.2)
    connection = connect(one)
    connection.sendall(form(contents[0])[:400])
    late = answer(connection)
    assert late.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.2 seconds" in late
    one.stop()
    one = stub_service(seconds=0.1)
    response = one.post("search", contents[0])
    one.refused(response, 503, "busy", "longer than 0.1 seconds")
    assert int(response.headers["retry-after"]) >= 1
    slow.go_on.set()
    one.stop()


def test_pictures_come_while_searches_wait(slow: Slow, contents: list[bytes]) -> None:
    connections = slow.send(*contents[:3])
    one = slow.service
    [key, *_] = [photo["key"] for photo in one.http.get("/api/v1/images").json()["images"]]
    assert one.http.get(f"/api/v1/images/{key}/thumbnail").status_code == 200
    assert one.http.get("/healthz").status_code == 200
    assert one.metric("delf_running") == 1
    slow.go_on.set()
    assert all(answer(connection).startswith(b"HTTP/1.1 200 ") for connection in connections)


def test_several_methods_at_once(service: Any, queries: Any) -> None:
    """Threads that share engines answer as one does."""
    methods = ["delf-asmk", "delf", "global", "asmk"]
    wishes = [(query.path, method) for query in queries.values() for method in methods]
    alone = {wish: service.search(wish[0], method=wish[1], top=3)["results"] for wish in wishes}
    lock = threading.Lock()

    def search(wish: Any) -> None:
        while (response := service.post("search", wish[0], method=wish[1], top=3)).status_code == 429:
            time.sleep(float(response.headers["retry-after"]))
        with lock:
            assert response.json()["results"] == alone[wish]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(search, wishes))
