"""Connections that say nothing, or little by little, and many of them: real sockets."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

HEADER_SECONDS, PER_ADDRESS = 0.5, 6
LONG = 30  # seconds after which what should have come has not


@pytest.fixture(scope="module")
def strict(serve: Any, copied: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that waits half a second for a header, and takes six connections from one address."""
    return serve(copied(tmp_path_factory.mktemp("strict")), "--header-seconds", str(HEADER_SECONDS),
                 "--per-address", str(PER_ADDRESS), "--threads", "1", "--methods", "delf-votes")


@pytest.fixture
def connect(strict: Any) -> Iterator[Any]:
    """Opens connections, from any address of this computer, that are closed at the end."""
    parts = urlsplit(strict.url)
    strict.http.close()  # which may have one of its own
    with contextlib.ExitStack() as opened:
        def one(source: str = "127.0.0.1") -> socket.socket:
            return opened.enter_context(socket.create_connection((parts.hostname, parts.port), LONG, (source, 0)))

        yield one
    time.sleep(0.1)  # until the service has seen it


def rest(connection: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            got += piece
    return got


def one_answer(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = b""
    while b"alive" not in got and b"busy" not in got and (piece := connection.recv(65536)):
        got += piece
    return got


def trickle(connection: socket.socket) -> None:
    """Send a header that never ends, until nobody listens."""
    with contextlib.suppress(OSError):
        for _ in range(10 * LONG):
            connection.sendall(b"X")
            time.sleep(0.1)


STARTS = [(b"", False), (b"G", False), (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", False), (b"G", True),
          (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", True)]


@pytest.mark.parametrize("more", [False, True])
def test_a_header_that_does_not_come(connect: Any, more: bool) -> None:
    """Nothing, a part, or a byte now and then; as the first request of a connection, and after an answer."""
    connections = []
    for begin, before in STARTS:
        connections.append(connect())
        if before:
            assert b" 200 " in one_answer(connections[-1])
        connections[-1].sendall(begin)
    sending = [threading.Thread(target=trickle, args=(one,)) for one in connections if more]
    for thread in sending:
        thread.start()
    for connection in connections:
        assert rest(connection) == b"", "it is closed"
    for thread in sending:
        thread.join()


def test_a_slow_body_is_no_slow_header(strict: Any, connect: Any) -> None:
    connection = connect()
    body = b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\nnone\r\n--b--\r\n'
    connection.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
                       b"multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % len(body))
    for part in (body[:10], body[10:]):
        time.sleep(0.8 * HEADER_SECONDS)
        connection.sendall(part)
    assert rest(connection).startswith(b"HTTP/1.1 422 ")


def test_one_address_cannot_hold_all_connections(connect: Any) -> None:
    held = [connect() for _ in range(PER_ADDRESS)]
    refused = connect()
    answer = one_answer(refused)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1\r\n" in answer
    assert b"as many connections from this address" in answer
    assert rest(refused) == b"", "and it is closed"
    if sys.platform == "linux":  # where all of 127.0.0.0/8 is this computer
        assert b" 200 " in one_answer(connect("127.0.0.2")), "others are answered all the same"
    held.pop().close()
    end = time.monotonic() + LONG
    while b" 200 " not in one_answer(connect()):
        assert time.monotonic() < end, "there should be room again"


def test_refused_connections_do_not_stay(connect: Any) -> None:
    crowd = [connect() for _ in range(5 * PER_ADDRESS)]
    for connection in crowd:
        rest(connection)
    assert b" 200 " in one_answer(connect())


def test_addresses() -> None:
    from delf.service.connections import address_of

    assert address_of(("10.0.0.1", 1234)) == address_of(("::ffff:10.0.0.1", 1, 0, 0)) == "10.0.0.1"
    assert address_of(("2001:db8:1:2:3::4", 1, 0, 0)) == address_of(("2001:db8:1:2:ffff::9", 2, 0, 0))
    assert address_of(("2001:db8:1:2::1", 1, 0, 0)) != address_of(("2001:db8:1:3::1", 1, 0, 0))
    assert address_of(("fe80::1%eth0", 1, 0, 2)) == address_of(("fe80::2%eth1", 1, 0, 3))
    assert address_of(None) == address_of("") == address_of(("/run/socket",)) == ""
