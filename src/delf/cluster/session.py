"""One piece of work on a state of a store: one worker answers for each segment, and another one if the first dies."""

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
    """The check of work that nobody may end."""


class SegmentsLostError(CollectionError):
    """No living worker holds a segment any more with which the work began, so that the work has to begin again."""


@dataclass(frozen=True)
class _Asked:
    """A call in progress. name: by which its worker knows it. since: when it began (`time.monotonic`)."""

    worker: Worker
    slices: list[Slice]
    name: str
    since: float

    @property
    def ids(self) -> set[str]:
        """The ids of its segments."""
        return {segment.id for segment in self.slices}


class Session:
    """Sends requests for a state of a store to the workers of a fleet.

    It works with the segments that some worker holds when it begins, `slices`. `missing` is the number of images in all
    other segments. So an answer is that of one collection with the photos of `slices`.
    """

    def __init__(self, fleet: Fleet, edition: Edition, check: Check = unchecked, seconds: float | None = None) -> None:
        """check: called now and then; an error that it raises ends the work. seconds: time limit of the work."""
        self.fleet, self.edition, self._check = fleet, edition, check
        self._seconds = fleet.options.seconds if seconds is None else seconds
        self._end = time.monotonic() + self._seconds
        self._routes: dict[str, Worker] = {}
        self._slow: set[Worker] = set()
        self.keeps: object = None  # holds the lease of the words that the work compares by
        held = {segment.id: bool(fleet.holders(segment)) for segment in edition.slices}
        self.slices = [segment for segment in edition.slices if held[segment.id]]
        self.missing = sum(segment.alive for segment in edition.slices if not held[segment.id])

    def token(self) -> str:
        """A new name, for a call or for the candidates that a request finds."""
        return uuid.uuid4().hex

    def put(self, value: Any) -> Any:
        """Make a value a payload of requests, which is sent to each machine once."""
        return self.fleet.transport.put(value)

    def ask(self, request: Request, *payloads: Any, slices: Sequence[Slice] | None = None) -> list[Any]:
        """The answers of workers to a request, in no order. Together they cover `slices`, by default all segments.

        Raises:
            SegmentsLostError: no worker holds one of the segments any more. CollectionError: the time is over, or no
                machine with a segment can be given the words of the search. Also what `check` and the request raise.
        """
        wanted = {segment.id: segment for segment in (self.slices if slices is None else slices)}
        pending, done, answers = list(wanted.values()), set[str](), []
        calls: dict[Any, _Asked] = {}
        try:
            while len(done) < len(wanted):
                for worker, parts in self._routed(pending).items():
                    asked = _Asked(worker, parts, self.token(), time.monotonic())
                    calls[self.fleet.transport.call(worker.handle, "ask", request, parts, asked.name, self._left(),
                                                    *payloads)] = asked
                for call in self.fleet.transport.wait(list(calls), _POLL):
                    asked = calls.pop(call)
                    answer = self._answer(call, asked)
                    if answer is not None and done.isdisjoint(asked.ids):  # another worker may have been quicker
                        answers.append(answer)
                        done |= asked.ids
                self._drop({call: calls.pop(call) for call in list(calls) if calls[call].ids <= done})
                under_way = done.union(*(asked.ids for asked in calls.values()))
                pending = [segment for segment in wanted.values() if segment.id not in under_way]
                pending += self._late_segments(calls, done)
                self._check()
                self._left()
        finally:
            self._drop(calls)
        return answers

    def _answer(self, call: Any, asked: _Asked) -> Any:
        """The result of a call that has ended; None if its worker has died, or lacks the segments or words."""
        try:
            return self.fleet.transport.result(call)
        except WorkerLostError:
            self.fleet.lost(asked.worker)
        except MissingPartError:
            self.fleet.dropped(asked.worker, asked.slices)
        except MissingWordsError as error:
            self._taught_again(asked, error.key)
        except TooLateError:
            raise self._late() from None
        return None

    def _taught_again(self, asked: _Asked, key: WordsKey) -> None:
        """Give a worker the words that it lacks; if that fails, ask other workers from now on."""
        if self.fleet.teach_again(asked.worker, key):
            return
        self._slow.add(asked.worker)
        for segment in asked.slices:
            if all(worker in self._slow for worker in self.fleet.holders(segment)):
                raise CollectionError(f"no machine that has the segment {segment.name} can be given the visual words "
                                      "that it is to be searched by; ask again when one has been started anew")

    def of(self, request: Request, images: IntArray, *payloads: Any) -> dict[int, Any]:
        """The answers of workers for some images, by ordinal. Only workers that have such an image are asked.

        Raises:
            As `ask`.
        """
        segments = in_range(self.slices, images)
        if not segments:
            return {}
        answer: dict[int, Any] = {}
        for part in self.ask(request, *payloads, slices=segments):
            answer |= part
        return answer

    def _late_segments(self, calls: dict[Any, _Asked], done: Set[str]) -> list[Slice]:
        """Segments whose worker has not answered for `patience` seconds, and that another worker holds: the latter is
        asked as well, and the first answer counts.
        """
        late = time.monotonic() - self.fleet.options.patience
        segments: list[Slice] = []
        for asked in calls.values():
            if asked.since < late and asked.worker not in self._slow:
                self._slow.add(asked.worker)
                segments += [segment for segment in asked.slices if segment.id not in done
                             and any(worker not in self._slow for worker in self.fleet.holders(segment))]
        return segments

    def _drop(self, calls: dict[Any, _Asked]) -> None:
        """End calls whose answers are not needed any more."""
        if calls:
            self.fleet.transport.cancel(list(calls))
        for asked in calls.values():
            self.fleet.transport.call(asked.worker.handle, "drop", asked.name)

    def _routed(self, slices: Sequence[Slice]) -> dict[Worker, list[Slice]]:
        """The worker to ask for each segment: the one that was asked before, since it may have kept candidates, or else
        the one with the fewest images to search.
        """
        load: dict[Worker, int] = {}
        routed: dict[Worker, list[Slice]] = {}
        for segment in slices:
            holders = self.fleet.holders(segment)
            holders = [worker for worker in holders if worker not in self._slow] or holders
            if not holders:
                self._routes.pop(segment.id, None)
                raise SegmentsLostError(f"no machine of the cluster has the segment {segment.name} at the moment; ask "
                                        "again when it is loaded elsewhere")
            worker = self._routes.get(segment.id)
            if worker not in holders:
                worker = self._routes[segment.id] = min(holders, key=lambda holder: load.get(holder, 0))
            assert worker is not None, "one of the holders"
            load[worker] = load.get(worker, 0) + segment.images
            routed.setdefault(worker, []).append(segment)
        return routed

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> CollectionError:
        return CollectionError(f"the cluster has not answered within {self._seconds:g} seconds; ask again when it has "
                               "less to do, or start more workers")
