"""Gives the pieces of a job to the nodes of a cluster, and deals with pieces that are lost.

Each piece is a task of Ray that reports its progress as it runs (a generator). So the driver knows which node has
which piece, how many photos are done, and which piece hangs. Ray Data would move the photos or the features through
its object store between its steps; here one process reads, extracts and writes a piece, and only a report comes back.
No more pieces are given out than there are cores, so that memory does not grow with the job.
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

TOLD_EVERY = 1.0  # seconds between two reports of progress by a worker
HOPELESS = 24  # failures before the first finished piece, after which the photos cannot be the cause
ENOUGH = 3  # finished pieces from which the usual time of a piece is known


@dataclass(frozen=True)
class ClusterOptions(Options):
    """How a job is distributed over a cluster.

    piece: photos in a piece, on average.
    cores: cores that each worker takes, and threads with which it computes.
    gpus: GPUs that each worker takes, which may be a fraction of one; 0 for none.
    device: the device on which workers compute the network of a model, such as `cuda`.
    batch: photos of one size that are computed together on it; None leaves the number to the extractor.
    attempts: how often a piece is tried before it is halved.
    patience: seconds without a sign of life after which a piece counts as hanging.
    slow: how many times as long as usual a piece may take before an idle worker starts it as well.
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
    """One attempt at a piece.

    began, heard: when it began and when its worker last reported (`time.monotonic`). node, node_id: its node, for
    people and for Ray; empty until the worker has said it. photos: photos done by now.
    """

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
    """Faults that the job has made good, to be reported at its end.

    lost, still, slow: by node, how many pieces were lost, hung or were slow there. unreachable: by node, why it could
    not do its part.
    """

    lost: Counter[str] = field(default_factory=Counter)
    still: Counter[str] = field(default_factory=Counter)
    slow: Counter[str] = field(default_factory=Counter)
    unreachable: dict[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One sentence for each node and kind of fault."""
        return [*(f"{node} lost {_pieces(count)}, which {_were(count)} done elsewhere" for node, count in
                  sorted(self.lost.items())),
                *(f"{_pieces(count)} stood still on {node}, and {_were(count)} begun anew" for node, count in
                  sorted(self.still.items())),
                *(f"{node} was slow: {_pieces(count)} of it {_were(count)} begun elsewhere as well" for node, count in
                  sorted(self.slow.items())),
                *(f"{node} cannot do its part: {why}" for node, why in sorted(self.unreachable.items()))]


class Runner:
    """Does the pieces of a job; `reports` yields the report of each piece when it is done."""

    def __init__(self, ray: Any, job: Job, options: ClusterOptions,
                 progress: Callable[[int], None] = lambda photos: None) -> None:
        """progress: called with the number of photos that are done by now."""
        self._ray, self._options, self._progress = ray, options, progress
        self._job = ray.put(job)
        self._task = ray.remote(**_needs(options))(_work)
        self._running: dict[Any, _Run] = {}
        self._again: deque[Piece] = deque()
        self._bad: defaultdict[str, set[str]] = defaultdict(set)  # by the id of a piece: the nodes that have lost it
        self._good: Counter[str] = Counter()  # by node: how many pieces it has done
        self._failures: Counter[str] = Counter()  # by the id of a piece: its failed attempts
        self._done: set[str] = set()
        self._seconds: list[float] = []
        self._photos, self._since = 0, time.monotonic()
        self.faults = Faults()

    def reports(self, pieces: Iterable[Piece]) -> Iterator[PieceReport]:
        """Do pieces, taken lazily as workers become free, and yield their reports. The report of a piece that is split
        comes before those of its halves.

        Raises:
            DelfError: the work cannot go on, for example because the store cannot be written; finished pieces stay.
        """
        waiting = iter(pieces)
        try:
            while True:
                more = self._fill(waiting)
                if not self._running and not more:
                    return
                yield from self._new_reports()
                self._look_after(idle=not more)
        finally:
            for run in self._running.values():
                self._cancel(run)

    def _fill(self, waiting: Iterator[Piece]) -> bool:
        """Give out pieces as long as there is room. Returns whether there may be more pieces."""
        room = self._room()
        while len(self._running) < room:
            piece = self._again.popleft() if self._again else next(waiting, None)
            if piece is None:
                return False
            self._begin(piece)
        return True

    def _room(self) -> int:
        """How many pieces the present nodes can do at once, and one more, so that a new node finds work."""
        resources = self._ray.cluster_resources()
        rooms = [resources.get("CPU", 0) / self._options.cores]
        if self._options.gpus:
            rooms.append(resources.get("GPU", 0) / self._options.gpus)
        return int(min(rooms)) + 1

    def _begin(self, piece: Piece) -> None:
        now, bad = time.monotonic(), self._bad.get(piece.id)
        task = (self._elsewhere(bad) if bad else self._task).remote(self._job, piece)
        self._running[task] = _Run(piece, task, now, now)

    def _elsewhere(self, bad: set[str]) -> Any:
        """The task, preferably for a node that has done pieces and has not lost this one."""
        good = [node for node, _ in self._good.most_common() if node not in bad]
        if not good:
            return self._task
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return self._task.options(scheduling_strategy=strategy(node_id=good[0], soft=True))

    def _new_reports(self) -> Iterator[PieceReport]:
        """The reports that workers have sent; waits for `TOLD_EVERY` seconds at most."""
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
        """Take the next message of a worker. Returns the report of its piece, if the message is that."""
        try:
            message = self._ray.get(next(run.task))
        except StopIteration:
            self._running.pop(run.task, None)
            return None
        except Exception as error:  # the worker's own, or one of Ray's many
            return self._failed(run, error)
        run.heard = time.monotonic()
        if isinstance(message, tuple):
            run.node, run.node_id = message
        elif isinstance(message, int):
            run.photos = message
        elif isinstance(message, PieceReport):
            self._running.pop(run.task, None)
            return self._finished(run, message)
        return None

    def _finished(self, run: _Run, report: PieceReport) -> PieceReport | None:
        if run.piece.id in self._done:
            return None
        self._done.add(run.piece.id)
        self._seconds.append(time.monotonic() - run.began)
        self._good[run.node_id] += 1
        self._photos += len(run.piece.photos)
        for other in [other for other in self._running.values() if other.piece.id == run.piece.id]:
            self._cancel(other)
        return report

    def _failed(self, run: _Run, error: BaseException) -> PieceReport | None:
        """Deal with a failed attempt: the piece is tried again, or halved, or its only photo is left out."""
        self._running.pop(run.task, None)
        piece, cause = run.piece, getattr(error, "cause", None) or error
        alike = any(other.piece.id == piece.id for other in self._running.values())
        if piece.id in self._done or (alike and run.cancelled):
            return None
        node = run.node or "a node that had not begun"
        self._bad[piece.id].add(run.node_id)
        self._good.pop(run.node_id, None)  # until it has done another piece
        if isinstance(cause, UnreachableError):
            self.faults.unreachable[node] = str(cause)
        elif isinstance(cause, DelfError) and self._failures[piece.id] + 1 >= self._options.attempts:
            raise cause  # of the store or the model, so that no other piece would fare better
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
                self._failures[half.id] = self._options.attempts - 1  # a half has one attempt before it is halved
                self._again.append(half)
            return PieceReport(piece.id, split=True, node=node)
        self._photos += 1
        source = source_of(piece.photos[0])
        return PieceReport(piece.id, node=node, skipped=((source, f"{source} ended the process that read it, or took "
                                                          f"too long ({_reason(cause)}): leave it out."),))

    def _look_after(self, *, idle: bool) -> None:
        """Cancel pieces that hang. If there is nothing else to do, start slow pieces a second time."""
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
        """Whether any node has the resources for a piece, idle or not."""
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
    """The task of a worker. Yields its node, then now and then how many photos are done, and at last the report."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    yield f"{ray.util.get_node_ip_address()} ({node[:8]})", node
    reported = time.monotonic()
    for message in index_piece(job, piece):
        if isinstance(message, PieceReport) or time.monotonic() - reported >= TOLD_EVERY:
            reported = time.monotonic()
            yield message


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
