"""The bounded pool and what is kept for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from delf.service.problems import ClientGone, Problem
from delf.service.recent import Recent
from delf.service.workers import Job, Workers


@contextmanager
def workers(threads: int, waiting: int, seconds: float = 30) -> Iterator[Workers]:
    pool = Workers(threads, waiting, seconds, "test")
    yield pool
    pool.close()


async def never() -> None:
    await asyncio.Event().wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def test_work_is_done_and_errors_come_back(run_scene: Any) -> None:
    async def scene(pool: Workers) -> None:
        assert await asyncio.gather(*(pool.run(lambda job, n=n: n * n) for n in range(3))) == [0, 1, 4]
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda job: 1 // 0)
        assert (pool.running, pool.queued, pool.full) == (0, 0, False)

    with workers(2, 1) as pool:
        run_scene(scene(pool))


def test_what_is_too_much_is_refused_at_once(run_scene: Any) -> None:
    async def scene(pool: Workers) -> None:
        done = threading.Event()
        tasks = [asyncio.create_task(pool.run(lambda job: done.wait(30))) for _ in range(3)]
        await until(lambda: pool.running == 1)
        assert pool.queued == 2 and pool.full
        with pytest.raises(Problem, match="as much to do") as refused:
            await pool.run(lambda job: None)
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 3, "three pieces of a second or so each come before"
        done.set()
        assert await asyncio.gather(*tasks) == [True] * 3, "what was accepted is done"
        assert await pool.run(lambda job: "room again") == "room again"

    with workers(1, 2) as pool:
        run_scene(scene(pool))


def test_a_client_that_goes_takes_its_waiting_work_along(run_scene: Any) -> None:
    async def scene(pool: Workers) -> None:
        done, leave, begun = threading.Event(), asyncio.Event(), []

        async def gone() -> None:
            await leave.wait()

        first = asyncio.create_task(pool.run(lambda job: done.wait(30), never))
        await until(lambda: pool.running == 1)
        second = asyncio.create_task(pool.run(begun.append, gone))
        await until(lambda: pool.queued == 1)
        leave.set()
        with pytest.raises(ClientGone):
            await second
        await until(lambda: pool.queued == 0)
        done.set()
        assert await first
        assert begun == []

    with workers(1, 5) as pool:
        run_scene(scene(pool))


def test_work_that_has_begun_stops_at_its_next_stage_and_keeps_its_place(run_scene: Any) -> None:
    async def scene(pool: Workers) -> None:
        leave, go_on, stages = asyncio.Event(), threading.Event(), []

        def work(job: Job) -> None:
            stages.append("first")
            go_on.wait(30)
            job.check()
            stages.append("second")

        async def gone() -> None:
            await leave.wait()

        task = asyncio.create_task(pool.run(work, gone))
        await until(lambda: stages == ["first"])
        leave.set()
        with pytest.raises(ClientGone):
            await task
        assert pool.full, "the thread is not free yet, so nothing new is taken"
        go_on.set()
        await until(lambda: not pool.full)
        assert stages == ["first"]

    with workers(1, 0) as pool:
        run_scene(scene(pool))


def test_time_is_limited_waiting_included(run_scene: Any) -> None:
    async def scene(pool: Workers) -> None:
        done = threading.Event()
        tasks = [asyncio.create_task(pool.run(lambda job: done.wait(30))) for _ in range(2)]
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, Problem) and outcome.status == 503 and "longer than 0.2 seconds" in str(outcome)
        done.set()
        await until(lambda: pool.running == pool.queued == 0)

    with workers(1, 1, seconds=0.2) as pool:
        run_scene(scene(pool))


def test_what_is_kept_is_bounded() -> None:
    made: list[str] = []

    def make(name: str, size: int) -> Callable[[], bytes]:
        return lambda: (made.append(name), bytes(size))[1]

    kept = Recent(10, len)
    kept.get("a", make("a", 4))
    kept.get("b", make("b", 4))
    kept.get("a", make("a again", 4))
    kept.get("c", make("c", 4))  # b goes, which was used longest ago
    kept.get("a", make("a again", 4))
    kept.get("b", make("b again", 4))
    assert made == ["a", "b", "c", "b again"]
    assert kept.total == 8
    kept.get("large", make("large", 11))
    assert kept.total == 8, "what is larger than all of it is not kept"
