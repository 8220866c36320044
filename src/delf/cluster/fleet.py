"""The workers of a cluster: which segments they hold, and how dead workers are replaced.

A state of a store is a row of segments (`Slice`). It can be searched once each segment is held by some worker. From
then on a thread checks now and then that all workers are alive. A dead worker is started again if its machine is alive,
and segments that too few machines hold are loaded on others, while the remaining workers answer.
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

Progress = Callable[[int, int], None]


@dataclass(eq=False)
class Worker:
    """A worker as the engine sees it.

    handle: by which the transport calls it. held: ids of the segments that it can search. words: the visual words that
    it knows. lost: it has died.
    """

    machine: Machine
    handle: Any
    held: set[str] = field(default_factory=set)
    words: set[WordsKey] = field(default_factory=set)
    lost: bool = False


@dataclass(frozen=True, eq=False)
class Edition:
    """A state of a store that is searched.

    manifest: its manifest. sent: the manifest as the transport passes it to workers. slices: its segments. prepared:
    the visual words for which its segments have lists.
    """

    manifest: Manifest
    sent: Any
    slices: tuple[Slice, ...]
    prepared: set[WordsKey] = field(default_factory=set)

    @property
    def images(self) -> int:
        """How many ordinals it has: the images of all segments."""
        return self.slices[-1].base + self.slices[-1].images if self.slices else 0


@dataclass(frozen=True, eq=False)
class Lease:
    """As long as it lives, all workers keep some visual words."""

    key: WordsKey


class Fleet:
    """Starts workers, assigns segments to them, and knows which has which. Several threads may use it at once."""

    def __init__(self, transport: Transport, url: str, options: FleetOptions,
                 told: Callable[[str], None] = lambda sentence: None) -> None:
        """url: the address of the store. told: called with a sentence when something has died or cannot be loaded."""
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
        """Start a worker on each machine, and begin to watch them.

        Raises:
            CollectionError: the cluster has no machine, or one has another version of delf.
        """
        if not self.transport.machines():
            raise CollectionError("the cluster has no living machine; start one with 'ray start'")
        self._man()
        versions = {worker.machine.name: str(self._wait_for(self.transport.call(worker.handle, "about"))["version"])
                    for worker in self._living()}
        require_same(version("delf-retrieval"), versions)
        self._watch.start()

    # --- who has what

    def holders(self, segment: Slice) -> list[Worker]:
        """The living workers that hold a segment."""
        with self._lock:
            return [worker for worker in self.workers if segment.id in worker.held and not worker.lost]

    def lost(self, worker: Worker) -> None:
        """Note that a worker has died."""
        with self._lock:
            first, worker.lost = not worker.lost, True
            worker.held = set()
        if first:
            self._told(f"a worker on {worker.machine.name} has died; others take over what it had")

    def dropped(self, worker: Worker, slices: Iterable[Slice]) -> None:
        """Note that a worker does not hold some segments."""
        with self._lock:
            worker.held = worker.held - {segment.id for segment in slices}

    # --- states and words

    def load(self, manifest: Manifest, progress: Progress = lambda done, total: None) -> Edition:
        """Load a state, and return it when each of its segments is held by some worker. Other states stay loaded.

        Raises:
            CollectionError: no machine can fetch or read a segment; the message says why.
        """
        edition = Edition(manifest, self.transport.put(manifest), tuple(
            Slice(f"{entry.name}-{entry.facts.sha256[:16]}", entry.name, 0, 0, entry.images, entry.alive)
            for entry in manifest.segments))
        self._editions.add(edition)  # so that its segments are not released while they are loaded
        self._hold(edition, edition.slices, progress, urgent=True)
        slices, base, row = [], 0, 0
        for segment in edition.slices:
            slices.append(Slice(segment.id, segment.name, base, row, segment.images, segment.alive))
            base, row = base + segment.images, row + self.facts[segment.id].features
        whole = Edition(manifest, edition.sent, tuple(slices))
        self._editions.add(whole)
        return whole

    def learn(self, edition: Edition, key: WordsKey, asmk: Asmk, weights: FloatArray | None = None) -> Lease:
        """Give all workers some visual words, and have them make lists for a state. Other words stay as they are.

        Raises:
            CollectionError: no worker with a segment could take the words, or its lists cannot be made; the message
                says why.
        """
        lease = Lease(key)
        with self._lock:  # otherwise `_release` could drop words whose lease is just being made
            self._leases.add(lease)
            if key not in self._words:
                self._words[key] = self.transport.put(asmk), self.transport.put(weights)
        self._teach()
        self._require_taught(edition, key)
        if key not in edition.prepared:
            with self._loading:
                calls = {self.transport.call(worker.handle, "prepare", segment, [key]): worker
                         for segment in edition.slices for worker in self.holders(segment) if key in worker.words}
                problems = self._gather(calls, self.options.loading_seconds)
            if problems:
                raise CollectionError(f"lists of the visual words cannot be made on {problems[0]}")
            edition.prepared.add(key)
        return lease

    def teach_again(self, worker: Worker, key: WordsKey) -> bool:
        """Give some words again to a worker that has lost them. Returns whether it knows them now."""
        with self._lock:
            worker.words = worker.words - {key}
        self._teach([worker])
        return key in worker.words

    def _require_taught(self, edition: Edition, key: WordsKey) -> None:
        """Raise if a segment is held only by workers that do not know some words."""
        holders = [self.holders(segment) for segment in edition.slices]
        lacking = [workers for workers in holders if workers and all(key not in worker.words for worker in workers)]
        if lacking:
            worker = lacking[0][0]
            raise CollectionError(f"{len(lacking):,} of {len(holders):,} segments of the store cannot be searched by "
                                  f"visual words, as {self._untaught.get(worker, 'their machines have died')}")

    def _hold(self, edition: Edition, slices: Sequence[Slice], progress: Progress = lambda done, total: None, *,
              urgent: bool = False) -> None:
        """Have workers load segments, and wait for them. urgent: raise if a segment is held by no worker then."""
        with self._loading:
            wanted = placed(slices, [worker.machine.id for worker in self._living()], self.options.replicas)
            missing = {worker: [segment for segment in slices if worker.machine.id in wanted[segment.id]
                                and segment.id not in worker.held] for worker in self._living()}
            own = version("delf-retrieval")
            calls = {self.transport.call(worker.handle, "hold", edition.sent, segment, own): (worker, segment)
                     for worker, segments in missing.items() for segment in segments}
            total = len(calls)
            self._gather(calls, self.options.loading_seconds, lambda left: progress(total - left, total))
            lacking = [segment for segment in slices if not self.holders(segment)]
            if urgent and lacking:
                why = self._failed.get(lacking[0].id, "no machine has answered")
                raise CollectionError(f"{len(lacking):,} of {len(slices):,} segments of the store cannot be loaded: "
                                      f"{why}")

    def _gather(self, calls: dict[Any, Any], seconds: float,
                left: Callable[[int], None] = lambda left: None) -> list[str]:
        """Wait for calls of `hold` and `prepare`, and note their results. Returns why calls of `prepare` failed.

        calls: by call, the worker and the segment that it holds, or the worker alone for `prepare`.
        """
        end, problems = time.monotonic() + seconds, list[str]()
        while calls and time.monotonic() < end and not self._ended.is_set():
            for call in self.transport.wait(list(calls), 1.0):
                target = calls.pop(call)
                worker, segment = target if isinstance(target, tuple) else (target, None)
                try:
                    facts = self.transport.result(call)
                except WorkerLostError:
                    self.lost(worker)
                except (MissingPartError, MissingWordsError):
                    pass  # released meanwhile; a request for it will meet the same error
                except DelfError as error:
                    if segment is None:
                        problems.append(f"{worker.machine.name}: {error}")
                    elif self._failed.get(segment.id) != str(error):
                        self._failed[segment.id] = str(error)
                        self._told(f"{worker.machine.name} cannot load the segment {segment.name}: {error}")
                else:
                    if segment is not None:
                        self._held(worker, segment, facts)
            left(len(calls))
        return problems

    def _held(self, worker: Worker, segment: Slice, facts: PartFacts) -> None:
        if (facts.images, facts.alive) != (segment.images, segment.alive):
            self._failed[segment.id] = f"it has {facts.alive:,} of {facts.images:,} images, and not what the store says"
            return
        with self._lock:
            self.facts[segment.id] = facts
            worker.held = worker.held | {segment.id}
            self._failed.pop(segment.id, None)

    # --- workers that come and go

    def _living(self) -> list[Worker]:
        with self._lock:
            return [worker for worker in self.workers if not worker.lost]

    def _man(self) -> None:
        """Start a worker on each living machine that has none, and forget dead workers."""
        machines = self.transport.machines()
        with self._lock:
            alive = {machine.id for machine in machines}
            for worker in self.workers:
                if worker.machine.id not in alive and not worker.lost:
                    self.lost(worker)
            gone = [worker for worker in self.workers if worker.lost]
            self.workers = [worker for worker in self.workers if not worker.lost]
            manned = {worker.machine.id for worker in self.workers}
            new = [Worker(machine, self.transport.start(machine, self._url, self.options.cache))
                   for machine in machines if machine.id not in manned]
            self.workers += new
        for worker in gone:
            with contextlib.suppress(Exception):
                self.transport.stop(worker.handle)
        self.restarts += len(new)
        self._teach()

    def _teach(self, workers: Sequence[Worker] | None = None) -> None:
        """Give workers, by default all, the words that they lack."""
        with self._lock:
            words = dict(self._words)
            lessons = [(worker, key) for worker in (self.workers if workers is None else workers) for key in words
                       if key not in worker.words and not worker.lost]
        calls = {self.transport.call(worker.handle, "learn", key, *words[key]): (worker, key)
                 for worker, key in lessons}
        # The transport sends values that were put to each machine once.
        for call, (worker, key) in calls.items():
            try:
                self._wait_for(call)
            except WorkerLostError:
                continue
            except Exception as error:  # the worker's own, or one of Ray's many; other workers may take the words
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
        """`Worker.about` of each machine, by the name of the machine; None if its worker does not answer."""
        calls = {self.transport.call(worker.handle, "about"): worker for worker in self._living()}
        abouts: dict[str, Any] = {}
        for call, worker in calls.items():
            name = f"{worker.machine.name} ({worker.machine.id[:8]})"
            abouts[name] = None
            with contextlib.suppress(WorkerLostError, DelfError):
                abouts[name] = self.transport.result(call) if self.transport.wait([call], 5.0) else None
        return abouts

    def look_after(self) -> None:
        """Replace dead workers, and load segments that too few machines hold."""
        calls = {self.transport.call(worker.handle, "about"): worker for worker in self._living()}
        done = set[Any]()
        end = time.monotonic() + max(5.0, 5 * self.options.watching)
        while len(done) < len(calls) and time.monotonic() < end:
            done |= set(self.transport.wait([call for call in calls if call not in done], 1.0))
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
        """Have workers release segments that no state has, and words without a lease. Does nothing during loading."""
        if not self._loading.acquire(blocking=False):
            return
        try:
            kept = {segment.id: segment.name for edition in list(self._editions) for segment in edition.slices}
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
        failure = ""
        while not self._ended.wait(self.options.watching):
            try:
                self.look_after()
                failure = ""
            except Exception as error:  # of any kind; the cluster may be well again at the next look
                before, failure = failure, f"{type(error).__name__}: {error}"
                if failure != before and not self._ended.is_set():
                    self._told(f"looking after the workers has failed ({failure}); it is tried again")

    def close(self) -> None:
        """End all workers. A second call does nothing."""
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
