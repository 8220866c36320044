"""More to do than it takes on, clients that go, and an end in the midst of it: real processes and connections."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest


def form(data: bytes) -> bytes:
    """A whole request to search with a photo."""
    body = (b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n")
    return (b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)) + body


def connect(served: Any) -> socket.socket:
    parts = urlsplit(served.url)
    return socket.create_connection((parts.hostname, parts.port), 60)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the service closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


ONE_AT_A_TIME = ("--workers", "1", "--waiting", "2", "--threads", "1")


@pytest.fixture(scope="module")
def slow(serve: Any, copied: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that computes one search at a time, and lets two more wait."""
    one = serve(copied(tmp_path_factory.mktemp("slow")), *ONE_AT_A_TIME)
    yield one
    one.stop()


@pytest.fixture
def contents(photos: Path) -> list[bytes]:
    """Photos whose features no service knows yet: what follows the end of a JPEG changes nothing of the picture."""
    return [path.read_bytes() + secrets.token_bytes(8) for path in sorted(photos.iterdir())]


def held(served: Any) -> None:
    """Stop the threads of a service where they are, as if there were no time for them."""
    served.process.send_signal(signal.SIGSTOP)


def test_what_is_too_much_is_told_to_come_back(slow: Any, contents: list[bytes]) -> None:
    held(slow)  # so that all of them are there before the first is done
    connections = [connect(slow) for _ in contents]
    for connection, data in zip(connections, contents, strict=True):
        connection.sendall(form(data))
    slow.process.send_signal(signal.SIGCONT)
    with ThreadPoolExecutor(len(connections)) as pool:
        answers = list(pool.map(answer, connections))
    done = [one for one in answers if one.startswith(b"HTTP/1.1 200 ")]
    refused = [one for one in answers if one.startswith(b"HTTP/1.1 429 ")]
    assert len(done) + len(refused) == len(answers) == 12
    assert 3 <= len(done) < 12 and refused
    for one in refused:
        head, _, body = one.partition(b"\r\n\r\n")
        [seconds] = [line for line in head.splitlines() if line.lower().startswith(b"retry-after: ")]
        assert 1 <= int(seconds.split()[1]) <= 60
        assert b'"full"' in body and b"try again in a moment" in body
    assert slow.metric("delf_queue") == slow.metric("delf_running") == 0
    assert slow.post("search", contents[0]).status_code == 200, "it goes on"


def test_clients_that_go_are_not_worked_for(slow: Any, contents: list[bytes]) -> None:
    before = slow.metric("delf_searches_total")
    held(slow)
    stays, *leave = [connect(slow) for _ in range(3)]
    for connection, data in zip([stays, *leave], contents, strict=False):
        connection.sendall(form(data))
    slow.process.send_signal(signal.SIGCONT)
    slow.until(lambda: slow.metric("delf_running") == 1)
    for connection in leave:
        connection.close()
    assert answer(stays).startswith(b"HTTP/1.1 200 ")
    slow.until(lambda: slow.metric("delf_queue") == slow.metric("delf_running") == 0)
    assert slow.metric("delf_searches_total") <= before + 2, "at most one of them had begun"
    text = slow.http.get("/metrics").text
    assert 'delf_requests_total{method="POST",route="/api/v1/search",status="499"}' in text


def test_clients_that_go_while_they_send(slow: Any, contents: list[bytes]) -> None:
    for share in (0.01, 0.2, 0.9):
        connection = connect(slow)
        whole = form(contents[0])
        connection.sendall(whole[: int(len(whole) * share)])
        connection.close()
    assert slow.post("search", contents[0]).status_code == 200
    slow.until(lambda: slow.http.get("/metrics").text.count('status="499"') > 0)


def test_forms_that_come_in_slowly_are_bounded(slow: Any, contents: list[bytes]) -> None:
    connections = [connect(slow) for _ in range(32)]
    for connection in connections:
        connection.sendall(form(contents[0])[:2000])
    slow.until(lambda: slow.post("search", id="0" * 64).status_code == 503)
    response = slow.post("search", contents[1])
    assert response.status_code == 503 and int(response.headers["retry-after"]) == 1
    assert "receives as many photos" in response.json()["error"]["message"]
    assert slow.http.get("/api/v1/images").status_code == 200
    for connection in connections:
        connection.close()
    slow.until(lambda: slow.post("search", id="0" * 64).status_code == 404)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_finishes_what_was_begun(serve: Any, copied: Any, contents: list[bytes], tmp_path: Path,
                                         number: int) -> None:
    slow = serve(copied(tmp_path), *ONE_AT_A_TIME)
    held(slow)
    connections = [connect(slow) for _ in range(3)]
    for connection, data in zip(connections, contents, strict=False):
        connection.sendall(form(data))
    idle = connect(slow)
    slow.process.send_signal(signal.SIGCONT)
    slow.until(lambda: sum(map(slow.metric, ("delf_queue", "delf_running", "delf_searches_total"))) == 3)
    slow.process.send_signal(number)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(answer, connections))
    assert [one[:13] for one in answers] == [b"HTTP/1.1 200 "] * 3, "one was computed, two were waiting"
    idle.close()
    assert slow.process.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(slow)
    assert slow.log.read_text() == "Press Ctrl-C to end the service.\n"


def test_times_are_limited(serve: Any, copied: Any, contents: list[bytes], tmp_path: Path) -> None:
    one = serve(copied(tmp_path), "--seconds", "0.1", "--upload-seconds", "0.5", "--workers", "1", "--threads", "1")
    connection = connect(one)
    connection.sendall(form(contents[0])[:400])
    late = answer(connection)
    assert late.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.5 seconds" in late
    response = one.post("search", contents[0])
    one.refused(response, 503, "busy", "longer than 0.1 seconds")
    assert int(response.headers["retry-after"]) >= 1
    assert one.stop() == 0


def test_pictures_come_while_searches_wait(slow: Any, contents: list[bytes], keys: dict[str, str]) -> None:
    held(slow)
    connections = [connect(slow) for _ in range(3)]
    for connection, data in zip(connections, contents, strict=False):
        connection.sendall(form(data))
    slow.process.send_signal(signal.SIGCONT)
    slow.until(lambda: slow.metric("delf_running") == 1)
    assert slow.http.get(f"/api/v1/images/{keys['cat.jpg']}/thumbnail").status_code == 200
    assert slow.http.get("/healthz").status_code == 200
    with ThreadPoolExecutor(3) as pool:
        assert all(one.startswith(b"HTTP/1.1 200 ") for one in pool.map(answer, connections))


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
