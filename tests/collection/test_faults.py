"""What becomes of a collection where the disk is full or fails, may not be written, or photos change meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import files_of_at_most

from delf.checking import check_collection
from delf.collection import Collection
from delf.collection import catalogue as catalogue_module
from delf.collection.catalogue import Catalogue
from delf.errors import CollectionError
from delf.index import CodebookOptions, IvfPqOptions
from delf.index.storage import ArrayFile, ArrayWriter
from delf.indexing import IndexOptions, build_index
from delf.retrieval import lists
from delf.retrieval.asmk import AsmkRetrieval, AsmkRetriever
from delf.retrieval.hqe import HqeRetrieval, HqeRetriever
from delf.retrieval.words import WordOptions, find_codebook

Draw = Callable[..., Path]
ACTORS = Path(__file__).with_name("actors.py")
COARSE = IndexOptions("ivfpq", ivfpq=IvfPqOptions(words=2, bits=4, iterations=2))
FEW = WordOptions(learn=CodebookOptions(words=4, iterations=2))


@pytest.fixture
def photos_of(draw: Draw, tmp_path: Path) -> Callable[[str, int], Path]:
    def make(name: str, count: int) -> Path:
        for seed in range(count):
            draw(f"{name}/{seed}.png", 1000 * len(name) + seed)
        return tmp_path / name

    return make


# --- a full disk


@pytest.mark.parametrize("size", [100, 300, 700, 1000, 5000, 20_000, 60_000])
def test_whatever_file_cannot_grow(stub: Any, photos_of: Any, tmp_path: Path, size: int) -> None:
    """Arrays, manifests, the catalogue, its log, the quantiser or the lists: which one depends on the size."""
    first, more = photos_of("first", 4), photos_of("more", 40)
    folder = tmp_path / "places.delf"
    with Collection.create(folder, stub) as collection:
        collection.add(first, images_per_segment=2)
        build_index(collection, IndexOptions(kind="ivfpq"))
        with files_of_at_most(size), pytest.raises(CollectionError) as caught:
            collection.add(more, images_per_segment=8)
            build_index(collection)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
    assert check_collection(folder).problems == ()
    with Collection.open(folder, stub) as collection:
        before = len(collection)
        assert before >= 4, "what was there has stayed"
        report = collection.add([first, more])
        assert (report.added, len(collection), report.skipped) == (44 - before, 44, ())
        assert build_index(collection) == "ivfpq"
    assert check_collection(folder).problems == ()
    assert not list(folder.rglob("*.partial")) + list(folder.rglob("*.spill")) + list(folder.glob("segments/.*"))


@pytest.mark.parametrize("system", [True, False])
def test_a_file_has_its_room_before_mapped_memory_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            system: bool) -> None:
    """On a full disk, a process that writes to mapped memory without any would be ended by the system."""
    if not system:
        monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr("delf.index.storage.BLOCK", 1000)
    with ArrayWriter(tmp_path / "x.lists", "asmk", {}) as writer:
        writer.write(np.ones(5, np.uint8))
        content = writer.reserve(300_000)
        assert next(tmp_path.glob(".*")).stat().st_blocks * 512 >= 300_000
        assert not content.any()
        content[:] = 2
    assert ArrayFile.open(tmp_path / "x.lists", "asmk").bytes().tolist() == [1] * 5 + [2] * 300_000


def test_lists_that_a_full_disk_has_no_room_for(stub: Any, photos_of: Any, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(photos_of("photos", 2))
        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(CollectionError, match=r"No space left on device.*make room on the disk"):
            AsmkRetriever(collection, AsmkRetrieval(words=FEW, model=tmp_path / "none.onnx"))
    assert not list(tmp_path.rglob("*.partial"))


def test_a_collection_that_cannot_be_made_leaves_nothing_in_the_way(stub: Any, photos_of: Any, tmp_path: Path) -> None:
    folder = tmp_path / "places.delf"
    with files_of_at_most(2000), pytest.raises(CollectionError):
        Collection.create(folder, stub)
    with Collection.open_or_create(folder, stub) as collection:
        assert collection.add(photos_of("photos", 1)).added == 1


@pytest.mark.parametrize("kind", ["ivfpq", "lopq"])
def test_an_index_that_has_no_room_is_told(kind: str, stub: Any, photos_of: Any, tmp_path: Path) -> None:
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(photos_of("photos", 3))
        with files_of_at_most(10), pytest.raises(CollectionError, match=r"places\.delf"):
            build_index(collection, IndexOptions(kind=kind, ivfpq=COARSE.ivfpq))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(CollectionError, match="is searched as before"):
            patch.setattr("delf.files.publish", _no_room)
            build_index(collection, IndexOptions(kind=kind, ivfpq=COARSE.ivfpq))
        assert build_index(collection, IndexOptions(kind=kind, ivfpq=COARSE.ivfpq)) == kind


def _no_room(*_: Path) -> None:
    raise OSError(28, "No space left on device")


def test_a_new_catalogue_is_whole_without_its_log(stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing moves the log into the file, and says nothing where it cannot, as on a full disk."""
    others, store = [], catalogue_module.store_about

    def watched(connection: sqlite3.Connection, about: Any) -> None:
        store(connection, about)
        [(_, _, path)] = connection.execute("PRAGMA database_list").fetchall()
        others.append(sqlite3.connect(path))  # nothing is moved while another one has the log open
        others[-1].execute("SELECT * FROM sqlite_master").fetchall()

    with monkeypatch.context() as patch:
        patch.setattr(catalogue_module, "store_about", watched)
        Collection.create(tmp_path / "c.delf", stub).close()
    others[0].close()
    with Collection.open(tmp_path / "c.delf", stub) as opened:
        assert len(opened) == 0
        assert opened.catalogue._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_files_are_flushed_before_they_are_published(stub: Any, photos_of: Any, tmp_path: Path, disk: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are added and merged, the quantiser, and lists that are built and built anew."""
    folder, published = tmp_path / "places.delf", list[str]()

    def checks(name: str, files: Callable[..., list[Path]]) -> None:
        publish = getattr(Catalogue, name)

        def checked(catalogue: Catalogue, *arguments: Any) -> None:
            found = files(*arguments)
            for path in found:
                assert disk.holds(path), f"{path} is whole on the disk"
                assert disk.names(path.parent)
            published.extend([name] if found else [])
            publish(catalogue, *arguments)

        monkeypatch.setattr(Catalogue, name, checked)

    def segment(name: str) -> list[Path]:
        return list((folder / "segments" / name).iterdir())

    def names(folder_of: Any) -> dict[int, str]:
        with Catalogue.open(folder) as catalogue:
            return dict(catalogue.segments())

    checks("publish", lambda name, *_: segment(name))
    checks("replace", lambda old, name, *_: segment(name))
    checks("publish_indexes", lambda built, about: [
        *(next((folder / "segments" / names(folder)[number]).glob("ivfpq-*.faiss")) for number, *_ in built),
        *(folder / about["quantiser"] for _ in built)])
    with Collection.create(folder, stub) as collection:
        collection.add(photos_of("photos", 3), images_per_segment=2)
        build_index(collection, COARSE)
        collection.compact()
        build_index(collection)
    assert published == ["publish", "publish", "publish_indexes", "replace", "publish_indexes"]


def test_a_new_collection_is_on_the_disk(stub: Any, tmp_path: Path, disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite flushes its own file; its name is ours to flush."""
    held: list[bool] = []
    opened = Catalogue.open
    monkeypatch.setattr(Catalogue, "open", lambda folder: (
        held.append(disk.holds(folder / "catalogue.sqlite") and disk.names(folder)) or opened(folder)))
    Collection.create(tmp_path / "places.delf", stub).close()
    assert held == [True]


def test_words_and_lists_are_on_the_disk(stub: Any, photos_of: Any, tmp_path: Path, disk: Any) -> None:
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(photos_of("photos", 3), images_per_segment=2)
        AsmkRetriever(collection, AsmkRetrieval(words=FEW))
    made = [*tmp_path.rglob("*.words"), *tmp_path.rglob("*.lists")]
    assert len(made) == 3
    assert all(map(disk.holds, made))


# --- who writes, and who is read


@pytest.mark.parametrize("maker", ["asmk", "hamming"])
def test_a_writer_that_begins_leaves_the_half_made_lists_of_a_reader(
        stub: Any, photos_of: Any, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: str) -> None:
    """And deletes those of one that has died."""
    retriever, options = {"asmk": (AsmkRetriever, AsmkRetrieval(words=FEW)),
                          "hamming": (HqeRetriever, HqeRetrieval(words=FEW))}[maker]
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(photos_of("photos", 4), images_per_segment=2)
        segment = collection.segments[0].folder
        dead = [segment / f".{'0' * 16}.partial", segment.parent.parent / f".{'1' * 16}.partial"]
        codes, seen = lists._codes, list[list[str]]()

        def slow(of: Any) -> Iterator[Any]:
            for path in dead:
                path.touch()
            yield from codes(of)
            before = {path for path in tmp_path.rglob(".*.partial") if path not in dead}
            with Collection.open(collection.folder, stub) as other:
                other.add(draw(f"new/{len(seen)}.png", 500 + len(seen)))
            assert not any(path.exists() for path in dead)
            assert all(path.exists() for path in before), "they are being written"
            seen.append(sorted(path.name for path in before))

        monkeypatch.setattr(lists, "_codes", slow)
        retriever(collection, options)
        assert [len(names) for names in seen] == [1, 1]
        assert len(list(collection.folder.glob(f"segments/*/{maker}-*.lists"))) == 2, "they are where they belong"
        assert not list(tmp_path.rglob(".*.partial"))


def test_a_writer_that_begins_leaves_the_words_that_a_reader_learns(stub: Any, photos_of: Any, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(photos_of("photos", 4))
        header = ArrayWriter._write_header

        def overtaken(writer: ArrayWriter) -> None:
            with Collection.open(collection.folder) as other, other.writing():
                pass
            header(writer)

        monkeypatch.setattr(ArrayWriter, "_write_header", overtaken)
        find_codebook(collection, tmp_path / "none.onnx", FEW)
        assert [path.suffix for path in collection.folder.glob("*words*")] == [".words"]


# --- where nobody may write


@contextmanager
def sealed(folder: Path) -> Iterator[None]:
    """Nobody but a superuser may write there."""
    places = [folder, *folder.rglob("*")]
    modes = [path.stat().st_mode for path in places]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in zip(places, modes, strict=True):
            path.chmod(mode)


def as_anyone(*arguments: Any) -> list[str]:
    """What an actor says, which has no rights beyond those that modes give."""
    if os.geteuid() == 0 and sys.platform != "linux":
        pytest.skip("a superuser may write everywhere")
    done = subprocess.run([sys.executable, str(ACTORS), *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_collection_that_may_not_be_written(collection: Any, photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(collection.folder, tmp_path / "places.delf"))
    Collection.open(folder).close()  # the last one to close it takes the log away
    with sealed(folder):
        found, *refusals, problems = as_anyone("sealed", folder, photos / "coins.jpg")
    assert found == f"True {photos / 'coins.jpg'}", "it can be searched"
    assert len(refusals) == 4
    for sentence in refusals:
        assert sentence == f"{folder} cannot be written (Permission denied); check its permissions, or use a copy"
    assert problems == "()"
    assert not list(folder.glob("catalogue.sqlite-*"))


def test_an_older_collection_that_may_not_be_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(ACTORS.with_name("formats") / "1.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "places.delf"
    before = (folder / "catalogue.sqlite").read_bytes()
    with sealed(folder):
        counts, child = as_anyone("open", folder)
    everything, asked = counts.split()
    assert int(everything) == int(asked) > 0
    assert child == "0", "a forked process reads it as well"
    assert (folder / "catalogue.sqlite").read_bytes() == before


def test_changes_that_are_only_in_the_log_are_not_passed_over(stub: Any, photos_of: Any, tmp_path: Path) -> None:
    """A killed writer leaves a log, and a copy of what it left may lie on a medium that cannot be written."""
    folder, photos = tmp_path / "places.delf", photos_of("photos", 3)
    with Collection.create(folder, stub):
        pass
    child = subprocess.run([sys.executable, str(ACTORS), "torn", str(folder), str(photos)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert (folder / "catalogue.sqlite-wal").stat().st_size
    (folder / "catalogue.sqlite-shm").unlink()
    with sealed(folder):
        [sentence] = as_anyone("open", folder)
    assert f"the last changes of {folder} are in catalogue.sqlite-wal" in sentence
    with Collection.open(folder) as collection:
        assert len(collection) == 3, "where it may be written, they are there"


# --- photos that change


def test_a_photo_that_changes_while_it_is_read(stub: Any, draw: Draw, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    from delf.images import sources

    read = sources.read_stream
    draw("photos/a.png", 1), draw("photos/b.png", 2)

    def overtaken(stream: Any, name: str, max_bytes: int) -> bytes:
        data = read(stream, name, max_bytes)
        if name.endswith("a.png"):
            draw("photos/a.png", 3)
        return data

    with Collection.create(tmp_path / "places.delf", stub) as collection:
        with monkeypatch.context() as patch:
            patch.setattr(sources, "read_stream", overtaken)
            report = collection.add(tmp_path / "photos")
        assert report.added == 1
        assert [sentence.split(": ")[0] for sentence in report.skipped] == [
            f"{tmp_path}/photos/a.png was changed while it was read"]
        report = collection.add(tmp_path / "photos")
        assert (report.added, report.unchanged, report.skipped, len(collection)) == (1, 1, (), 2)


def test_a_photo_that_changes_before_it_is_read(stub: Any, draw: Draw, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is what was read, and the next run sees that the file is not what it was when it was listed."""
    photo = draw("photos/a.png", 1)
    known = Catalogue.file

    def overtaken(catalogue: Catalogue, path: bytes) -> Any:
        draw("photos/a.png", 2, (80, 60))
        return known(catalogue, path)

    with Collection.create(tmp_path / "places.delf", stub) as collection:
        with monkeypatch.context() as patch:
            patch.setattr(Catalogue, "file", overtaken)
            assert collection.add(photo).added == 1
        assert collection.features(0).image_size == (80, 60)
        assert stub.extracted == 1
        assert collection.add(photo).unchanged == 1, "it is read again, and its content is known"
        draw("photos/a.png", 3)
        assert collection.add(photo).added == 1
