"""`check_collection`: every fault is named, and what can be mended is."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.checking import check_collection
from delf.collection import Collection
from delf.collection.segment import DTYPES
from delf.errors import CollectionError
from delf.index import IvfPqIndex, IvfPqOptions
from delf.indexing import IndexOptions, build_index, open_index

Draw = Callable[..., Path]
ACTORS = Path(__file__).parent / "collection/actors.py"


@pytest.fixture
def folder(draw: Draw, stub: Any, tmp_path: Path) -> Path:
    """A collection of four photos in two segments, with inverted lists."""
    for seed in range(4):
        draw(f"photos/{seed}.png", seed)
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add(tmp_path / "photos", images_per_segment=2)
        build_index(collection, IndexOptions("ivfpq", ivfpq=IvfPqOptions(words=4, bits=4, iterations=2)))
    return tmp_path / "places.delf"


def flip(path: Path) -> None:
    """Change the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def first(folder: Path, name: str) -> Path:
    return min(folder.glob(f"segments/*/{name}"))


def test_a_sound_collection(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_collection(folder, progress=lambda *done: seen.append(done))
    assert (report.segments, report.problems, report.repaired) == (2, (), ())
    assert seen == [(0, 2), (1, 2), (2, 2)]
    assert check_collection(str(folder), repair=True) == report


def test_the_cure_that_a_search_names_is_one(folder: Path, stub: Any, tmp_path: Path) -> None:
    """Whoever follows it, word for word, has the photos again."""
    path = first(folder, "descriptors.npy")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CollectionError, match=r"run 'delf check --repair' on the collection, and then index"):
        _ = Collection.open(folder).snapshot
    check_collection(folder, repair=True)
    with Collection.open(folder, stub) as collection:
        collection.add(tmp_path / "photos")
        assert len(collection) == 4


@pytest.mark.parametrize("harm", ["cut", "empty", "a folder"])
def test_a_damaged_preview_is_named_and_taken_out(folder: Path, stub: Any, harm: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    with Collection.open(folder, stub) as collection:
        collection.add(pixels, key="42", preview=32)
    [preview] = folder.glob("previews/*/*.jpg")
    data = preview.read_bytes()
    preview.unlink()
    preview.mkdir() if harm == "a folder" else preview.write_bytes(data[: len(data) // 2] if harm == "cut" else b"")
    [problem] = check_collection(folder).problems
    assert preview.name in problem
    [repaired] = check_collection(folder, repair=True).repaired
    assert "add its photo again under its key" in repaired
    with Collection.open(folder, stub) as collection:
        collection.add(pixels, key="42", preview=32)
    assert preview.read_bytes() == data
    assert not check_collection(folder).problems


@pytest.mark.parametrize("name", [f"{name}.npy" for name in DTYPES] + ["segment.json"])
def test_a_damaged_segment_is_named_taken_out_and_read_again(folder: Path, stub: Any, name: str) -> None:
    path = first(folder, name)
    flip(path)
    [problem] = check_collection(folder).problems
    assert str(path.parent) in problem
    report = check_collection(folder, repair=True)
    assert (report.problems, len(report.repaired)) == ((), 1)
    assert "Its 2 images were taken out: run 'delf index' on their photos again" in report.repaired[0]
    assert (folder / f"damaged-{path.parent.name}" / name).exists(), "nothing is thrown away"
    assert check_collection(folder).problems == ()
    with Collection.open(folder, stub) as collection:
        report = collection.add(folder.parent / "photos")
        assert (report.added, report.unchanged, len(collection)) == (2, 2, 4)
        build_index(collection)
    assert check_collection(folder).problems == ()


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
@pytest.mark.parametrize("name", ["segments/*/ivfpq-*.faiss", "quantiser-*.faiss"])
def test_a_damaged_index_is_built_anew(folder: Path, name: str, damage: str) -> None:
    path = min(folder.glob(name))
    if damage == "flip":
        flip(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    [problem] = check_collection(folder).problems
    assert path.name in problem
    report = check_collection(folder, repair=True)
    assert report.problems == ()
    assert "anew" in report.repaired[0]
    assert check_collection(folder).problems == ()
    with Collection.open(folder) as collection:
        assert set(collection.catalogue.indexes()) == set(collection.segment_ids)


@pytest.fixture(scope="module")
def repairs() -> Iterator[Callable[[Path, int], int]]:
    """Repairs a collection in a process that is killed before a step; how it ended."""
    actor = subprocess.Popen([sys.executable, str(ACTORS), "repair"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    assert actor.stdin
    assert actor.stdout
    with actor, actor.stdin as orders, actor.stdout as answers:
        def repair(folder: Path, step: int) -> int:
            print(folder, step, file=orders, flush=True)
            return int(answers.readline())

        yield repair
        orders.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_repair_that_is_killed_at_any_step_loses_nothing(folder: Path, tmp_path: Path,
                                                           repairs: Callable[[Path, int], int]) -> None:
    """One segment, lists and the quantiser are damaged: what is left of the segment is kept, whatever happens."""
    victim = first(folder, "scores.npy").parent
    flip(victim / "scores.npy")
    flip(next(path for path in folder.glob("segments/*/ivfpq-*.faiss") if path.parent != victim))
    flip(next(folder.glob("quantiser-*")))
    left = {path.name: path.read_bytes() for path in victim.iterdir()}
    for step in itertools.count():
        copy = Path(shutil.copytree(folder, tmp_path / f"{step}.delf"))
        ended = repairs(copy, step)
        assert ended in (0, -signal.SIGKILL)
        assert check_collection(copy, repair=True).problems == ()
        assert check_collection(copy).problems == ()
        kept = {path.name: path.read_bytes() for path in (copy / f"damaged-{victim.name}").iterdir()}
        assert kept == left, f"killed before step {step}"
        with Collection.open(copy) as collection:
            assert len(collection) == 2
            assert set(collection.catalogue.indexes()) == set(collection.segment_ids), "and all is built anew"
            assert isinstance(open_index(collection), IvfPqIndex)
        shutil.rmtree(copy)
        if not ended:
            break
    assert step > 10, "it was killed at many steps"


def test_a_damaged_segment_that_cannot_be_moved_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another program has one of its files open on Windows."""
    path = first(folder, "scores.npy")
    flip(path)

    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(CollectionError, match=r"could not be moved to .* \(Permission denied\), so it was left"):
            check_collection(folder, repair=True)
    assert path.exists()
    assert len(check_collection(folder).problems) == 1


def test_images_that_the_catalogue_lacks(folder: Path) -> None:
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    with connection:
        connection.execute("DELETE FROM files WHERE image = 1")
        connection.execute("DELETE FROM removed")
        connection.execute("DELETE FROM images WHERE id = 1")
    connection.close()
    [problem] = check_collection(folder).problems
    assert "has 2 images, and the catalogue 1 of them" in problem


def test_a_damaged_catalogue_is_named_and_left_alone(folder: Path) -> None:
    connection = sqlite3.connect(folder / "catalogue.sqlite")
    with connection:
        connection.execute("UPDATE files SET image = 99 WHERE image = 1")
    connection.close()
    for repair in (False, True):
        report = check_collection(folder, repair=repair)
        assert "a row of files refers to nothing" in report.problems[0]
        assert report.repaired == ()


def test_no_collection(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="is not a collection"):
        check_collection(tmp_path)
