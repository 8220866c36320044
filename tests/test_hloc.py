"""What is written for hloc: retrieval pairs of a collection, and the matches of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.errors import DelfError
from delf.exporting import extract_into, name_below
from delf.formats import matches, open_images, pairs, write_images
from delf.hloc import Cache, match_pairs, write_retrieval
from delf.search import SearchEngine
from delf.types import Features, Matches
from delf.verification import VerificationOptions, match_features

h5py: Any = pytest.importorskip("h5py", reason="the optional package h5py is not installed")


@pytest.fixture(scope="module")
def features(photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.h5"
    shown = [photos / f"{name}.jpg" for name in ("coffee", "coffee-side", "rocket", "cell")]
    extract_into(shown, path, extractor.changed(max_features=300, scales=(1.0,)), root=photos.parent)
    return path


@pytest.fixture
def named(photos: Path) -> Any:
    return lambda name: f"{photos.name}/{name}.jpg"


# --- retrieval


@pytest.fixture
def engine(collection: Any, extractor: Any) -> SearchEngine:
    return SearchEngine(collection, extractor, method="global")


def test_pairs_of_queries_and_of_the_collection_itself(engine: SearchEngine, photos: Path, tmp_path: Path,
                                                       named: Any) -> None:
    calls: list[tuple[int, int]] = []
    report = write_retrieval(engine, [photos / "coffee.jpg", photos / "rocket.jpg"], tmp_path / "p.txt", photos.parent,
                             top=3, progress=lambda *done: calls.append(done))
    found = pairs.read(tmp_path / "p.txt")
    assert (report.written, report.unchanged, report.skipped) == (6, 0, ())
    assert found[0] == (named("coffee"), named("coffee-side"))
    assert found[3] == (named("rocket"), named("rocket-side"))
    assert all(first != second for first, second in found)
    assert calls == [(1, 2), (2, 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


def test_what_lies_elsewhere_or_is_no_photo_is_told(engine: SearchEngine, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    report = write_retrieval(engine, [tmp_path, photos / "cell.jpg"], tmp_path / "p.txt", tmp_path)
    assert report.written == 0
    assert ["bad.jpg" in report.skipped[0], "does not lie below" in report.skipped[1]] == [True, True]
    assert pairs.read(tmp_path / "p.txt") == []


def test_an_interrupted_retrieval_goes_on(engine: SearchEngine, photos: Path, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    queries, search, asked = [photos / "cell.jpg", photos / "coins.jpg"], engine.search, []

    def interrupted(photo: Path, **options: Any) -> Any:
        asked.append(photo)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return search(photo, **options)

    monkeypatch.setattr(engine, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_retrieval(engine, queries, tmp_path / "p.txt", photos)
    assert not (tmp_path / "p.txt").exists()
    report = write_retrieval(engine, queries, tmp_path / "p.txt", photos)
    assert (report.unchanged, asked) == (1, [queries[0], queries[1], queries[1]])


# --- matches


def test_matches_are_those_of_the_features(features: Path, tmp_path: Path, named: Any) -> None:
    wanted = [(named("coffee"), named("coffee-side")), (named("coffee"), named("cell")),
              (named("coffee-side"), named("coffee")), (named("cell"), named("cell")), (named("rocket"), "gone.jpg")]
    calls: list[tuple[int, int]] = []
    report = match_pairs(features, wanted, tmp_path / "m.h5", threads=2, progress=lambda *done: calls.append(done))
    assert (report.written, report.unchanged, len(report.skipped)) == (2, 0, 1)
    assert "'gone.jpg' is not among the images" in report.skipped[0]
    assert calls == [(2, 2)]
    with h5py.File(tmp_path / "m.h5") as file, open_images(features) as images:
        prefix = named("coffee").replace("/", "-")
        assert sorted(file[prefix]) == sorted(named(name).replace("/", "-") for name in ("coffee-side", "cell"))
        rows = file[f"{prefix}/{named('coffee-side').replace('/', '-')}/matches0"][()]
        expected = match_features(images[wanted[0][0]], images[wanted[0][1]])
        assert rows[expected.query].tolist() == expected.database.tolist()
        assert (rows >= 0).sum() == len(expected) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_matches_of_one_transform_only(features: Path, tmp_path: Path, named: Any) -> None:
    pair = named("coffee"), named("coffee-side")
    match_pairs(features, [pair], tmp_path / "all.h5")
    match_pairs(features, [pair], tmp_path / "some.h5", verification=VerificationOptions())
    found = []
    for name in ("all", "some"):
        with matches.open_matches(tmp_path / f"{name}.h5") as opened:
            found.append(opened.read(*pair)[0])
    kept = set(zip(found[1].query.tolist(), found[1].database.tolist(), strict=True))
    assert 20 < len(kept) < len(found[0])


def test_interrupted_matching_goes_on(features: Path, tmp_path: Path, named: Any,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [(named("coffee"), named("cell")), (named("cell"), named("rocket"))]
    match, count = match_features, [0]

    def interrupted(*arguments: Any) -> Matches:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return match(*arguments)

    monkeypatch.setattr("delf.hloc.match_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        match_pairs(features, wanted, tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()
    report = match_pairs(features, wanted, tmp_path / "m.h5")
    assert (report.written, report.unchanged, count[0]) == (2, 1, 3)


def test_two_names_of_one_place_are_refused(tmp_path: Path, named: Any) -> None:
    empty = Features(*(np.zeros(shape, np.float32) for shape in ((0, 2), 0, 0, (0, 4))), (4, 4))
    write_images(tmp_path / "f.h5", [(name, empty) for name in ("a/b", "a-b", "c")])
    with pytest.raises(DelfError, match="'-' for '/'"):
        match_pairs(tmp_path / "f.h5", [("a/b", "c"), ("a-b", "c")], tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_few_features_are_kept_in_memory() -> None:
    read: list[str] = []

    class Noted(dict[str, Features]):
        def __missing__(self, name: str) -> Features:
            read.append(name)
            return Features(np.zeros((10, 2), np.float32), *np.zeros((2, 10), np.float32),
                            np.zeros((10, 8), np.float32), (1, 1))

    cache = Cache(Noted(), most_bytes=800)  # two images of 400 bytes
    for name in "abacab":
        _ = cache[name]
    assert read == ["a", "b", "c", "b"]


def test_names_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert name_below(tmp_path, tmp_path / "real" / "a b.jpg") == "real/a b.jpg"
    assert name_below(tmp_path / "real", tmp_path / "link" / "a.jpg") == "a.jpg"
    with pytest.raises(DelfError, match="does not lie below"):
        name_below(tmp_path / "other", tmp_path / "real" / "a.jpg")


