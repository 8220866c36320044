"""Searching from asyncio, and what becomes of what is cancelled. (The client: `tests/service/test_client.py`.)"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from delf import AsyncSearchEngine, Collection, SearchEngine
from delf.errors import ImageError


def run(scene: Coroutine[Any, Any, Any]) -> Any:
    """In a thread of its own, where no other event loop runs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, scene).result(60)


@pytest.fixture
def engine(tmp_path: Path, make_stub: Any, draw: Callable[..., Path]) -> SearchEngine:
    stub = make_stub()
    collection = Collection.create(tmp_path / "places.delf", stub)
    collection.add([draw(f"{number}.png", number) for number in range(4)])
    return SearchEngine(collection, stub, method="delf-votes")


def test_searches_beside_one_another(engine: SearchEngine, tmp_path: Path) -> None:
    photos = [tmp_path / f"{number}.png" for number in range(4)]

    async def scene() -> list[Any]:
        own = AsyncSearchEngine(engine, workers=3)
        assert "3 at once" in repr(own)
        assert len(await own.extract(photos[0])) > 0
        assert await own.refresh() is False
        with pytest.raises(ImageError):
            await own.search(b"no photo")
        return await asyncio.gather(*(own.search(photo, top=2, where="has name") for photo in photos))

    for photo, answer in zip(photos, run(scene()), strict=True):
        assert [one.image for one in answer.results] == [
            one.image for one in engine.search(photo, top=2, where="has name").results]


def test_a_search_that_is_cancelled_ends_at_its_next_step(engine: SearchEngine, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    extracting, go, seen = threading.Event(), threading.Event(), []
    extract = engine.extractor.extract

    def slow(*arguments: Any, **options: Any) -> Any:
        extracting.set()
        go.wait(30)
        return extract(*arguments, **options)

    monkeypatch.setattr(engine.extractor, "extract", slow, raising=False)
    monkeypatch.setattr(type(engine.retriever), "candidates", lambda *_: seen.append(1))

    async def scene() -> None:
        own = AsyncSearchEngine(engine, workers=1)
        tasks = [asyncio.create_task(own.search(tmp_path / "0.png")) for _ in range(2)]
        await asyncio.to_thread(extracting.wait, 30)
        for task in tasks:
            task.cancel()
        assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [
            asyncio.CancelledError] * 2
        go.set()
        await own.refresh()  # the one thread is free again

    run(scene())
    assert seen == [], "what nobody waits for is not searched"
