"""What the handlers of requests share."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from delf.errors import DelfError
from delf.files import tidy_folder
from delf.service.forms import read_form, require_known
from delf.service.indexing import Indexing
from delf.service.jobs import Jobs
from delf.service.library import Library, State
from delf.service.metrics import Metrics
from delf.service.options import ServiceOptions
from delf.service.originals import Folders
from delf.service.problems import Problem, busy
from delf.service.queries import Queries
from delf.service.recent import Recent
from delf.service.shared import SharedQueries
from delf.service.workers import Job, Workers

T = TypeVar("T")
F = TypeVar("F", bound=BaseModel)
API = "/api/v1"
PICTURE_THREADS = 2
PICTURES_WAITING = 128  # a page asks for dozens at once


class Service:
    """A library, the pools that work on it, what is kept for a while, and what is counted.

    searching: where the model runs. drawing: for pictures and lists, which need no model. changing: one writer. listed:
    whether it is one of several, which the page above it lists.
    """

    def __init__(self, library: Library, options: ServiceOptions, indexing: Indexing | None = None, *,
                 listed: bool = False) -> None:
        self.library, self.options, self.indexing, self.listed = library, options, indexing, listed
        self.metrics = Metrics()
        self.queries = Queries(options.queries)
        self.folders = Folders()
        self.shared = SharedQueries(options)
        self.pictures: Recent[bytes] = Recent(options.pictures_bytes, len)
        self.searching = Workers(options.workers, options.waiting, options.seconds, "delf-search")
        self.drawing = Workers(PICTURE_THREADS, PICTURES_WAITING, options.seconds, "delf-picture")
        self.changing = Workers(1, options.waiting, options.seconds, "delf-write")
        self.jobs = Jobs(library, options, self.changing)
        self.ready = True
        self._receiving = 0
        self._watching: asyncio.Task[None] | None = None
        self.metrics.watch("delf_queue", "Searches that wait.", lambda: self.searching.queued)
        self.metrics.watch("delf_running", "Searches that are computed.", lambda: self.searching.running)
        self.metrics.watch("delf_picture_bytes", "Of thumbnails in memory.", lambda: self.pictures.total)
        self.metrics.watch("delf_jobs", "Batches of photos that are being added.", lambda: self.jobs.unfinished)
        self.metrics.watch("delf_images", "Photos of the collection.", self._images)
        for name, (about, value) in library.measures().items():
            self.metrics.watch(name, about, value)
        self.metrics.watch_machines(library.by_machine)

    async def read(self, pool: Workers, request: Request, work: Callable[[Job, State], T]) -> T:
        """Do something with the state of now, in a pool, as long as the client waits for it."""
        def leased(job: Job) -> T:
            return work(job, self.library.state)

        return await pool.run(leased, lambda: _gone(request))

    async def form(self, pool: Workers, request: Request, kind: type[F]) -> tuple[F, bytes | None]:
        """The fields of a form and its photo, for work in a pool; where that is full, it is not read at all."""
        pool.require_room()
        with self.receiving():
            return await read_form(request, kind, self.options)

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """Room for a form that comes in. Raises `Problem` where there is none."""
        if self._receiving >= self.options.receiving:
            raise busy("the service receives as many photos as it can at once; try again in a moment", 1)
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1

    def require_token(self, request: Request) -> None:
        """Raises `Problem` where the client may not write."""
        if self.options.token is None:
            raise Problem(403, "read_only", "this service changes nothing: start it with --token, or with DELF_TOKEN "
                                            "set, to let clients who know the token add and remove photos")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.options.token.encode())  # takes as long if it is wrong
        if scheme.lower() != "bearer" or not same:
            raise Problem(401, "token", "adding and removing photos needs the token of the service, in the header "
                                        "'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"})

    @contextlib.asynccontextmanager
    async def life(self, _: Any) -> AsyncIterator[None]:
        """From before the first request until after the last, when what was begun is finished."""
        self.watch()
        await asyncio.to_thread(self._clean)
        if self.indexing is not None:
            self.indexing.start()
        try:
            yield
        finally:
            self.ready = False
            if self._watching is not None:
                self._watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._watching
            if self.indexing is not None:
                await asyncio.to_thread(self.indexing.stop)
            await self.jobs.close()
            for pool in (self.searching, self.drawing, self.changing):
                await asyncio.to_thread(pool.close)
            self.library.close()

    def _clean(self) -> None:
        """Delete what services that were killed have left half written."""
        if self.jobs.spool is not None:
            self.jobs.spool.clean()
        for folder in filter(None, (self.options.uploads, self.options.share_folder)):
            tidy_folder(folder)

    def watch(self) -> None:
        """Look from now on whether the collection was changed, unless that is done: each request asks for it, since an
        application that is mounted in another one is not told of its own beginning.
        """
        loop = asyncio.get_running_loop()
        if self._watching is None or self._watching.done() or self._watching.get_loop() is not loop:
            self._watching = loop.create_task(self._watch())

    async def _watch(self) -> None:
        """Look now and then whether another process has changed the collection."""
        while True:
            await asyncio.sleep(self.options.watch_seconds)
            with contextlib.suppress(DelfError, OSError):
                await asyncio.to_thread(self.library.refresh)
            await asyncio.to_thread(self.shared.expire)

    def _images(self) -> int:
        return len(self.library.state.snapshot)


def service_of(request: Request) -> Service:
    """The service that a request was sent to."""
    service: Service = request.app.state.service
    return service


Shared = Annotated[Service, Depends(service_of)]


async def only_known(request: Request) -> None:
    """Raises `Problem` where the address has a parameter that its handler does not know, or one twice."""
    given = [name for name, _ in request.query_params.multi_items()]
    if not given:
        return
    operation = request.app.openapi()["paths"].get(request.scope["route"].path, {}).get(request.method.lower(), {})
    require_known(given, [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"], "parameter")
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise Problem(422, "option", f"the parameter {twice[0]!r} is given twice")


async def _gone(request: Request) -> None:
    """Ends when the client has gone. The body has been read, or is of no interest."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
