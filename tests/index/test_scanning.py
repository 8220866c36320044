"""Adding up the entries of lists: in NumPy and compiled, against a loop over single bits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import CollectionError
from delf.index import scanning
from delf.index.bits import as_integers
from delf.index.lists import Entries, SignatureLists, writing_lists
from delf.index.scanning import Scan, Wanted, add_up
from delf.index.storage import PAGE, ArrayFile

FORMS = ["numpy", "numba"]


@pytest.fixture(params=FORMS)
def scan(request: pytest.FixtureRequest) -> Scan:
    return form(request.param)


def form(name: str) -> Scan:
    if name == "numpy":
        return add_up
    pytest.importorskip("numba", reason="the extra 'scale' is not installed")
    from delf.index import compiled

    return compiled.add_up


def some_lists(path: Path, rng: np.random.Generator, images: int, words: int,
               width: int) -> tuple[SignatureLists, Entries]:
    """Lists of drawn entries, and these."""
    counts = rng.integers(0, words + 1, images)
    owners = np.repeat(np.arange(images), counts)
    chosen = np.concatenate([np.zeros(0, np.int64), *(np.sort(rng.permutation(words)[:count]) for count in counts)])
    entries = Entries(owners, chosen, rng.integers(0, 256, (len(owners), width), np.uint8))
    with writing_lists(path, words, width) as writer:
        writer.add(images, entries)
        writer.write(path, "drawn", {})
    return SignatureLists(ArrayFile.open(path, "drawn"), words, width, len(owners)), entries


def looked_for(rng: np.random.Generator, words: int, bits: int, queries: int, count: int, weighted: bool) -> Wanted:
    """Drawn words, some of them several times, whose tables hold multiples of 2^-40."""
    tables = np.rint(rng.uniform(-1, 1, (count if weighted else 1, bits + 1)) * 2.0**40) / 2.0**40
    signatures = rng.integers(0, 256, (count, -(-bits // 8)), np.uint8)
    return Wanted(queries, rng.integers(0, queries, count), rng.integers(0, words, count), as_integers(signatures),
                  tables)


def literal(entries: Entries, wanted: Wanted, images: int) -> np.ndarray:
    """One pair of entries after the other, and one bit after the other."""
    sums = np.zeros((wanted.count, images))
    bits = np.unpackbits(wanted.signatures.view(np.uint8), axis=1)
    for one, (row, word) in enumerate(zip(wanted.rows, wanted.words, strict=True)):
        for entry in np.flatnonzero(entries.words == word):
            differing = sum(a != b for a, b in zip(np.unpackbits(entries.signatures[entry]), bits[one], strict=True))
            sums[row, entries.images[entry]] += wanted.tables[one if len(wanted.tables) > 1 else 0, differing]
    return sums


@pytest.mark.parametrize("name", FORMS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 9), words=st.integers(1, 7),
       width=st.sampled_from([1, 3, 5, 8, 16, 24]), queries=st.integers(1, 3), count=st.integers(0, 9),
       weighted=st.booleans(), compared=st.sampled_from([1, 5, 1000]))
def test_sums_are_those_of_single_bits(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, images: int,
                                       words: int, width: int, queries: int, count: int, weighted: bool,
                                       compared: int) -> None:
    rng = np.random.default_rng(seed)
    lists, entries = some_lists(tmp_path_factory.mktemp("scan") / "a.lists", rng, images, words, width)
    wanted = looked_for(rng, words, 8 * width, queries, count, weighted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "COMPARED", compared)
        found = form(name)(lists, wanted)
    np.testing.assert_array_equal(found, literal(entries, wanted, images))  # to the last bit


def test_images_that_are_not_there(scan: Scan, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a.lists"
    lists, entries = some_lists(path, rng, 6, 4, 16)
    wanted = looked_for(rng, 4, 128, 1, 20, False)
    assert scan(lists, wanted).any()
    first = PAGE + 8 * -(-4 * 4 // 8) + 8 * -(-4 * 6 // 8) + 16 * len(entries.words)  # after sizes, counts, signatures
    content = path.read_bytes()
    for image in (6, 65535):
        path.write_bytes(content[:first] + np.full(len(entries.words), image, np.uint16).tobytes()
                         + content[first + 2 * len(entries.words) :])
        damaged = SignatureLists(ArrayFile.open(path, "drawn"), 4, 16, len(entries.words))
        with pytest.raises(CollectionError, match="images or entries that it does not have"):
            scan(damaged, wanted)


def test_what_is_compiled_need_not_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_up = form("numba")
    from numba.core.caching import Cache

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Cache, "load_overload", lambda *arguments: None)
    monkeypatch.setattr(Cache, "save_overload", full)
    rng = np.random.default_rng(0)
    lists, entries = some_lists(tmp_path / "a.lists", rng, 4, 3, 7)
    wanted = looked_for(rng, 3, 56, 1, 6, False)
    np.testing.assert_array_equal(compiled_up(lists, wanted), literal(entries, wanted, 4))


def test_numba_is_taken_where_there_are_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scanning.scan_for(scanning.COMPILED_FROM - 1) is add_up
    with monkeypatch.context() as patch:
        for name in ("numba", "delf.index.compiled"):
            patch.delitem(sys.modules, name, raising=False)
        patch.delattr("delf.index.compiled", raising=False)
        patch.setitem(sys.modules, "numba", None)  # as if it were not installed
        assert scanning.scan_for(scanning.COMPILED_FROM) is add_up
    assert scanning.scan_for(scanning.COMPILED_FROM) is form("numba")
