"""Giving out pieces, with tasks that are done in this process and fail as they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inline_ray import Inline

from delf.cluster import running
from delf.cluster.connecting import ClusterError
from delf.cluster.pieces import Piece, PieceReport
from delf.cluster.running import ClusterOptions, Runner
from delf.cluster.work import UnreachableError
from delf.collection.records import FileRecord
from delf.errors import CollectionError, OptionError

A = ("node a", "a")
PIECES = [Piece(tuple(FileRecord(f"/{piece}-{photo}.jpg".encode(), b"", 1, 1) for photo in range(4)))
          for piece in range(6)]


class Clock:
    """A hundredth of a second later whenever it is looked at, however busy this computer is."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


def all_of(work: Callable[..., Iterator[Any]], monkeypatch: pytest.MonkeyPatch, options: ClusterOptions | None = None,
           cores: int = 2) -> tuple[list[PieceReport], Runner, Inline]:
    monkeypatch.setattr(running, "_work", work)
    monkeypatch.setattr(running, "time", Clock())
    ray = Inline(cores)
    runner = Runner(ray, None, options or ClusterOptions())  # type: ignore[arg-type]
    return list(runner.reports(PIECES)), runner, ray


def test_no_more_is_given_out_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Piece] = []
    heard: list[int] = []

    def pieces() -> Iterator[Piece]:
        for piece in PIECES:
            asked.append(piece)
            yield piece

    def work(job: Any, piece: Piece) -> Iterator[Any]:
        assert len(asked) <= len(heard) + 6
        yield from (A, 1, 3, PieceReport(piece.id, read=4))

    monkeypatch.setattr(running, "_work", work)
    ray, photos = Inline(cores=2), list[int]()
    runner = Runner(ray, None, ClusterOptions(), photos.append)  # type: ignore[arg-type]
    for report in runner.reports(pieces()):
        heard += [report.read]
    assert len(heard) == 6
    assert ray.most == 3  # one more than there are cores
    assert photos[-1] == 24
    assert {1, 3, 12} - set(photos) <= {1}
    assert runner.faults.sentences() == []


def test_a_piece_that_was_lost_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def work(job: Any, piece: Piece) -> Iterator[Any]:
        tried.append(piece.id)
        yield A
        if piece is PIECES[2] and tried.count(piece.id) == 1:
            raise RuntimeError("the node died")
        yield PieceReport(piece.id, read=4)

    reports, runner, _ = all_of(work, monkeypatch)
    assert sorted(report.id for report in reports) == sorted(piece.id for piece in PIECES)
    assert runner.faults.sentences() == ["node a lost 1 piece, which was done elsewhere"]


def test_a_photo_that_ends_its_process_is_found_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: Any, piece: Piece) -> Iterator[Any]:
        yield A
        if any(photo.path == b"/3-2.jpg" for photo in piece.photos):
            raise RuntimeError("killed")
        yield PieceReport(piece.id, read=len(piece.photos))

    reports, _, _ = all_of(work, monkeypatch, ClusterOptions(attempts=2))
    assert sum(report.read for report in reports) == 23
    [skipped] = [report.skipped for report in reports if report.skipped]
    assert skipped[0][0] == "/3-2.jpg"
    assert "killed" in skipped[0][1]
    assert sum(report.split for report in reports) == 2  # 4 photos, 2 photos


def test_what_stands_still_is_ended_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def work(job: Any, piece: Piece) -> Iterator[Any]:
        tried.append(piece.id)
        yield A
        while piece is PIECES[0] and tried.count(piece.id) == 1:
            yield None
        yield PieceReport(piece.id, read=4)

    reports, runner, ray = all_of(work, monkeypatch, ClusterOptions(patience=0.2))
    assert len(reports) == 6
    assert len(ray.cancelled) == 1
    assert runner.faults.sentences() == ["1 piece stood still on node a, and was begun anew"]


def test_what_is_slow_is_begun_by_another_one_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TOLD_EVERY", 0.01)
    tried: list[str] = []

    def work(job: Any, piece: Piece) -> Iterator[Any]:
        tried.append(piece.id)
        first = tried.count(piece.id) == 1
        yield ("node slow", "s") if piece is PIECES[0] and first else A
        while piece is PIECES[0] and first:
            yield None
        yield PieceReport(piece.id, read=4, node="fast")

    reports, runner, ray = all_of(work, monkeypatch)
    assert len(reports) == 6
    assert len(ray.cancelled) == 1
    assert runner.faults.sentences() == ["node slow was slow: 1 piece of it was begun elsewhere as well"]


def test_a_node_without_the_photos_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def work(job: Any, piece: Piece) -> Iterator[Any]:
        tried.append(piece.id)
        yield ("node b", "b") if tried.count(piece.id) == 1 and piece is PIECES[1] else A
        if tried.count(piece.id) == 1 and piece is PIECES[1]:
            raise UnreachableError("the folder is not there")
        yield PieceReport(piece.id, read=4)

    reports, runner, ray = all_of(work, monkeypatch)
    assert sum(report.read for report in reports) == 24
    assert set(ray.asked) <= {"a"}  # which has done pieces
    assert runner.faults.sentences() == ["node b cannot do its part: the folder is not there"]


@pytest.mark.parametrize(("problem", "expected"), [
    (CollectionError("the disk is full"), "the disk is full"), (UnreachableError("not there"), "not there"),
    (RuntimeError("no module"), "no piece could be done.*no module")])
def test_what_no_piece_can_do_ends_the_job(problem: Exception, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: Any, piece: Piece) -> Iterator[Any]:
        yield A
        raise problem

    with pytest.raises((CollectionError, ClusterError, UnreachableError), match=expected):
        all_of(work, monkeypatch)


def test_a_cluster_without_a_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(job: Any, piece: Piece) -> Iterator[Any]:
        while True:
            yield None

    with pytest.raises(ClusterError, match="no node with 4 cores"):  # in all there are as many
        all_of(work, monkeypatch, ClusterOptions(cores=4, patience=0.1), cores=4)


@pytest.mark.parametrize("wrong", [{"piece": 0}, {"cores": 1.5}, {"gpus": -1}, {"batch": 0}, {"attempts": 0},
                                   {"patience": float("nan")}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        ClusterOptions(**wrong)
