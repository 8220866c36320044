"""Exact copies and near-duplicates of real photos, and which file is the best."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from delf.collection import Collection
from delf.duplicates import Duplicates, find_duplicates
from delf.grouping import originals

ODD = b"odd\nname \xff,\".jpg"


@pytest.fixture(scope="module")
def album(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos, two views of one of them, and what people make of photos; read only."""
    folder = tmp_path_factory.mktemp("album") / "photos"
    (folder / "2019").mkdir(parents=True)
    for name in ("coffee", "coffee-side", "rocket", "cat", "camera"):
        shutil.copy2(photos / f"{name}.jpg", folder)
    with Image.open(folder / "coffee.jpg") as coffee:
        coffee.save(folder / "again.jpg", quality=40)
        coffee.resize((coffee.width * 3 // 4, coffee.height * 3 // 4)).save(folder / "2019" / "small.jpg", quality=90)
        ImageEnhance.Brightness(coffee).enhance(1.2).save(folder / "2019" / "lighter.jpg", quality=60)
    with Image.open(folder / "rocket.jpg") as rocket:
        rocket.crop((6, 4, rocket.width - 4, rocket.height - 4)).save(folder / "cropped.jpg", quality=90)
    shutil.copy2(folder / "cat.jpg", os.fsdecode(os.fsencode(folder) + b"/" + ODD))
    shutil.copy2(folder / "2019" / "small.jpg", folder / "small-copy.jpg")
    os.utime(folder / "2019" / "small.jpg", ns=(10**18, 10**18))
    return folder


@pytest.fixture(scope="module")
def indexed(album: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed") / "album.delf"
    with Collection.create(folder, extractor) as collection:
        collection.add([album])
    return folder


@pytest.fixture(scope="module")
def found(indexed: Path, extractor: Any) -> Duplicates:
    with Collection.open(indexed) as collection:
        return find_duplicates(collection, extractor)


def names(found: Duplicates, root: Path) -> list[tuple[str, list[str]]]:
    return sorted((group.kind, [os.fspath(file.path.relative_to(root)) for file in group.files])
                  for group in found.groups)


def test_copies_and_near_duplicates_of_real_photos(found: Duplicates, album: Path) -> None:
    copies = [["2019/small.jpg", "small-copy.jpg"], ["cat.jpg", os.fsdecode(ODD)]]
    bytes_of = {name: (album / name).stat().st_size for name in ("again.jpg", "2019/lighter.jpg")}
    others = sorted(bytes_of, key=bytes_of.__getitem__, reverse=True)
    near = [["coffee.jpg", *others, "2019/small.jpg"], ["rocket.jpg", "cropped.jpg"]]
    assert names(found, album) == [*(("copy", files) for files in copies), *(("near", files) for files in near)]
    assert (found.left_out, found.interrupted, found.root) == ((), False, album)
    spare = [file.path for group in found.groups for file in group.spare]
    assert len(spare) == len(set(spare)) == found.spare == 6, "a file is to spare once"
    kept = set(album.rglob("*.jpg")) - set(spare)
    assert {path.name for path in kept} == {"coffee.jpg", "coffee-side.jpg", "rocket.jpg", "cat.jpg", "camera.jpg"}


def test_as_json_and_as_a_table(found: Duplicates, album: Path, tmp_path: Path) -> None:
    for group, said in zip(found.groups, found.to_json(), strict=True):
        assert (said["kind"], said["keep"], said["files"]) == (
            group.kind, str(group.keep.path), [str(file.path) for file in group.files])
        assert said["bytes"] == sum(Path(path).stat().st_size for path in said["files"][1:])
    found.write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [path for said in found.to_json() for path in said["files"]]
    assert os.fsdecode(os.fsencode(album) + b"/" + ODD) in [row["file"] for row in rows]
    assert [row["keep"] for row in rows].count("yes") == len(found.groups)
    for row in rows:
        with Image.open(row["file"]) as image:
            assert (str(image.width), str(image.height)) == (row["width"], row["height"])


def test_copies_alone_need_no_model(indexed: Path, found: Duplicates) -> None:
    with Collection.open(indexed) as collection:
        copies = find_duplicates(collection, near=False)
    assert copies.groups == tuple(group for group in found.groups if group.kind == "copy")
    assert copies.done == copies.images


@pytest.fixture
def own(draw: Any, make_stub: Any, tmp_path: Path) -> Iterator[Collection]:
    """An image with four files, and one with one."""
    for name in ("b/1.png", "b/2.png", "b/3.png", "b/4.png"):
        draw(name, 1)
    draw("b/other.png", 2)
    with Collection.create(tmp_path / "c.delf", make_stub()) as collection:
        collection.add([tmp_path / "b"])
        yield collection


def test_what_is_gone_changed_or_no_file_of_its_own_is_left_out(own: Collection, tmp_path: Path) -> None:
    (tmp_path / "b/1.png").unlink()
    (tmp_path / "b/2.png").write_bytes(b"something else")
    (tmp_path / "b/3.png").unlink()
    (tmp_path / "b/3.png").symlink_to(tmp_path / "b/4.png")
    found = find_duplicates(own, near=False)
    assert found.groups == ()
    for name, word in (("1.png", "gone"), ("2.png", "changed"), ("3.png", "link")):
        assert any(name in sentence and word in sentence for sentence in found.left_out), name
    assert len(found.left_out) == 3


def test_two_names_of_one_file_are_one_file(draw: Any, make_stub: Any, tmp_path: Path) -> None:
    draw("b/real/1.png", 1)
    draw("b/real/2.png", 1)
    os.link(tmp_path / "b/real/2.png", tmp_path / "b/hard.png")
    (tmp_path / "b/way").symlink_to("real")
    with Collection.create(tmp_path / "c.delf", make_stub()) as collection:
        collection.add([tmp_path / "b"])
        assert collection.files() == 5
        [group] = find_duplicates(collection, near=False).groups
        assert len({path.path.stat().st_ino for path in group.files}) == len(group.files) == 2


def test_nothing_and_nothing_twice(own: Collection, make_stub: Any, tmp_path: Path, collection: Any,
                                   extractor: Any) -> None:
    with Collection.create(tmp_path / "empty.delf", make_stub()) as empty:
        for near in (True, False):
            found = find_duplicates(empty, make_stub(), near=near)
            assert (found.groups, found.spare, found.bytes, found.to_json()) == ((), 0, 0, [])
    assert find_duplicates(collection, extractor).groups == (), "two sides of a thing are no near-duplicates"


def test_the_best_has_most_pixels_then_bytes_then_the_earliest_date(found: Duplicates) -> None:
    best = replace(found.groups[0].keep, width=40, height=30, size=500, captured_at="2019-01-01T10:00:00", mtime_ns=5,
                   path=Path("/b"))
    for worse in ({"width": 39}, {"size": 499}, {"captured_at": "2019-01-01T10:00:01"}, {"captured_at": None},
                  {"mtime_ns": 6}, {"path": Path("/c")}):
        assert best.order < replace(best, **worse).order
    assert best.order < replace(best, width=39, size=10**9, captured_at="2000-01-01T00:00:00", mtime_ns=1).order


def test_a_chain_is_no_group() -> None:
    chain = {0: {1}, 1: {0, 2}, 2: {1}}
    assert originals([0, 1, 2], chain) == {0: None, 1: 0, 2: None}
    assert originals([1, 0, 2], chain) == {1: None, 0: 1, 2: 1}
    assert originals([2, 0, 1], chain) == {2: None, 0: None, 1: 2}, "of two, the better one"


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(8)), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_a_near_duplicate_is_one_of_a_better_photo_that_is_kept(order: list[int], edges: set[tuple[int, int]]) -> None:
    same: dict[int, set[int]] = {}
    for one, other in edges:
        if one != other:
            same.setdefault(one, set()).add(other)
            same.setdefault(other, set()).add(one)
    found = originals(order, same)
    assert list(found) == order
    for image, original in found.items():
        kept = [other for other in order[: order.index(image)] if found[other] is None and other in same.get(image, ())]
        assert original == (kept[0] if kept else None)
