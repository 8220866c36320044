"""Connections that say nothing, or little by little, and many of them: real sockets."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

HEADER_SECONDS, PER_ADDRESS = 0.5, 6
LONG = 60  # seconds after which what should have come has not
Connect = Callable[..., socket.socket]


@pytest.fixture
def connecting(stub_service: Any) -> Iterator[Callable[..., Connect]]:
    """Starts a service with some options; what that gives opens connections to it, from any address of this computer,
    that are closed at the end.
    """
    with contextlib.ExitStack() as opened:
        def start(**options: Any) -> Connect:
            service = stub_service(**options)
            opened.callback(service.stop)
            parts = urlsplit(service.url)
            return lambda source="127.0.0.1": opened.enter_context(
                socket.create_connection((parts.hostname, parts.port), LONG, (source, 0)))

        yield start


def rest(connection: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            got += piece
    return got


def one_answer(connection: socket.socket) -> bytes:
    """Nothing where it was closed, as when this computer was too busy to ask in time."""
    got = b""
    with contextlib.suppress(OSError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b"alive" not in got and b"busy" not in got and (piece := connection.recv(65536)):
            got += piece
    return got


def answered(connect: Connect) -> socket.socket:
    """A connection over which an answer came."""
    end = time.monotonic() + LONG
    while b" 200 " not in one_answer(connection := connect()):
        assert time.monotonic() < end, "there should be room"
    return connection


def trickle(connection: socket.socket) -> None:
    """Send a header that never ends, until nobody listens."""
    with contextlib.suppress(OSError):
        for _ in range(10 * LONG):
            connection.sendall(b"X")
            time.sleep(0.1)


STARTS = [(b"", False), (b"G", False), (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", False), (b"G", True),
          (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", True)]


@pytest.mark.parametrize("more", [False, True])
def test_a_header_that_does_not_come(connecting: Any, more: bool) -> None:
    """Nothing, a part, or a byte now and then; as the first request of a connection, and after an answer."""
    connect, connections = connecting(header_seconds=HEADER_SECONDS), []
    for begin, before in STARTS:
        connections.append(answered(connect) if before else connect())
        with contextlib.suppress(OSError):  # it was closed already
            connections[-1].sendall(begin)
    sending = [threading.Thread(target=trickle, args=(one,)) for one in connections if more]
    for thread in sending:
        thread.start()
    for connection in connections:
        assert rest(connection) == b"", "it is closed"
    for thread in sending:
        thread.join()


def test_a_slow_body_is_no_slow_header(connecting: Any) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\nnone\r\n--b--\r\n'
    head = (b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: "
            b"multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % len(body))
    connect, said = connecting(header_seconds=HEADER_SECONDS), b""
    for _ in range(5):  # where this computer is too busy to send the header in time
        with contextlib.suppress(OSError):
            connection = connect()
            connection.sendall(head)
            for part in (body[:10], body[10:]):
                time.sleep(0.8 * HEADER_SECONDS)
                connection.sendall(part)
            if said := rest(connection):
                break
    assert said.startswith(b"HTTP/1.1 422 ")


def test_one_address_cannot_hold_all_connections(connecting: Any) -> None:
    connect = connecting(per_address=PER_ADDRESS, header_seconds=4 * LONG)
    held = [connect() for _ in range(PER_ADDRESS)]
    for _ in range(5):  # a second is given to read why
        refused = connect()
        if answer := one_answer(refused):
            break
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1\r\n" in answer
    assert b"as many connections from this address" in answer
    assert rest(refused) == b"", "and it is closed"
    if sys.platform == "linux":  # where all of 127.0.0.0/8 is this computer
        assert b" 200 " in one_answer(connect("127.0.0.2")), "others are answered all the same"
    held.pop().close()
    answered(connect)  # there is room again


def test_refused_connections_do_not_stay(connecting: Any) -> None:
    connect = connecting(per_address=PER_ADDRESS, header_seconds=HEADER_SECONDS)
    crowd = [connect() for _ in range(5 * PER_ADDRESS)]
    for connection in crowd:
        rest(connection)
    answered(connect)


def test_addresses() -> None:
    from delf.service.connections import address_of

    assert address_of(("10.0.0.1", 1234)) == address_of(("::ffff:10.0.0.1", 1, 0, 0)) == "10.0.0.1"
    assert address_of(("2001:db8:1:2:3::4", 1, 0, 0)) == address_of(("2001:db8:1:2:ffff::9", 2, 0, 0))
    assert address_of(("2001:db8:1:2::1", 1, 0, 0)) != address_of(("2001:db8:1:3::1", 1, 0, 0))
    assert address_of(("fe80::1%eth0", 1, 0, 2)) == address_of(("fe80::2%eth1", 1, 0, 3))
    assert address_of(None) == address_of("") == address_of(("/run/socket",)) == ""
