"""What every request passes before a handler sees it, and every answer before it is sent.

Refused are: names of the service that nobody gave it (else a page on the web could point its own name here and read the
answers, "DNS rebinding"), writes that another site makes a browser send, and more requests at once than allowed. Bodies
that a handler has left unread are taken in, within bounds, so that the client gets to read the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delf.service.metrics import Metrics
from delf.service.options import ServiceOptions
from delf.service.problems import ClientGone, Problem, as_json, busy

LOOPBACK = ("localhost", "127.0.0.1", "::1")
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_DRAIN_SECONDS = 3.0


class Guard:
    """The outermost layer of the service."""

    def __init__(self, app: ASGIApp, options: ServiceOptions, metrics: Metrics,
                 begin: Callable[[], None] = lambda: None) -> None:
        """begin: is called before each request."""
        self._app, self._options, self._metrics, self._begin = app, options, metrics, begin
        self._hosts = {name.lower().strip("[]") for name in (*LOOPBACK, *options.hosts)}
        self._headers = HEADERS
        if options.tiles_origin is not None:
            policy = POLICY.replace("img-src 'self'", f"img-src 'self' {options.tiles_origin}")
            self._headers = {**HEADERS, "content-security-policy": policy}
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await (self._app(scope, receive, send) if scope["type"] == "lifespan" else _refuse_socket(receive, send))
            return
        self._begin()
        method = scope["method"]
        exchange = _Exchange(receive, send, self._options.upload_bytes, self._headers, body=method != "HEAD")
        if method == "HEAD":  # what a GET says, without its body
            scope = {**scope, "method": "GET"}
        start = time.perf_counter()
        self._requests += 1
        try:
            problem = self._problem(Headers(scope=scope), scope["method"])
            if problem is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await _tell(problem, exchange.send)
        except ClientGone:
            exchange.status = 499  # as nginx counts them
        finally:
            self._requests -= 1
            route = scope.get("route")
            self._metrics.answered(method, getattr(route, "path", "other"), exchange.status,
                                   time.perf_counter() - start)

    def _problem(self, headers: Headers, method: str) -> Problem | None:
        """Why a request is not looked at, if it is not."""
        if self._requests > self._options.requests:
            return busy("the service answers as many requests as it can; try again in a moment", 1)
        host = headers.get("host", "")
        if not self._allowed(_name_of(host)):
            return Problem(421, "host", "the service does not go by this name; start it with --allow-host NAME to "
                                        "let it be asked for under another name")
        if method not in _SAFE and not _from_here(headers, host):
            return Problem(403, "origin", "this request comes from the page of another site, from which nothing is "
                                          "taken")
        return None

    def _allowed(self, name: str) -> bool:
        return name in self._hosts or (self._options.any_address and _is_address(name))


def _name_of(host: str) -> str:
    """The name in `name:port`, without brackets; "" where there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".") if host.isascii() and "@" not in host else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


def _from_here(headers: Headers, host: str) -> bool:
    """Whether a request was not sent by the page of another site. Programs say nothing of where they come from."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() == host.lower() if origin.isascii() else False
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none")


class _Exchange:
    """A request and its answer, with what is known of them so far."""

    def __init__(self, receive: Receive, send: Send, limit: int, headers: Mapping[str, str], body: bool) -> None:
        """limit: of bytes that are taken in unread. headers: of each answer. body: whether the answer has one."""
        self.status, self._headers = 500, headers
        self._receive, self._send, self._limit, self._body = receive, send, limit, body
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._complete |= message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            await self._drain()
            if not self._complete:  # else the rest would still be taken in, to no end
                headers["connection"] = "close"
        elif message["type"] == "http.response.body" and not self._body:
            message = {**message, "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        """Take in what is left of the body: one that is cut off loses the answer on its way."""
        taken = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._complete and taken <= self._limit:
                    taken += len((await self.receive()).get("body", b""))


async def _tell(problem: Problem, send: Send) -> None:
    body = json.dumps(as_json(problem.code, str(problem))).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
    await send({"type": "http.response.start", "status": problem.status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()]})
    await send({"type": "http.response.body", "body": body})


async def _refuse_socket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008})
