"""Connections, within bounds: so many for one address, and none that is open without a request for long.

The web server counts connections in all and closes those that are idle between two requests. It waits for ever for the
rest of a header, though, so that a few clients who send it a byte a minute, or nothing at all, could hold all of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from delf.service.options import ServiceOptions
from delf.service.problems import as_json

_NETWORK = 64  # bits of an IPv6 address that one client cannot change at will
_FAREWELL = 1.0  # seconds in which a client that is refused may read why
_REFUSED = json.dumps(as_json("busy", "the service has as many connections from this address as it takes; close some, "
                                      "or try again in a moment")).encode()


def bounded(options: ServiceOptions) -> Callable[..., asyncio.Protocol]:
    """What a web server makes for each connection, in place of its own protocol."""
    return partial(_Connection, options, Counter())


class _Connection(asyncio.Protocol):
    """One connection: the protocol of the web server does the work, and is watched."""

    def __init__(self, options: ServiceOptions, addresses: Counter[str], *arguments: Any, **named: Any) -> None:
        """addresses: how many connections each has. The rest is for the web server's protocol."""
        self._options, self._addresses = options, addresses
        self._inner: Any = AutoHTTPProtocol(*arguments, **named)
        self._transport: asyncio.Transport
        self._address = ""
        self._refused = False
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = address_of(transport.get_extra_info("peername"))
        self._addresses[self._address] += 1
        self._refused = self._addresses[self._address] > self._options.per_address
        if self._refused:
            self._refuse()
        else:
            self._inner.connection_made(transport)
            self._await_header()

    def data_received(self, data: bytes) -> None:
        if self._refused:  # what is left unread would cost the client the answer
            return
        before = self._inner.cycle
        self._inner.data_received(data)
        if self._inner.cycle is not before:  # a header was complete, from which a request is made
            self._stop_waiting()
        elif self._waiting is None and (before is None or before.response_complete):
            self._await_header()  # of the next request

    def eof_received(self) -> bool | None:
        return None if self._refused else self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        self._addresses[self._address] -= 1
        if not self._addresses[self._address]:
            del self._addresses[self._address]
        if not self._refused:
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        if not self._refused:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if not self._refused:
            self._inner.resume_writing()

    def _await_header(self) -> None:
        self._waiting = asyncio.get_running_loop().call_later(self._options.header_seconds, self._transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self) -> None:
        if self._addresses[self._address] > 2 * self._options.per_address:  # it does not read the answers
            self._transport.abort()
            return
        self._transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                              b"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                              % (len(_REFUSED), _REFUSED))
        self._waiting = asyncio.get_running_loop().call_later(_FAREWELL, self._transport.abort)


def address_of(peer: Any) -> str:
    """Whose connection it is: an address of IPv4, or the network of one of IPv6, of which a client has very many."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except (TypeError, IndexError, ValueError):  # a socket of another kind
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _NETWORK), strict=False))
    return str(address)
