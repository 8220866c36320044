"""The workers of a cluster: which segments they hold, and what takes the place of one that dies.

A state of a store is a row of slices. It can be searched once each segment is held somewhere. From then on a thread
looks now and then whether all workers live: a dead one is started again, on its machine or not at all where that has
gone, and what is held by too few machines is loaded where it is missing, while the others answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from delf.cluster.manifest import Manifest
from delf.cluster.options import FleetOptions
from delf.cluster.parts import MissingPartError, MissingWordsError, PartFacts, Slice, WordsKey, require_same
from delf.cluster.placement import placed
from delf.cluster.transport import Machine, Transport, WorkerLostError
from delf.errors import CollectionError, DelfError
from delf.index.asmk import Asmk
from delf.types import FloatArray

_POLL = 0.05  # seconds between two looks whether the client still waits
Progress = Callable[[int, int], None]


@dataclass(eq=False)
class Worker:
    """A worker, as the one who asks sees it. held: the ids of the slices that it has, ready to be searched."""

    machine: Machine
    handle: Any
    held: set[str] = field(default_factory=set)
    words: set[WordsKey] = field(default_factory=set)
    lost: bool = False


@dataclass(frozen=True, eq=False)
class Edition:
    """A state of a store, as it is searched. manifest: which it is; sent: the same, as workers are given it. prepared:
    the words by which its segments have lists.
    """

    manifest: Manifest
    sent: Any
    slices: tuple[Slice, ...]
    prepared: set[WordsKey] = field(default_factory=set)

    @property
    def images(self) -> int:
        """How many ordinals there are."""
        return self.slices[-1].base + self.slices[-1].images if self.slices else 0


@dataclass(frozen=True, eq=False)
class Lease:
    """As long as it lives, all workers can compare by some words."""

    key: WordsKey


class Fleet:
    """Starts workers, has them hold segments, and says who has which. Several threads may use it at once."""

    def __init__(self, transport: Transport, url: str, options: FleetOptions,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """told: is given a sentence when something has died, or cannot be loaded."""
        self.transport, self.options, self._url, self._told = transport, options, url, told
        self.workers: list[Worker] = []
        self.restarts = 0
        self.facts: dict[str, PartFacts] = {}
        self._words: dict[WordsKey, tuple[Any, Any]] = {}
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._editions: weakref.WeakSet[Edition] = weakref.WeakSet()
        self._failed: dict[str, str] = {}
        self._untaught: weakref.WeakKeyDictionary[Worker, str] = weakref.WeakKeyDictionary()
        self._lock, self._loading = threading.RLock(), threading.Lock()
        self._ended, self._closed = threading.Event(), False
        self._watch = threading.Thread(target=self._watching, name="delf-fleet", daemon=True)

    def start(self) -> None:
        """Start a worker on each machine, and look after them from now on.

        Raises:
            CollectionError: there is no machine, or one has another version of delf.
        """
        if not self.transport.machines():
            raise CollectionError("the cluster has no machine that lives; start one with 'ray start'")
        self._man()
        versions = {worker.machine.name: str(self._wait_for(self.transport.call(worker.handle, "about"))["version"])
                    for worker in self._living()}
        require_same(version("delf-retrieval"), versions)
        self._watch.start()

    # --- who has what

    def holders(self, there: Slice) -> list[Worker]:
        """The workers that have a segment."""
        with self._lock:
            return [one for one in self.workers if there.id in one.held and not one.lost]

    def lost(self, worker: Worker) -> None:
        """A worker does not answer any more."""
        with self._lock:
            first, worker.lost = not worker.lost, True
            worker.held = set()
        if first:
            self._told(f"a worker on {worker.machine.name} has died; others take over what it had")

    def dropped(self, worker: Worker, slices: Iterable[Slice]) -> None:
        """A worker does not have some segments that it was thought to have."""
        with self._lock:
            worker.held = worker.held - {one.id for one in slices}

    # --- states and words

    def load(self, manifest: Manifest, progress: Progress = lambda done, total: None) -> Edition:
        """A state, when each of its segments is held by some worker; those of other states stay.

        Raises:
            CollectionError: a segment cannot be fetched or read anywhere, and the text says why.
        """
        edition = Edition(manifest, self.transport.put(manifest), tuple(
            Slice(f"{one.name}-{one.facts.sha256[:16]}", one.name, 0, 0, one.images, one.alive)
            for one in manifest.segments))
        self._editions.add(edition)  # so that nobody lets go of what is loaded for it
        self._hold(edition, edition.slices, progress, urgent=True)
        slices, base, row = [], 0, 0
        for one in edition.slices:
            slices.append(Slice(one.id, one.name, base, row, one.images, one.alive))
            base, row = base + one.images, row + self.facts[one.id].features
        whole = Edition(manifest, edition.sent, tuple(slices))
        self._editions.add(whole)
        return whole

    def learn(self, edition: Edition, key: WordsKey, asmk: Asmk, weights: FloatArray | None = None) -> Lease:
        """Have all workers compare by some words, and make lists for a state; by other words they go on as before.

        Raises:
            CollectionError: a segment is on no worker that could be given the words, or its lists cannot be made, and
                the text says why.
        """
        lease = Lease(key)
        with self._lock:  # or what nobody has a lease for yet might be let go of in between
            self._leases.add(lease)
            if key not in self._words:
                self._words[key] = self.transport.put(asmk), self.transport.put(weights)
        self._teach()
        self._require_taught(edition, key)
        if key not in edition.prepared:
            with self._loading:
                calls = {self.transport.call(worker.handle, "prepare", one, [key]): worker for one in edition.slices
                         for worker in self.holders(one) if key in worker.words}
                problems = self._gather(calls, self.options.loading_seconds)
            if problems:
                raise CollectionError(f"lists of the visual words cannot be made on {problems[0]}")
            edition.prepared.add(key)
        return lease

    def teach_again(self, worker: Worker, key: WordsKey) -> bool:
        """A worker does not know some words that it was thought to know: whether it does now."""
        with self._lock:
            worker.words = worker.words - {key}
        self._teach([worker])
        return key in worker.words

    def _require_taught(self, edition: Edition, key: WordsKey) -> None:
        """Make sure that whatever is held by workers is held by one that knows some words."""
        holders = [self.holders(one) for one in edition.slices]
        lacking = [workers for workers in holders if workers and all(key not in one.words for one in workers)]
        if lacking:
            worker = lacking[0][0]
            raise CollectionError(f"{len(lacking):,} of {len(holders):,} segments of the store cannot be searched by "
                                  f"visual words, as {self._untaught.get(worker, 'their machines have died')}")

    def _hold(self, edition: Edition, slices: Sequence[Slice], progress: Progress = lambda done, total: None, *,
              urgent: bool = False) -> None:
        """Have workers hold segments. urgent: wait until each is held somewhere, and raise where one cannot be."""
        with self._loading:
            wanted = placed(slices, [one.machine.id for one in self._living()], self.options.replicas)
            missing = {worker: [one for one in slices if worker.machine.id in wanted[one.id]
                                and one.id not in worker.held] for worker in self._living()}
            own = version("delf-retrieval")
            calls = {self.transport.call(worker.handle, "hold", edition.sent, one, own): (worker, one)
                     for worker, parts in missing.items() for one in parts}
            total = len(calls)
            self._gather(calls, self.options.loading_seconds, lambda left: progress(total - left, total))
            lacking = [one for one in slices if not self.holders(one)]
            if urgent and lacking:
                why = self._failed.get(lacking[0].id, "no machine has answered")
                raise CollectionError(f"{len(lacking):,} of {len(slices):,} segments of the store cannot be loaded: "
                                      f"{why}")

    def _gather(self, calls: dict[Any, Any], seconds: float,
                left: Callable[[int], None] = lambda left: None) -> list[str]:
        """Wait for calls that hold or prepare segments, and note what has become of them; what of the latter failed."""
        end, problems = time.monotonic() + seconds, list[str]()
        while calls and time.monotonic() < end and not self._ended.is_set():
            for call in self.transport.wait(list(calls), 1.0):
                whom = calls.pop(call)
                worker, there = whom if isinstance(whom, tuple) else (whom, None)
                try:
                    facts = self.transport.result(call)
                except WorkerLostError:
                    self.lost(worker)
                except (MissingPartError, MissingWordsError):
                    pass  # let go of by now; who asks for it is told so again
                except DelfError as error:
                    if there is None:
                        problems.append(f"{worker.machine.name}: {error}")
                    elif self._failed.get(there.id) != str(error):
                        self._failed[there.id] = str(error)
                        self._told(f"{worker.machine.name} cannot load the segment {there.name}: {error}")
                else:
                    if there is not None:
                        self._held(worker, there, facts)
            left(len(calls))
        return problems

    def _held(self, worker: Worker, there: Slice, facts: PartFacts) -> None:
        if (facts.images, facts.alive) != (there.images, there.alive):
            self._failed[there.id] = f"it has {facts.alive:,} of {facts.images:,} images, and not what the store says"
            return
        with self._lock:
            self.facts[there.id] = facts
            worker.held = worker.held | {there.id}
            self._failed.pop(there.id, None)

    # --- workers that come and go

    def _living(self) -> list[Worker]:
        with self._lock:
            return [one for one in self.workers if not one.lost]

    def _man(self) -> None:
        """Have one worker on each machine that lives."""
        machines = self.transport.machines()
        with self._lock:
            there = {one.id for one in machines}
            for worker in self.workers:
                if worker.machine.id not in there and not worker.lost:
                    self.lost(worker)
            gone = [one for one in self.workers if one.lost]
            self.workers = [one for one in self.workers if not one.lost]
            manned = {one.machine.id for one in self.workers}
            new = [Worker(one, self.transport.start(one, self._url, self.options.cache))
                   for one in machines if one.id not in manned]
            self.workers += new
        for worker in gone:
            with contextlib.suppress(Exception):
                self.transport.stop(worker.handle)
        self.restarts += len(new)
        self._teach()

    def _teach(self, workers: Sequence[Worker] | None = None) -> None:
        """Have workers, by default all, know all words that are searched by."""
        with self._lock:
            words = dict(self._words)
            lessons = [(worker, key) for worker in (self.workers if workers is None else workers) for key in words
                       if key not in worker.words and not worker.lost]
        calls = {self.transport.call(worker.handle, "learn", key, *words[key]): (worker, key)
                 for worker, key in lessons}
        # Arguments of a call are whole values where they were put, so that each machine gets them once.
        for call, (worker, key) in calls.items():
            try:
                self._wait_for(call)
            except WorkerLostError:
                continue
            except Exception as error:  # the worker's own, or one of Ray's many: others may know them
                before, self._untaught[worker] = self._untaught.get(worker), (
                    f"{worker.machine.name} could not be given them: {error}")
                if before != self._untaught[worker]:
                    self._told(f"visual words: {self._untaught[worker]}")
            else:
                with self._lock:
                    worker.words = worker.words | {key}
                self._untaught.pop(worker, None)

    def _wait_for(self, call: Any) -> Any:
        end = time.monotonic() + self.options.loading_seconds
        while not self.transport.wait([call], 1.0):
            if time.monotonic() > end or self._ended.is_set():
                raise WorkerLostError("it does not answer")
        return self.transport.result(call)

    def abouts(self) -> dict[str, Any]:
        """What the worker of each machine says of itself, by the name of the machine; None where it does not answer."""
        calls = {self.transport.call(worker.handle, "about"): worker for worker in self._living()}
        said: dict[str, Any] = {}
        for call, worker in calls.items():
            name = f"{worker.machine.name} ({worker.machine.id[:8]})"
            said[name] = None
            with contextlib.suppress(WorkerLostError, DelfError):
                said[name] = self.transport.result(call) if self.transport.wait([call], 5.0) else None
        return said

    def look_after(self) -> None:
        """Replace what has died, and load what too few machines have."""
        calls = {self.transport.call(worker.handle, "about"): worker for worker in self._living()}
        done = set[Any]()
        end = time.monotonic() + max(5.0, 5 * self.options.watching)
        while len(done) < len(calls) and time.monotonic() < end:
            done |= set(self.transport.wait([one for one in calls if one not in done], 1.0))
        for call in done:
            try:
                self.transport.result(call)
            except WorkerLostError:
                self.lost(calls[call])
        self._man()
        for edition in list(self._editions):
            self._hold(edition, edition.slices)
        self._release()

    def _release(self) -> None:
        """Let workers let go of what no state has any more. Nothing is loaded meanwhile."""
        if not self._loading.acquire(blocking=False):
            return
        try:
            kept = {one.id: one.name for edition in list(self._editions) for one in edition.slices}
            if not kept:
                return
            with self._lock:
                words = {lease.key for lease in list(self._leases)}
                for key in set(self._words) - words:
                    del self._words[key]
            for worker in self._living():
                if worker.held - set(kept) or worker.words - words:
                    with self._lock:
                        worker.held, worker.words = worker.held & set(kept), worker.words & words
                    self.transport.call(worker.handle, "release", kept, list(words))
        finally:
            self._loading.release()

    def _watching(self) -> None:
        said = ""
        while not self._ended.wait(self.options.watching):
            try:
                self.look_after()
                said = ""
            except Exception as error:  # whatever the cluster does: the next look may find it well again
                before, said = said, f"{type(error).__name__}: {error}"
                if said != before and not self._ended.is_set():
                    self._told(f"looking after the workers has failed ({said}); it is tried again")

    def close(self) -> None:
        """End all workers; nothing where that was done."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._ended.set()
        if self._watch.is_alive():
            self._watch.join(timeout=10)
        for worker in self.workers:
            with contextlib.suppress(Exception):
                self.transport.stop(worker.handle)
        self.transport.close()
