"""Connections to a service, kept open from one request to the next, and calls that can be dropped."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from delf.errors import DelfError

_IDLE = 8  # connections that are kept open


class Call:
    """Something that is asked of a service by one thread, and that another one may drop."""

    def __init__(self) -> None:
        self._dropped = False
        self._connection: http.client.HTTPConnection | None = None

    def drop(self) -> None:
        """Cancel the call: its connection is closed."""
        self._dropped = True
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def uses(self, connection: http.client.HTTPConnection) -> None:
        """It goes on by this connection. Raises `DelfError` where it was dropped."""
        self._connection = connection
        if self._dropped:
            connection.close()
            raise DelfError("nobody waits for this any more")


class Connections:
    """The connections to a service that stay open for the next request. Several threads may use them at once, and they
    are not pickled: the other one opens its own.
    """

    def __init__(self, scheme: str, host: str, port: int | None, timeout: float) -> None:
        self._arguments = scheme, host, port, timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._process = os.getpid()
        self.calls = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Connections, self._arguments

    def idle(self) -> http.client.HTTPConnection | None:
        """One that is open, for one request; None where there is none."""
        if self._process != os.getpid():  # those of the parent are its own
            self._idle, self._process = [], os.getpid()
        try:
            return self._used(self._idle.pop())
        except IndexError:
            return None

    def new(self) -> http.client.HTTPConnection:
        """One that is to be opened."""
        scheme, host, port, timeout = self._arguments
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        return self._used(kind(host, port, timeout=timeout))

    def _used(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        call = getattr(self.calls, "now", None)
        if call is not None:
            call.uses(connection)
        return connection

    def done(self, connection: http.client.HTTPConnection, again: bool) -> None:
        """Keep a connection that can be used again."""
        if again and len(self._idle) < _IDLE and connection.sock is not None:
            self._idle.append(connection)
        else:
            connection.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def multipart(fields: Mapping[str, str], photos: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """A form with photos, and its headers. The names of files are nobody's business."""
    boundary = secrets.token_hex(16)
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [('name="image"; filename="image"\r\nContent-Type: application/octet-stream', data) for data in photos]
    body = b"".join(part for head, data in parts for part in
                    (f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode(), data, b"\r\n"))
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}
