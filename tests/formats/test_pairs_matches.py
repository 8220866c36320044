"""Pairs and matches as hloc has them; its own few lines that read them are written out anew here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import DelfError
from delf.formats import matches, pairs
from delf.formats.matches import Partners
from delf.types import Matches

from .test_damage import damaged

FOUND = Matches(np.array([6, 0, 3, 3]), np.array([4, 1, 2, 0]), np.array([0.9, 0.5, 0.4, 0.7], np.float32))
MATRIX = np.arange(9.0).reshape(3, 3)


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py", reason="the optional package h5py is not installed")


# --- pairs


def test_pairs_are_lines_of_two_names(tmp_path: Path) -> None:
    pairs.write(tmp_path / "p.txt", [("query/1.jpg", "db/ü.jpg"), ("query/1.jpg", "db/2.jpg")])
    assert (tmp_path / "p.txt").read_text(encoding="utf-8") == "query/1.jpg db/ü.jpg\nquery/1.jpg db/2.jpg\n"
    assert pairs.read(tmp_path / "p.txt") == [("query/1.jpg", "db/ü.jpg"), ("query/1.jpg", "db/2.jpg")]


def test_pairs_of_others(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa  b\r\n\n c\td \nb a\na a\na b")
    found = pairs.read(tmp_path / "p.txt")
    assert found == [("a", "b"), ("c", "d"), ("b", "a"), ("a", "a"), ("a", "b")]
    assert pairs.without_repetitions(found) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("content", [b"a\n", b"a b c\n", b"a b\n\xff\xff c\n", b"a " + b"b" * 5000, b"\0" * 99])
def test_lines_that_are_no_pairs(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(DelfError, match=r"p\.txt"):
        pairs.read(tmp_path / "p.txt")


@pytest.mark.parametrize("name", ["a b.jpg", "", "a\n", "a\u2028", "a\udce9"])
def test_names_that_a_line_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(DelfError, match=r"p\.txt.*rename"):
        pairs.write(tmp_path / "p.txt", [("a", name)])
    assert not list(tmp_path.iterdir())


# --- matches


def as_hloc_reads(file: Any, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
    group = file["/".join(name.replace("/", "-") for name in (name0, name1))]
    rows = np.asarray(group["matches0"])
    query = np.where(rows != -1)[0]
    return np.stack([query, rows[query]], -1), np.asarray(group["matching_scores0"])[query]


def test_matches_of_hloc(h5py: Any, tmp_path: Path) -> None:
    pair = ("query/1.jpg", "db/old town/2.jpg")
    matches.write(tmp_path / "m.h5", [(pair, Partners.of(FOUND, 8, MATRIX)), (("a", "b"), Partners.of(FOUND, 7))])
    with h5py.File(tmp_path / "m.h5") as file:
        group = file["query-1.jpg/db-old town-2.jpg"]
        assert group["matches0"].shape == group["matching_scores0"].shape == (8,)
        rows, scores = as_hloc_reads(file, *pair)
        assert rows.tolist() == [[0, 1], [3, 0], [6, 4]], "of two matches of a feature, the more similar is kept"
        assert scores.tolist() == pytest.approx([0.5, 0.7, 0.9])
    with matches.open_matches(tmp_path / "m.h5") as opened:
        found, matrix = opened.read(*pair)
        assert (found.query.tolist(), found.database.tolist()) == ([6, 3, 0], [4, 0, 1])
        assert np.array_equal(matrix, MATRIX)
        turned, matrix = opened.read(*reversed(pair))
        assert (turned.query.tolist(), turned.database.tolist()) == ([4, 0, 1], [6, 3, 0])
        assert np.array_equal(matrix, MATRIX.T)
        assert opened.read("a", "b")[1] is None
        assert opened.read("a", "c") is None and opened.partners(*reversed(pair)) is None


def test_files_of_the_first_hloc_and_half_precision(h5py: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w", libver="latest") as file:
        group = file.create_group("a-b_c")
        group["matches0"], group["matching_scores0"] = np.array([-1, 2], np.int16), np.array([0, 0.5], np.float16)
    with matches.open_matches(tmp_path / "m.h5") as opened:
        found, _ = opened.read("a/b", "c")
        assert (found.query.tolist(), found.database.tolist(), found.similarities.tolist()) == ([1], [2], [0.5])


def test_names_that_the_layout_mixes_up(h5py: Any, tmp_path: Path) -> None:
    partners = Partners.of(FOUND, 8)
    for other in (("a-b", "c"), ("c", "a/b"), ("a/b", "c")):
        with pytest.raises(DelfError, match=r"would have the same place in .*m\.h5"):
            matches.write(tmp_path / "m.h5", [(("a/b", "c"), partners), (other, partners)])
    for name in ("..", "a/../b", "a\0", "\udce9"):
        with pytest.raises(DelfError, match="name"):
            matches.write(tmp_path / "m.h5", [((name, "c"), partners)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "reason"), [
    (lambda group: group.pop("matches0"), "no list"),
    (lambda group: group.update({"matches0": np.zeros((2, 2), int)}), "no list"),
    (lambda group: group.update({"matches0": np.array([0.5])}), "no list"),
    (lambda group: group.update({"matches0": np.full(8, 2**40)}), "impossible numbers"),
    (lambda group: group.update({"matches0": np.full(8, -2)}), "impossible numbers"),
    (lambda group: group.update({"matching_scores0": np.zeros(3)}), "scores than matches"),
    (lambda group: group.update({"matching_scores0": np.full(8, np.nan)}), "NaN"),
    (lambda group: group.update({"fundamental": np.zeros(9)}), "finite numbers"),
])
def test_groups_that_make_no_sense(h5py: Any, tmp_path: Path, change: Any, reason: str) -> None:
    matches.write(tmp_path / "m.h5", [(("a", "b"), Partners.of(FOUND, 8))])
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        arrays = {key: value[()] for key, value in file["a/b"].items()}
        change(arrays)
        del file["a/b"]
        for key, value in arrays.items():
            file[f"a/b/{key}"] = value
    with matches.open_matches(tmp_path / "m.h5") as opened, pytest.raises(DelfError, match=rf"m\.h5.*{reason}"):
        opened.read("a", "b")


def test_links_are_not_followed(h5py: Any, tmp_path: Path) -> None:
    matches.write(tmp_path / "other.h5", [(("a", "b"), Partners.of(FOUND, 8))])
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "/a")
        file["c"] = h5py.SoftLink("/c")
    with matches.open_matches(tmp_path / "m.h5") as opened:
        assert opened.read("a", "b") is None and opened.read("c", "b") is None


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_matches(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    pytest.importorskip("h5py")
    path = tmp_path_factory.getbasetemp() / "damaged-matches.h5"
    if not path.with_suffix(".sound").exists():
        matches.write(path.with_suffix(".sound"), [(("a", "b"), Partners.of(FOUND, 8, MATRIX))])
    path.write_bytes(data.draw(damaged(path.with_suffix(".sound").read_bytes())))
    try:
        with matches.open_matches(path) as opened:
            found = opened.read("a", "b")
            assert found is None or np.isfinite(found[0].similarities).all()
    except DelfError as error:
        assert path.name in str(error)
