"""What is said to the system of mapped files."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection, Snapshot
from delf.collection.arrays import open_npy
from delf.mapped import expect, pages_of, release
from delf.search import SearchEngine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    content = np.random.default_rng(0).integers(256, size=(3000, 10), dtype=np.uint8)
    np.save(tmp_path / "x.npy", content)
    return tmp_path / "x.npy"


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Any) -> Iterator[Collection]:
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add([draw(f"{seed}.png", seed) for seed in range(4)])
        yield collection


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 3000), (500, 501), (1000, 2500), (2999, 3000)])
@pytest.mark.parametrize("offset", [False, True])
def test_a_part_lies_in_the_pages_that_are_named(file: Path, start: int, stop: int, offset: bool) -> None:
    mapped = open_npy(file) if offset else np.memmap(file, np.uint8, "r")[128:].reshape(3000, 10)
    part = mapped[start:stop].view([("a", "u1", (5,)), ("b", "u1", (5,))])
    found = pages_of(part)
    assert found is not None
    pages, first, length = found
    assert first % mmap.PAGESIZE == 0
    assert pages[first : first + length].endswith(part.tobytes())
    assert length < part.nbytes + mmap.PAGESIZE
    expect(part, part[:0])
    release(part)
    assert (part["a"] == np.load(file)[start:stop, None, :5]).all(), "it is read as before"


def test_what_is_not_mapped_is_left_alone(file: Path) -> None:
    assert pages_of(np.zeros(5)) is None
    assert pages_of(np.memmap(file, np.uint8, "r")[:0]) is None
    expect(np.zeros(5))
    release(np.zeros(5))


def test_of_an_image_its_own_rows_are_read(drawn: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[np.ndarray] = []
    monkeypatch.setattr("delf.collection.segment.expect", lambda *parts: told.extend(parts))
    features = drawn.snapshot.features(1)
    assert len(told) == 5
    rows = [part for part in told if len(part) == len(features)]
    assert len(rows) == 4
    assert all(pages_of(part) is not None for part in told)


def test_candidates_are_expected_before_the_first_is_verified(drawn: Collection, stub: Any, draw: Any,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    for name in ("expect", "features"):
        original = getattr(Snapshot, name)
        monkeypatch.setattr(Snapshot, name, lambda snapshot, which, name=name, original=original: (
            asked.append((name, which)), original(snapshot, which))[1])
    SearchEngine(drawn, stub, method="delf").search(draw("query.png", 2))
    first = asked[0]
    assert first[0] == "expect"
    assert {which for name, which in asked if name == "features"} <= set(first[1]), "all candidates, at once"
