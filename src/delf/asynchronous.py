"""Searching, and asking a service, from asyncio. Computing and waiting happen in a pool of threads, and a call that is
cancelled ends.

    engine = AsyncSearchEngine(SearchEngine(Collection.open("places.delf")))
    answer = await engine.search("query.jpg", top=5)

    async with AsyncClient("http://127.0.0.1:8000") as client:
        answers = await asyncio.gather(*(client.search(photo) for photo in photos))
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from delf.calling import Call
from delf.client import Client, Photo, Query
from delf.images import ImageSource
from delf.pools import Pool
from delf.remote import RemoteImage, RemotePlaces, RemoteResult, RemoteSection, SharedQuery
from delf.search import Check, SearchEngine
from delf.types import Box, Features, ImageMatch, SearchResult
from delf.uploading import UploadReport

T = TypeVar("T")


class _DroppedError(Exception):
    """The caller has cancelled a search."""


class AsyncSearchEngine:
    """A `SearchEngine` for asyncio. All searches share one pool; a search that is cancelled ends at its next step."""

    def __init__(self, engine: SearchEngine, *, workers: int = 2) -> None:
        """workers: how many searches are computed at once. Each also uses the threads of the extractor."""
        self.engine = engine
        self._pool = Pool(workers, "delf-search")

    def __repr__(self) -> str:
        return f"AsyncSearchEngine({self.engine!r}, {self._pool.threads} at once)"

    async def search(self, image: ImageSource, *, box: Box | None = None, top: int | None = 10,
                     exclude: Sequence[int] = (), where: str | None = None) -> SearchResult:
        """As `SearchEngine.search`."""
        def work(check: Check) -> SearchResult:
            check()
            return self.engine.answer(self.engine.query(image, box=box), top=top, exclude=exclude, where=where,
                                      check=check)

        return await self._run(work)

    async def extract(self, image: ImageSource, *, box: Box | None = None) -> Features:
        """As `SearchEngine.extract`."""
        return await self._run(lambda _: self.engine.extract(image, box=box))

    async def match(self, image: ImageSource, ordinal: int) -> ImageMatch:
        """As `SearchEngine.match`, of a photo."""
        return await self._run(lambda check: self.engine.match(self.engine.query(image), ordinal, check=check))

    async def refresh(self) -> bool:
        """As `SearchEngine.refresh`."""
        return await self._run(lambda _: self.engine.refresh())

    async def _run(self, work: Callable[[Check], T]) -> T:
        dropped = threading.Event()

        def check() -> None:
            if dropped.is_set():
                raise _DroppedError

        try:
            return await asyncio.wrap_future(self._pool.submit(work, check))
        except asyncio.CancelledError:
            dropped.set()
            raise


class AsyncClient:
    """A `Client` for asyncio. If a request is cancelled, its connection is closed, and the service drops its work."""

    def __init__(self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout: float = 120.0,
                 attempts: int = 4, connections: int = 8) -> None:
        """As `Client`. connections: how many requests may run at once."""
        self._client = Client(url, token=token, timeout=timeout, attempts=attempts)
        self._pool = Pool(connections, "delf-client")

    def __repr__(self) -> str:
        return f"Async{self._client!r}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are open."""
        self._client.close()

    async def info(self) -> dict[str, Any]:
        """As `Client.info`."""
        return await self._run(self._client.info)

    async def search(self, query: Query, *, box: Box | None = None, method: str | None = None, top: int = 24,
                     threshold: float = 0.0, points: bool = True, where: str | None = None) -> SearchResult:
        """As `Client.search`."""
        return await self._run(lambda: self._client.search(query, box=box, method=method, top=top, threshold=threshold,
                                                           points=points, where=where))

    async def matches(self, query: Query, other: str | RemoteImage | RemoteResult, *, box: Box | None = None,
                      method: str | None = None) -> ImageMatch:
        """As `Client.matches`."""
        return await self._run(lambda: self._client.matches(query, other, box=box, method=method))

    async def images(self, where: str | None = None, *, order: str | None = None) -> AsyncIterator[RemoteImage]:
        """As `Client.images`: `async for photo in client.images()`."""
        listed = self._client.images(where, order=order)
        while (photo := await self._run(lambda: next(listed, None))) is not None:
            yield photo

    async def sections(self, order: str = "newest", where: str | None = None) -> list[RemoteSection]:
        """As `Client.sections`."""
        return await self._run(lambda: self._client.sections(order, where))

    async def places(self, where: str | None = None, *, box: tuple[float, float, float, float] | None = None,
                     zoom: int = 0) -> RemotePlaces:
        """As `Client.places`."""
        return await self._run(lambda: self._client.places(where, box=box, zoom=zoom))

    async def thumbnail(self, photo: str | RemoteImage | RemoteResult, *, side: int = 320) -> bytes:
        """As `Client.thumbnail`."""
        return await self._run(lambda: self._client.thumbnail(photo, side=side))

    async def picture(self, photo: str | RemoteImage | RemoteResult, *, side: int = 1600) -> bytes:
        """As `Client.picture`."""
        return await self._run(lambda: self._client.picture(photo, side=side))

    async def original(self, photo: str | RemoteImage | RemoteResult) -> bytes:
        """As `Client.original`."""
        return await self._run(lambda: self._client.original(photo))

    async def attention(self, query: Query) -> bytes:
        """As `Client.attention`."""
        return await self._run(lambda: self._client.attention(query))

    async def add(self, photo: Photo, *, metadata: Mapping[str, Any] | None = None) -> str:
        """As `Client.add`."""
        return await self._run(lambda: self._client.add(photo, metadata=metadata))

    async def add_many(self, photos: Photo | Iterable[Photo], *, metadata: Mapping[str, Any] | None = None,
                       progress: Callable[[int, int], None] = lambda done, total: None) -> UploadReport:
        """As `Client.add_many`; `progress` is called on a thread of the pool. If it is cancelled, its jobs end."""
        return await self._run(lambda: self._client.add_many(photos, metadata=metadata, progress=progress))

    async def add_paths(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *,
                        metadata: Mapping[str, Any] | None = None,
                        progress: Callable[[int, int], None] = lambda done, total: None) -> UploadReport:
        """As `Client.add_paths`; `progress` is called on a thread of the pool. If it is cancelled, the job ends."""
        return await self._run(lambda: self._client.add_paths(paths, metadata=metadata, progress=progress))

    async def share(self, photo: Photo) -> SharedQuery:
        """As `Client.share`."""
        return await self._run(lambda: self._client.share(photo))

    async def remove(self, photo: str | RemoteImage | RemoteResult) -> None:
        """As `Client.remove`."""
        await self._run(lambda: self._client.remove(photo))

    async def _run(self, work: Callable[[], T]) -> T:
        call = Call()

        def called() -> T:
            with self._client.calling(call):
                return work()

        try:
            return await asyncio.wrap_future(self._pool.submit(called))
        except asyncio.CancelledError:
            call.drop()
            raise
