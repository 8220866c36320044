"""Spilled and filled lists: the same for all indexes that have any, and whatever happens to their files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.codes import decode, encode
from delf.errors import CollectionError
from delf.index import (
    Asmk,
    AsmkIndex,
    Codebook,
    Hamming,
    HammingIndex,
    IvfPqOptions,
    IvfPqQuantiser,
    LopqOptions,
    LopqQuantiser,
    filling,
    packing,
)
from delf.index.filling import spilling
from delf.index.storage import PAGE, ArrayFile, ArrayWriter

DIMENSIONS, WORDS = 16, 5
Entry = tuple[int, int, bytes]  # word, image or row, signature or code


@pytest.mark.parametrize("entries", [1, 3, 1000])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), batches=st.lists(st.integers(0, 9), max_size=5), words=st.integers(1, 6))
def test_entries_go_to_their_lists_in_the_order_in_which_they_came(tmp_path_factory: pytest.TempPathFactory,
                                                                   entries: int, seed: int, batches: list[int],
                                                                   words: int) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("spill")
    drawn = [(rng.integers(0, words, size), rng.integers(0, 256, (size, 3), np.uint8)) for size in batches]
    with pytest.MonkeyPatch.context() as patch, spilling(folder / "a", words, code=(np.uint8, (3,))) as spill:
        patch.setattr(filling, "ENTRIES", entries)
        for chosen, codes in drawn:
            spill.add(chosen, code=codes)
        blocks = list(spill.in_lists())
        again = list(spill.in_lists())
        assert len(spill) == sum(batches)
    chosen, codes = (np.concatenate([np.zeros((0, *shape), np.int64), *parts]) for shape, parts in
                     (((), [one for one, _ in drawn]), ((3,), [one for _, one in drawn])))
    order = np.argsort(chosen, kind="stable")
    filled, rows = np.full((len(chosen), 3), -1), np.full(len(chosen), -1)
    for block in blocks:
        assert len(block.rows) <= entries
        filled[block.places], rows[block.places] = block.fields["code"], block.rows
        np.testing.assert_array_equal(block.words, chosen[block.rows])
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(filled, codes[order])
    np.testing.assert_array_equal(spill.sizes, np.bincount(chosen, minlength=words))
    assert [block.places.tolist() for block in again] == [block.places.tolist() for block in blocks]
    assert list(folder.iterdir()) == []


# --- all indexes with lists


@dataclass(frozen=True)
class Kind:
    """An index with lists. build, open: of images and of a file. entries: what is in an opened one, list after list.
    search: the answer for the first image. expected: the entries of some images, one after the other.
    """

    build: Callable[[Iterable[np.ndarray], Path], Any]
    open: Callable[[Path], Any]
    entries: Callable[[Any, Path], list[Entry]]
    search: Callable[[Any], np.ndarray]
    expected: Callable[[list[np.ndarray]], list[Entry]]


IMAGES = [encode(np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32))
          for seed, count in enumerate((6, 0, 9, 1, 12))]
QUERY = decode(IMAGES[0])
CODEBOOK = Codebook(decode(encode(np.random.default_rng(9).normal(size=(WORDS, DIMENSIONS)).astype(np.float32))))


def in_signature_lists(lists: Any, path: Path) -> list[Entry]:
    starts, stops = lists.bounds(np.arange(WORDS))
    return [(word, int(lists.owners[place]), lists.signatures[place].tobytes())
            for word, (start, stop) in enumerate(zip(starts, stops, strict=True)) for place in range(start, stop)]


def in_faiss_lists(lists: Any, path: Path) -> list[Entry]:
    content, found = ArrayFile.open(path, "ivfpq").bytes(), []
    sizes = content[: 8 * WORDS].view(np.int64)
    at, width = 8 * WORDS, QUANTISER.code_size
    for word, size in enumerate(sizes.tolist()):
        codes, ids = content[at : at + size * width].reshape(size, width), content[at + size * width :][: 8 * size]
        found += [(word, int(row), code.tobytes()) for row, code in zip(ids.view(np.int64), codes, strict=True)]
        at += size * (width + 8)
    return found


def aggregated(images: list[np.ndarray]) -> list[Entry]:
    return [(int(word), number, signature.tobytes()) for number, codes in enumerate(images)
            for found in [Asmk(CODEBOOK).aggregate(decode(codes))]
            for word, signature in zip(found.words, found.signatures, strict=True)]


def embedded(images: list[np.ndarray]) -> list[Entry]:
    return [(int(word), number, signature.tobytes()) for number, codes in enumerate(images)
            for found in [Hamming(CODEBOOK).signed(decode(codes))]
            for word, signature in zip(found.words, found.signatures, strict=True)]


def quantised(images: list[np.ndarray]) -> list[Entry]:
    index, vectors = QUANTISER.faiss_index(), decode(np.concatenate(images))
    words = index.quantizer.assign(vectors, 1).ravel()
    return [(int(word), row, index.sa_encode(vectors[row : row + 1])[0, -QUANTISER.code_size :].tobytes())
            for row, word in enumerate(words)]


def in_packed_lists(lists: Any, path: Path) -> list[Entry]:
    starts, parts = lists._starts, np.repeat(np.arange(len(lists._starts) - 1), np.diff(lists._starts))
    codes = packing.run(lists._packed, 0, int(starts[-1]), LOCAL.segments, LOCAL.options.bits)
    rows = lists._rows_at(np.arange(starts[-1]))
    return [(int(leaf), int(row), code.tobytes()) for leaf, row, code in zip(parts, rows, codes, strict=True)]


def locally_quantised(images: list[np.ndarray]) -> list[Entry]:
    return [(int(leaf), row, code.tobytes())
            for row, (leaf, code) in enumerate(zip(*LOCAL.encode(decode(np.concatenate(images))), strict=True))]


LOCAL = LopqQuantiser.train(decode(np.concatenate(IMAGES)), LopqOptions(words=2, bits=3, leaf=8, leaves=6, refine=1))
QUANTISER = IvfPqQuantiser.train(decode(np.concatenate(IMAGES)), IvfPqOptions(words=WORDS, bits=4, refine=1))
KINDS = {
    "asmk": Kind(Asmk(CODEBOOK).build, Asmk(CODEBOOK).open, in_signature_lists,
                 lambda lists: AsmkIndex(Asmk(CODEBOOK), [lists]).search(QUERY), aggregated),
    "hamming": Kind(Hamming(CODEBOOK).build, Hamming(CODEBOOK).open, in_signature_lists,
                    lambda lists: HammingIndex(Hamming(CODEBOOK), [lists]).search(Hamming(CODEBOOK).query(QUERY)),
                    embedded),
    "ivfpq": Kind(QUANTISER.build, QUANTISER.open, in_faiss_lists,
                  lambda lists: lists.search(QUERY, 3).similarities, quantised),
    "lopq": Kind(LOCAL.build, LOCAL.open, in_packed_lists, lambda lists: lists.search(QUERY, 3).similarities,
                 locally_quantised),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.mark.parametrize("entries", [2, 10**6])
def test_lists_hold_what_came_in_its_order(kind: Kind, tmp_path: Path, entries: int,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "ENTRIES", entries)
    path = tmp_path / "a.lists"
    lists = kind.build(IMAGES, path)
    assert kind.entries(lists, path) == sorted(kind.expected(IMAGES), key=lambda entry: entry[0])
    assert [one.name for one in tmp_path.iterdir()] == ["a.lists"]
    lists.verify()


def test_no_images_have_no_entries(kind: Kind, tmp_path: Path) -> None:
    assert kind.entries(kind.build([], tmp_path / "a.lists"), tmp_path / "a.lists") == []


def test_a_build_that_fails_leaves_what_was_there(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "a.lists"
    kind.build(IMAGES, path)
    before = path.read_bytes()

    def failing() -> Iterable[np.ndarray]:
        yield IMAGES[0]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        kind.build(failing(), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.lists"]


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_a_file_holds_it_is_searched_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str,
                                                         data: st.DataObject) -> None:
    """The fuzz target of files of lists: bytes are changed, cut off and added."""
    kind, path = KINDS[name], tmp_path_factory.mktemp("fuzz") / "a.lists"
    kind.build(IMAGES, path)
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    used = len(content[:PAGE].rstrip(b"\0 "))  # of the header; the rest of its page is filled up
    places = st.one_of(st.integers(0, used - 1), st.integers(PAGE, len(content) - 1))
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        content[place] = byte
    end = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    path.write_bytes(bytes(content[:end]) + data.draw(st.binary(max_size=3)))
    try:
        lists = kind.open(path)
        answer = kind.search(lists)
    except CollectionError as error:
        assert "a.lists" in str(error)
        return
    assert answer.shape == kind.search(kind.build(IMAGES, path)).shape
    if bytes(content[PAGE:]) != whole[PAGE:]:
        path.write_bytes(bytes(content))
        with pytest.raises(CollectionError, match=r"a\.lists"):
            kind.open(path).verify()


def test_what_is_filled_by_way_of_memory_has_its_room_on_the_disk(tmp_path: Path) -> None:
    """On a disk that is full by then, the system would end the process instead of raising an error."""
    with ArrayWriter(tmp_path / "a.lists", "test", {}) as writer:
        writer.write(np.zeros(100, np.uint8))
        reserved = writer.reserve(1_000_000)
        [temporary] = tmp_path.iterdir()
        assert temporary.stat().st_blocks * 512 >= 1_000_000
        reserved[:] = 7
        writer.reserve(0)
    assert (ArrayFile.open(tmp_path / "a.lists", "test").bytes()[100:] == 7).all()


def test_a_disk_without_room_for_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"), ArrayWriter(tmp_path / "a.lists", "test", {}) as writer:
        writer.reserve(1_000_000)
    assert list(tmp_path.iterdir()) == []
