"""One piece of work on a state of a store: each segment is asked of one worker, and of another one when that dies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from delf.cluster.fleet import Edition, Fleet, Worker
from delf.cluster.parts import MissingPartError, MissingWordsError, Slice, WordsKey, in_range
from delf.cluster.requests import Request
from delf.cluster.transport import WorkerLostError
from delf.cluster.worker import TooLateError
from delf.errors import CollectionError
from delf.types import IntArray

Check = Callable[[], None]
_POLL = 0.05  # seconds between two looks whether the client still waits


def unchecked() -> None:
    """Where nobody may end the work."""


class SegmentsLostError(CollectionError):
    """No living worker has a segment any more that this piece of work has begun with; it is to be begun anew."""


@dataclass(frozen=True)
class _Asked:
    """A call that has not ended. name: by which its worker knows it. since: when it began."""

    worker: Worker
    slices: list[Slice]
    name: str
    since: float

    @property
    def ids(self) -> set[str]:
        """Of its slices."""
        return {one.id for one in self.slices}


class Session:
    """Asks the workers of a fleet for a state of a store.

    It works with the segments that somebody has when it begins. slices: these. missing: how many images the others
    have. So an answer is that of the same photos in one collection, whole or, where something is missing, of a part.
    """

    def __init__(self, fleet: Fleet, edition: Edition, check: Check = unchecked, seconds: float | None = None) -> None:
        """check: called now and then; what it raises ends the work. seconds: that the work may take."""
        self.fleet, self.edition, self._check = fleet, edition, check
        self._seconds = fleet.options.seconds if seconds is None else seconds
        self._end = time.monotonic() + self._seconds
        self._routes: dict[str, Worker] = {}
        self._slow: set[Worker] = set()
        self.keeps: object = None  # what is to live as long as the work: the words that it compares by
        held = [bool(fleet.holders(one)) for one in edition.slices]
        self.slices = [one for one, there in zip(edition.slices, held, strict=True) if there]
        self.missing = sum(one.alive for one, there in zip(edition.slices, held, strict=True) if not there)

    def token(self) -> str:
        """A new name, for what is found in the course of the work, or for a call."""
        return uuid.uuid4().hex

    def put(self, value: Any) -> Any:
        """A payload of requests, which is sent to each machine once."""
        return self.fleet.transport.put(value)

    def ask(self, request: Request, *payloads: Any, slices: Sequence[Slice] | None = None) -> list[Any]:
        """What workers answer to a request, in no order; together they have all segments, or those that are given.

        Raises:
            SegmentsLostError: nobody has some of them any more. CollectionError: the time is over, or no machine that
                has them can be given the words that they are searched by. What `check` and the request raise.
        """
        wanted = {one.id: one for one in (self.slices if slices is None else slices)}
        pending, done, answers = list(wanted.values()), set[str](), []
        calls: dict[Any, _Asked] = {}
        try:
            while len(done) < len(wanted):
                for worker, parts in self._routed(pending).items():
                    asked = _Asked(worker, parts, self.token(), time.monotonic())
                    calls[self.fleet.transport.call(worker.handle, "ask", request, parts, asked.name, self._left(),
                                                    *payloads)] = asked
                for call in self.fleet.transport.wait(list(calls), _POLL):
                    one = calls.pop(call)
                    answer = self._answer(call, one)
                    if answer is not None and done.isdisjoint(one.ids):  # another worker may have been quicker
                        answers.append(answer)
                        done |= one.ids
                self._drop({call: calls.pop(call) for call in list(calls) if calls[call].ids <= done})
                under_way = done.union(*(one.ids for one in calls.values()))
                pending = [one for one in wanted.values() if one.id not in under_way] + self._late_ones(calls, done)
                self._check()
                self._left()
        finally:
            self._drop(calls)
        return answers

    def _answer(self, call: Any, one: _Asked) -> Any:
        """What a call that has ended gave; None where its worker has died, or has not what it was asked for."""
        try:
            return self.fleet.transport.result(call)
        except WorkerLostError:
            self.fleet.lost(one.worker)
        except MissingPartError:
            self.fleet.dropped(one.worker, one.slices)
        except MissingWordsError as error:
            self._taught_again(one, error.key)
        except TooLateError:
            raise self._late() from None
        return None

    def _taught_again(self, asked: _Asked, key: WordsKey) -> None:
        """See that a worker that did not know some words knows them, or that others are asked; it has its segments."""
        if self.fleet.teach_again(asked.worker, key):
            return
        self._slow.add(asked.worker)
        for there in asked.slices:
            if all(who in self._slow for who in self.fleet.holders(there)):
                raise CollectionError(f"no machine that has the segment {there.name} can be given the visual words "
                                      "that it is to be searched by; ask again when one has been started anew")

    def of(self, request: Request, images: IntArray, *payloads: Any) -> dict[int, Any]:
        """What workers answer of some images, by ordinal. Only those are asked who have any of them.

        Raises:
            SegmentsLostError: nobody has some of them any more; and as `ask`.
        """
        there = in_range(self.slices, images)
        if not there:
            return {}
        answer: dict[int, Any] = {}
        for part in self.ask(request, *payloads, slices=there):
            answer |= part
        return answer

    def _late_ones(self, calls: dict[Any, _Asked], done: Set[str]) -> list[Slice]:
        """What is to be asked of others as well, since a worker has not answered for long; who is first counts."""
        late = time.monotonic() - self.fleet.options.patience
        others: list[Slice] = []
        for one in calls.values():
            if one.since < late and one.worker not in self._slow:
                self._slow.add(one.worker)
                others += [there for there in one.slices if there.id not in done
                           and any(who not in self._slow for who in self.fleet.holders(there))]
        return others

    def _drop(self, calls: dict[Any, _Asked]) -> None:
        """Nobody waits any more for what is still computed."""
        if calls:
            self.fleet.transport.cancel(list(calls))
        for one in calls.values():
            self.fleet.transport.call(one.worker.handle, "drop", one.name)

    def _routed(self, slices: Sequence[Slice]) -> dict[Worker, list[Slice]]:
        """Whom to ask for what: a worker that was asked before, which may remember, else the one with least to do."""
        load: dict[Worker, int] = {}
        routed: dict[Worker, list[Slice]] = {}
        for one in slices:
            holders = self.fleet.holders(one)
            holders = [who for who in holders if who not in self._slow] or holders
            if not holders:
                self._routes.pop(one.id, None)
                raise SegmentsLostError(f"no machine of the cluster has the segment {one.name} at the moment; ask "
                                        "again when it is loaded elsewhere")
            worker = self._routes.get(one.id)
            if worker not in holders:
                worker = self._routes[one.id] = min(holders, key=lambda who: load.get(who, 0))
            assert worker is not None, "one of the holders"
            load[worker] = load.get(worker, 0) + one.images
            routed.setdefault(worker, []).append(one)
        return routed

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> CollectionError:
        return CollectionError(f"the cluster has not answered within {self._seconds:g} seconds; ask again when it has "
                               "less to do, or start more workers")
