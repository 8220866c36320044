"""Pieces given out to the nodes of a cluster, and what is done where one is lost.

Tasks of Ray, each of which says as it goes how far it is (a generator): so one place knows which node has which piece,
how many photos are done, and which piece stands still. Ray Data would move the photos or the features through its
object store between its steps; here a piece is read, extracted and written by one process, and only what is said of
it comes back. No more pieces are given out than there are cores for, so that memory does not grow with the job.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from delf.cluster.connecting import ClusterError
from delf.cluster.listing import source_of
from delf.cluster.pieces import Piece, PieceReport
from delf.cluster.work import Job, UnreachableError, index_piece
from delf.errors import DelfError, OptionError
from delf.settings import Options

TOLD_EVERY = 1.0  # seconds between what a worker says
HOPELESS = 24  # failures without a piece that was done, after which it is not the photos
ENOUGH = 3  # pieces that say how long one takes


@dataclass(frozen=True)
class ClusterOptions(Options):
    """How a job is spread over a cluster.

    piece: photos in a piece, on average. cores: that each worker takes, and the threads that it computes with. gpus:
    of a node that each worker takes, which may be a part of one; 0 for none. device: on which workers compute the
    network of a model, such as cuda. batch: photos of one size that are computed together there; None leaves it to the
    extractor. attempts: how often a piece is tried before its halves
    are. patience: seconds without a sign of life after which a piece is taken to stand still. slow: how many times as
    long as usual a piece takes until another worker begins it too, when there is nothing else to do.
    """

    piece: int = 512
    cores: int = 1
    gpus: float = 0.0
    device: str = "cpu"
    batch: int | None = None
    attempts: int = 3
    patience: float = 600.0
    slow: float = 3.0

    def __post_init__(self) -> None:
        for name in ("piece", "cores", "attempts"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise OptionError(f"{name} is a whole number of 1 or more, not {getattr(self, name)!r}")
        for name in ("gpus", "patience", "slow"):
            if not isinstance(getattr(self, name), (int, float)) or not getattr(self, name) >= 0:
                raise OptionError(f"{name} is a number of 0 or more, not {getattr(self, name)!r}")
        if self.batch is not None and (type(self.batch) is not int or self.batch < 1):
            raise OptionError(f"batch is a whole number of 1 or more, not {self.batch!r}")


@dataclass
class _Run:
    """One attempt at a piece. photos: done by now. node, and its id in the cluster: once they are known."""

    piece: Piece
    task: Any
    began: float
    heard: float
    node: str = ""
    node_id: str = ""
    photos: int = 0
    cancelled: bool = False


@dataclass
class Faults:
    """What went wrong and was made good, to be told at the end: by node, pieces that were lost there, that stood still,
    or that were slow; and why a node could not do its part.
    """

    lost: Counter[str] = field(default_factory=Counter)
    still: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)
    unreachable: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One for each node and kind of fault."""
        return [*(f"{node} lost {_pieces(count)}, which {_were(count)} done elsewhere" for node, count in
                  sorted(self.lost.items())),
                *(f"{_pieces(count)} stood still on {node}, and {_were(count)} begun anew" for node, count in
                  sorted(self.still.items())),
                *(f"{node} was slow: {_pieces(count)} of it {_were(count)} begun elsewhere as well" for node, count in
                  sorted(self.slow.items())),
                *(f"{node} cannot do its part: {why}" for node, why in sorted(self.unreachable.items()))]


class Runner:
    """Does the pieces of a job; `reports` gives what became of each as it is done."""

    def __init__(self, ray: Any, job: Job, options: ClusterOptions,
                 progress: Callable[[int], None] = lambda photos: None) -> None:
        """progress: called with the number of photos done by now."""
        self._ray, self._options, self._progress = ray, options, progress
        self._job = ray.put(job)
        self._task = ray.remote(**_needs(options))(_work)
        self._running: dict[Any, _Run] = {}
        self._again: deque[Piece] = deque()
        self._bad: defaultdict[str, set[str]] = defaultdict(set)  # nodes that had a piece, by its id, and lost it
        self._good: Counter[str] = Counter()  # nodes that have done pieces
        self._failures: Counter[str] = Counter()  # by the id of a piece
        self._done: set[str] = set()
        self._seconds: list[float] = []
        self._photos, self._since = 0, time.monotonic()
        self.faults = Faults()

    def reports(self, pieces: Iterable[Piece]) -> Iterator[PieceReport]:
        """Do pieces, which are asked for as there is room for them. A piece that is split is told of before its halves.

        Raises:
            DelfError: the work cannot go on, as where the store cannot be written; what is done stays.
        """
        waiting = iter(pieces)
        try:
            while True:
                more = self._fill(waiting)
                if not self._running and not more:
                    return
                yield from self._heard()
                self._look_after(idle=not more)
        finally:
            for run in self._running.values():
                self._cancel(run)

    def _fill(self, waiting: Iterator[Piece]) -> bool:
        """Give out pieces as long as there is room; whether there may be more."""
        room = self._room()
        while len(self._running) < room:
            piece = self._again.popleft() if self._again else next(waiting, None)
            if piece is None:
                return False
            self._begin(piece)
        return True

    def _room(self) -> int:
        """How many pieces the cluster can do at once, by what it has now; one more, so that a new node finds work."""
        there = self._ray.cluster_resources()
        rooms = [there.get("CPU", 0) / self._options.cores]
        if self._options.gpus:
            rooms.append(there.get("GPU", 0) / self._options.gpus)
        return int(min(rooms)) + 1

    def _begin(self, piece: Piece) -> None:
        now, bad = time.monotonic(), self._bad.get(piece.id)
        task = (self._elsewhere(bad) if bad else self._task).remote(self._job, piece)
        self._running[task] = _Run(piece, task, now, now)

    def _elsewhere(self, bad: set[str]) -> Any:
        """The task, for a node that has done pieces and not lost this one, if there is any and it has room."""
        good = [node for node, _ in self._good.most_common() if node not in bad]
        if not good:
            return self._task
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return self._task.options(scheduling_strategy=strategy(node_id=good[0], soft=True))

    def _heard(self) -> Iterator[PieceReport]:
        """What workers have said, after a second at most."""
        tasks = list(self._running)
        self._ray.wait(tasks, num_returns=1, timeout=TOLD_EVERY)
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        for task in ready:
            run = self._running.get(task)
            report = None if run is None else self._said(run)
            if report is not None:
                yield report
        under_way = {run.piece.id: run.photos for run in self._running.values()}
        self._progress(self._photos + sum(under_way.values()))

    def _said(self, run: _Run) -> PieceReport | None:
        """The next thing that a worker says; what became of its piece, if that is it."""
        try:
            said = self._ray.get(next(run.task))
        except StopIteration:
            self._running.pop(run.task, None)
            return None
        except Exception as error:  # the worker's own, or one of Ray's many
            return self._failed(run, error)
        run.heard = time.monotonic()
        if isinstance(said, tuple):
            run.node, run.node_id = said
        elif isinstance(said, int):
            run.photos = said
        elif isinstance(said, PieceReport):
            self._running.pop(run.task, None)
            return self._finished(run, said)
        return None

    def _finished(self, run: _Run, report: PieceReport) -> PieceReport | None:
        if run.piece.id in self._done:
            return None
        self._done.add(run.piece.id)
        self._seconds.append(time.monotonic() - run.began)
        self._good[run.node_id] += 1
        self._photos += len(run.piece.photos)
        for other in [one for one in self._running.values() if one.piece.id == run.piece.id]:
            self._cancel(other)
        return report

    def _failed(self, run: _Run, error: BaseException) -> PieceReport | None:
        """An attempt that did not come to its end: the piece is tried again, or in halves, or its photo is left out."""
        self._running.pop(run.task, None)
        piece, cause = run.piece, getattr(error, "cause", None) or error
        alike = any(other.piece.id == piece.id for other in self._running.values())
        if piece.id in self._done or (alike and run.cancelled):
            return None
        node = run.node or "a node that had not begun"
        self._bad[piece.id].add(run.node_id)
        self._good.pop(run.node_id, None)  # until it has done another one
        if isinstance(cause, UnreachableError):
            self.faults.unreachable[node] = str(cause)
        elif isinstance(cause, DelfError) and self._failures[piece.id] + 1 >= self._options.attempts:
            raise cause  # the store, or the model: what no other piece will do better
        elif not run.cancelled:
            self.faults.lost[node] += 1
        self._failures[piece.id] += 1
        if not self._seconds and self._failures.total() >= HOPELESS:
            raise ClusterError(f"no piece could be done, and the last one failed with {_reason(cause)}: see that delf "
                               "is installed on all nodes as it is here, and has memory there") from error
        if alike:
            return None
        if self._failures[piece.id] < self._options.attempts:
            self._again.append(piece)
            return None
        return self._given_up(piece, cause, node)

    def _given_up(self, piece: Piece, cause: BaseException, node: str) -> PieceReport:
        self._done.add(piece.id)
        if isinstance(cause, UnreachableError):
            if not self._seconds:
                raise cause
            self._photos += len(piece.photos)
            return PieceReport(piece.id, skipped=tuple((source_of(one), str(cause)) for one in piece.photos), node=node)
        if len(piece.photos) > 1:
            for half in piece.halves():
                self._failures[half.id] = self._options.attempts - 1  # one attempt, and then its halves
                self._again.append(half)
            return PieceReport(piece.id, split=True, node=node)
        self._photos += 1
        source = source_of(piece.photos[0])
        return PieceReport(piece.id, node=node, skipped=((source, f"{source} ended the process that read it, or took "
                                                          f"too long ({_reason(cause)}): leave it out."),))

    def _look_after(self, *, idle: bool) -> None:
        """End what stands still; begin what is slow a second time where there is nothing else to do."""
        now, begun = time.monotonic(), [run for run in self._running.values() if run.node and not run.cancelled]
        for run in begun:
            if now - run.heard > self._options.patience:
                self.faults.still[run.node] += 1
                self._cancel(run)
        if not begun and not self._done and now - self._since > self._options.patience and not self._is_feasible():
            raise ClusterError(f"the cluster has no node with {self._options.cores} cores"
                               f"{' and a GPU' if self._options.gpus else ''}: start one, or ask for less")
        if idle and len(self._seconds) >= ENOUGH and len(self._running) < self._room() - 1:
            late = max(self._options.slow * statistics.median(self._seconds), 2 * TOLD_EVERY)
            times = Counter(run.piece.id for run in self._running.values())
            for run in [run for run in begun if now - run.began > late and times[run.piece.id] == 1]:
                self.faults.slow[run.node] += 1
                self._bad[run.piece.id].add(run.node_id)
                self._begin(run.piece)

    def _is_feasible(self) -> bool:
        """Whether there is a node that could do a piece, if it had nothing else to do."""
        needs = {"CPU": self._options.cores, "GPU": self._options.gpus}
        return any(node["Alive"] and all(node["Resources"].get(name, 0) >= least for name, least in needs.items())
                   for node in self._ray.nodes())

    def _cancel(self, run: _Run) -> None:
        run.cancelled = True
        try:
            self._ray.cancel(run.task, force=True)
        except Exception:  # it has just ended
            return


def _work(job: Job, piece: Piece) -> Iterator[tuple[str, str] | int | PieceReport]:
    """What a worker does, and says: its node, how many photos are done, and at last what became of the piece."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    yield f"{ray.util.get_node_ip_address()} ({node[:8]})", node
    told = time.monotonic()
    for said in index_piece(job, piece):
        if isinstance(said, PieceReport) or time.monotonic() - told >= TOLD_EVERY:
            told = time.monotonic()
            yield said


def _needs(options: ClusterOptions) -> dict[str, Any]:
    return {"num_cpus": options.cores, "num_gpus": options.gpus, "max_retries": 0, "num_returns": "streaming",
            "scheduling_strategy": "SPREAD"}


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _pieces(count: int) -> str:
    return f"{count:,} piece{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
