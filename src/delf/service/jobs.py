"""Batches of photos that are added one after another, beside the requests that ask how far they are."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from delf.errors import BeingWrittenError, DelfError
from delf.service.adding import Outcome, add_waiting
from delf.service.library import Library
from delf.service.options import ServiceOptions
from delf.service.present import add_present
from delf.service.problems import Problem, not_found, too_many
from delf.service.spool import Incoming, Spool, Waiting
from delf.service.workers import Workers

Add = Callable[[Sequence[Waiting], Mapping[str, Any] | None, Callable[[int], bool]], list[Outcome]]
State = Literal["waiting", "running", "cancelling", "done", "cancelled", "failed"]

AT_ONCE = 32  # photos that become one segment; other changes get their turn between two of these
KEPT = 100  # jobs that have ended, and are still told of
_PAUSE = 1.0  # seconds between two attempts, while another process writes
_PHOTO = 1.0  # seconds that a photo takes, before any has been added


class Batch:
    """A job: photos that are added one after another. What is added stays, whatever becomes of the rest."""

    def __init__(self, photos: Sequence[Waiting], metadata: Mapping[str, Any] | None, add: Add,
                 drop: Callable[[Waiting], None] = lambda photo: None) -> None:
        """add: adds some of the photos. drop: is called with each that does not wait any more."""
        self.id = secrets.token_hex(16)
        self.left, self.metadata, self.total = list(photos), metadata, len(photos)
        self.add, self.drop = add, drop
        self.state: State = "waiting"
        self.sentence = ""
        self.outcomes: list[Outcome] = []
        self._counted = 0

    @property
    def done(self) -> int:
        """How many photos were looked at."""
        return len(self.outcomes) + self._counted

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "cancelled", "failed")

    def count(self, done: int) -> bool:
        """So many more than there are outcomes were looked at; whether to go on."""
        self._counted = done
        return self.state != "cancelling"

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """So far it has come."""
        self._counted = 0
        self.outcomes += sorted(outcomes, key=lambda one: one.number)  # which follow those that were there
        self.sentence = ""

    def cancel(self) -> None:
        """End it after the photo that is looked at now."""
        if not self.ended:
            self.state = "cancelling"

    def end(self, state: State, sentence: str = "") -> None:
        """Nothing more will happen."""
        self.state, self.sentence, self._counted = state, sentence, 0


class Jobs:
    """The batches of one collection: those that wait, the one that is being added, and the last that have ended."""

    def __init__(self, library: Library, options: ServiceOptions, changing: Workers) -> None:
        """changing: in which the collection is written."""
        self._library, self._options, self._changing = library, options, changing
        self._jobs: OrderedDict[str, Batch] = OrderedDict()
        self._coming = 0
        self._task: asyncio.Task[None] | None = None
        self._mean = _PHOTO
        self.spool = None if options.uploads is None else Spool(options.uploads, options)

    @property
    def listed(self) -> list[Batch]:
        """All that are known, the oldest first."""
        return list(self._jobs.values())

    @property
    def unfinished(self) -> int:
        """How many are not done, those that come in included."""
        return self._coming + sum(not job.ended for job in self._jobs.values())

    @contextlib.contextmanager
    def coming(self) -> Iterator[Incoming]:
        """Room for a batch that comes in. What of it is no job at the end of the block is deleted.

        Raises:
            Problem: there are as many as there may be, or the service takes no photos.
        """
        if self.spool is None:
            raise Problem(403, "read_only", "this service takes no photos: start it with --uploads FOLDER")
        self._require_room()
        self.spool.open()
        self._coming += 1
        incoming = Incoming(self.spool)
        try:
            yield incoming
        finally:
            self._coming -= 1
            incoming.discard()

    def begin(self, incoming: Incoming, metadata: Mapping[str, Any] | None) -> Batch:
        """Make a job of a batch that has come in. Raises `Problem` where it has no photo."""
        if not incoming.photos:
            raise Problem(422, "option", "give photos in the field 'image', which may be repeated")
        assert self.spool is not None, "photos came in"
        job = Batch(incoming.photos, metadata, partial(add_waiting, self._library, self._options), self.spool.drop)
        incoming.photos = []
        return self._begun(job)

    def begin_present(self, photos: Sequence[Waiting], metadata: Mapping[str, Any] | None) -> Batch:
        """Make a job of photos that stay where they lie. Raises `Problem` where there are none, or too many jobs."""
        if not photos:
            raise Problem(422, "path", "there are no photos at these paths")
        self._require_room()
        return self._begun(Batch(photos, metadata, partial(add_present, self._library)))

    def _begun(self, job: Batch) -> Batch:
        self._jobs[job.id] = job
        self._forget()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return job

    def _require_room(self) -> None:
        if self.unfinished >= self._options.jobs:
            raise too_many(f"{self.unfinished} batches of photos are being added already, and no more may be at once; "
                           "send this one again later", self._seconds())

    def find(self, id: str) -> Batch:
        """A job. Raises `Problem` where there is none of this name (any more)."""
        if id not in self._jobs:
            raise not_found(f"the service knows no job {id[:64]!r}. It forgets jobs when it ends, and the oldest "
                            f"beyond {KEPT}; what they have added stays in the collection. Send the photos again: "
                            "those that are there are not added twice")
        return self._jobs[id]

    def cancel(self, id: str) -> Batch:
        """End a job early; one that has ended stays as it is. Raises as `find`."""
        job = self.find(id)
        if job.state == "waiting":
            self._end(job, "cancelled", "This batch was cancelled before any of its photos was added.")
        job.cancel()
        return job

    async def close(self) -> None:
        """End all; what is added by now stays."""
        for job in self.listed:
            if not job.ended:
                self.cancel(job.id)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self.spool is not None:
            self.spool.close()

    async def _work(self) -> None:
        while (job := next((one for one in self._jobs.values() if one.state == "waiting"), None)) is not None:
            job.state = "running"
            try:
                await self._add(job)
            except DelfError as error:
                self._end(job, "failed", f"This batch was ended: {error}")
            except Exception as error:  # so that the jobs behind it are done all the same
                asyncio.get_running_loop().call_exception_handler({
                    "message": "a batch of photos has failed", "exception": error, "task": self._task})
                self._end(job, "failed", "This batch was ended by an error that should not have happened; the log of "
                                         "the service says more.")

    async def _add(self, job: Batch) -> None:
        """Add the photos of a job, some at a time. While another process writes, it waits."""
        while job.left and job.state == "running":
            some, start = job.left[:AT_ONCE], time.monotonic()
            try:
                found = await self._changing.run(partial(self._added, job, some), patient=True)
            except BeingWrittenError as error:
                job.sentence = f"The batch waits: {str(error).partition(';')[0]}."
                await asyncio.sleep(_PAUSE)
                continue
            except Problem as problem:
                if problem.status not in (429, 503):
                    raise
                await asyncio.sleep(_PAUSE)  # other changes wait
                continue
            self._mean = (time.monotonic() - start) / len(some)
            job.settle(found)
            self._drop(job, some)
        if job.state == "cancelling" and job.done < job.total:
            self._end(job, "cancelled", f"This batch was cancelled when {job.done:,} of {job.total:,} photos had been "
                                        "looked at; those that were added stay in the collection.")
        else:
            self._end(job, "done")

    def _added(self, job: Batch, some: Sequence[Waiting], _: object) -> list[Outcome]:
        return job.add(some, job.metadata, job.count)

    def _end(self, job: Batch, state: State, sentence: str = "") -> None:
        self._drop(job, job.left)
        job.end(state, sentence)

    def _drop(self, job: Batch, photos: Sequence[Waiting]) -> None:
        for photo in photos:
            job.drop(photo)
        job.left = job.left[len(photos):]

    def _forget(self) -> None:
        """Keep no more of those that have ended than may be."""
        ended = [job.id for job in self._jobs.values() if job.ended]
        for id in ended[: max(0, len(ended) - KEPT)]:
            del self._jobs[id]

    def _seconds(self) -> float:
        """After which one more batch may have room."""
        running = min((job.total - job.done for job in self._jobs.values() if not job.ended), default=1)
        return min(60.0, self._mean * running)
