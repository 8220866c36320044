"""Listening, and ending well."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from delf.errors import DelfError
from delf.service.app import create_app
from delf.service.connections import bounded
from delf.service.indexing import Indexing
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.several import create_apps

_GRACE = 5.0  # seconds for an answer to reach its client


def serve(library: Library | Mapping[str, Library], options: ServiceOptions | Mapping[str, ServiceOptions], host: str,
          port: int, *, indexing: Indexing | None = None,
          started: Callable[[str], None] = lambda address: None) -> None:
    """Answer requests until SIGINT or SIGTERM; what was begun by then is finished. A second signal ends it at once.

    Args:
        library, options: of the collection; or of several, by the names below which they are served.
        port: 0 takes one that is free. indexing: what goes on beside it.
        started: is called with the address when requests are taken.

    Raises:
        DelfError: it cannot listen there.
    """
    everywhere = _is_everywhere(host)

    def here(given: ServiceOptions) -> ServiceOptions:
        return replace(given, any_address=given.any_address or everywhere,
                       hosts=given.hosts if everywhere else (*given.hosts, host))

    if isinstance(library, Library):
        assert isinstance(options, ServiceOptions), "a collection has its options"
        app, first = create_app(library, here(options), indexing), options
    else:
        assert not isinstance(options, ServiceOptions), "each collection has its options"
        app = create_apps({name: (one, here(options[name])) for name, one in library.items()})
        first = next(iter(options.values()))
    run(app, first, host, port, started=started)


def run(app: ASGIApp, options: ServiceOptions, host: str, port: int, *,
        started: Callable[[str], None] = lambda address: None) -> None:
    """Answer requests to an application, as `serve` does. options: of which the limits on connections are kept."""
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    _Server(configured(app, options),
            lambda: started(f"http://{shown}:{listening.getsockname()[1]}/")).run(sockets=[listening])


def configured(app: ASGIApp, options: ServiceOptions) -> uvicorn.Config:
    """How the web server is run, with the limits on connections of some options."""
    protocol: Any = bounded(options)  # any callable will do, where the types ask for a class
    return uvicorn.Config(app, http=protocol, log_level="warning",
                          access_log=False, server_header=False, proxy_headers=False, ws="none",
                          limit_concurrency=options.connections, timeout_keep_alive=10,
                          timeout_graceful_shutdown=int(options.seconds + _GRACE))


class _Server(uvicorn.Server):
    """A server for which a signal is the usual end and no failure."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET,
                                    backlog=1024)
    except (OSError, OverflowError) as error:
        raise DelfError(f"cannot listen at {host}, port {port} ({getattr(error, 'strerror', None) or error}); is the "
                        "port taken, or the address not of this computer? Give another --port or --host") from error


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
