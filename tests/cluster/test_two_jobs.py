"""Two jobs on one store at once, with tasks that are done in this process: neither takes anything from the other."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from inline_ray import Inline

from delf.cluster import Store, compact, running
from delf.cluster.indexing import index_photos
from delf.cluster.pieces import Piece
from delf.cluster.running import ClusterOptions
from delf.cluster.work import Job, index_piece
from delf.collection import Collection
from delf.errors import CollectionError

Work = Callable[[Job, Piece], Iterator[Any]]
SINGLE = ClusterOptions(piece=1)


def worker(job: Job, piece: Piece) -> Iterator[Any]:
    yield "node a", "a"
    yield from index_piece(job, piece)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    """Sets what a worker does."""
    monkeypatch.setattr("delf.cluster.indexing.connected", lambda address: nullcontext(Inline(cores=1)))
    return lambda work: monkeypatch.setattr(running, "_work", work)


def test_what_another_job_does_meanwhile_is_not_done_again(work: Callable[[Work], None], pictures: Path, tmp_path: Path,
                                                           stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins, and ends, while another one is under way, of which a piece is done just before it tidies up."""
    other, place, begun = tmp_path / "other", tmp_path / "places.store", list[str]()
    other.mkdir()
    for number in range(5, 10):
        shutil.move(pictures / f"{number}.png", other)

    def interrupted(job: Job, piece: Piece) -> Iterator[Any]:
        if piece.photos[0].path.startswith(os.fsencode(other)):
            yield from worker(job, piece)
            return
        begun.append(piece.id)
        if len(begun) != 3:
            yield from worker(job, piece)
            return
        publish, said = Store.publish, list[Any]()

        def published(store: Store, manifest: Any) -> None:
            publish(store, manifest)
            if not said:
                said.extend(worker(job, piece))

        with monkeypatch.context() as patch:
            patch.setattr(Store, "publish", published)
            assert index_photos([other], place, stub, options=SINGLE).added == 5
        assert f"{piece.id}.json" in Store.open(place).location.names("pieces")
        yield from said

    work(interrupted)
    with pytest.raises(CollectionError, match=r"another process has changed the store .* run the same command again"):
        index_photos([pictures], place, stub, options=SINGLE)
    work(worker)
    report = index_photos([pictures], place, stub, options=SINGLE)
    assert report.added + report.unchanged == 5 and report.before > 0
    store = Store.open(place)
    assert (store.manifest.images, stub.extracted, store.location.names("pieces")) == (10, 10, [])
    with store.as_collection(tmp_path / "part.delf") as part, Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures, other])
        assert sorted(image.key for image in part) == sorted(image.key for image in made)


def test_a_piece_that_another_job_has_published_is_told_as_that(work: Callable[[Work], None], pictures: Path,
                                                                tmp_path: Path, stub: Any) -> None:
    """Two jobs of the same photos."""
    place, begun = tmp_path / "places.store", list[str]()

    def overtaken(job: Job, piece: Piece) -> Iterator[Any]:
        begun.append(piece.id)
        said = list(worker(job, piece))
        if len(begun) == 2:
            work(worker)
            assert index_photos([pictures], place, stub, options=SINGLE).added == 10
        yield from said

    work(overtaken)
    with pytest.raises(CollectionError, match="another process has changed the store"):
        index_photos([pictures], place, stub, options=SINGLE)
    report = index_photos([pictures], place, stub, options=SINGLE)
    assert (report.added, report.unchanged, Store.open(place).manifest.images) == (0, 10, 10)


def test_compact_leaves_what_a_job_under_way_has_done_long_ago(work: Callable[[Work], None], pictures: Path,
                                                               tmp_path: Path, stub: Any) -> None:
    """A job may take longer than the grace period."""
    place, begun = tmp_path / "places.store", list[str]()

    def slow(job: Job, piece: Piece) -> Iterator[Any]:
        yield from worker(job, piece)
        begun.append(piece.id)
        if len(begun) == 1:
            old = [*(place / "segments").rglob("*"), *(place / "pieces").iterdir()]
            for path in old:
                os.utime(path, (time.time() - 7200,) * 2)
        elif len(begun) == 3:
            assert compact(Store.open(place), grace=3600).deleted == 0

    work(slow)
    assert index_photos([pictures], place, stub, options=SINGLE).added == 10
    with Store.open(place).as_collection(tmp_path / "part.delf") as part:
        assert len(part) == 10
    (place / "pieces").mkdir(exist_ok=True)
    (place / "pieces" / f"{'0' * 32}.json").write_text("{}")  # of a job that nobody has gone on with
    for path in (place / "pieces", *(place / "pieces").iterdir()):
        os.utime(path, (time.time() - 7200,) * 2)
    assert compact(Store.open(place), grace=3600).deleted >= 1
    assert Store.open(place).location.names("pieces") == []
