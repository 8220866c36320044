"""Which index a collection gets, when it is built, and what a search then sees."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf import indexing
from delf.checking import check_collection
from delf.codes import encode
from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.index import ExactIndex, IvfPqIndex, IvfPqOptions, IvfPqQuantiser, Joined, LopqIndex, LopqOptions
from delf.indexing import EXACT_UP_TO, GROWTH, IndexOptions, build_index, choose_index, open_index, training_sample
from delf.methods import SearchOptions
from delf.search import SearchEngine

Draw = Callable[..., Path]
COARSE = IndexOptions("ivfpq", ivfpq=IvfPqOptions(words=4, bits=4, iterations=3))  # quick to learn


@pytest.fixture
def drawn(tmp_path: Path, stub: Any, draw: Draw) -> Iterator[Collection]:
    """Six photos in three segments."""
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        collection.add([draw(f"{seed}.png", seed) for seed in range(6)], images_per_segment=2)
        yield collection


def about(collection: Collection) -> Any:
    return collection.catalogue.about()


# --- the choice


@pytest.mark.parametrize(("rows", "kind", "reason"), [
    (0, "exact", "0 features are at most 1,000,000, which are searched exactly"),
    (EXACT_UP_TO, "exact", "1,000,000 features are at most 1,000,000, which are searched exactly"),
    (EXACT_UP_TO + 1, "ivfpq", "1,000,001 features are more than 1,000,000, too many to search exactly"),
])
def test_the_number_of_features_decides(rows: int, kind: str, reason: str) -> None:
    assert choose_index(rows, IndexOptions()) == (kind, reason)


def test_asked_for_is_asked_for() -> None:
    assert choose_index(5, IndexOptions("ivfpq")) == ("ivfpq", "asked for")
    assert choose_index(10**9, IndexOptions("exact")) == ("exact", "asked for")
    assert choose_index(11, IndexOptions(exact_up_to=10))[0] == "ivfpq"


def test_an_unknown_kind() -> None:
    with pytest.raises(OptionError, match="the index is auto, exact, ivfpq or lopq, not 'lsh'"):
        IndexOptions("lsh")


# --- building


def test_a_small_collection_is_searched_exactly_and_says_why(drawn: Collection) -> None:
    assert build_index(drawn) == "exact"
    assert about(drawn)["index"] == {
        "kind": "exact", "reason": "120 features are at most 1,000,000, which are searched exactly"}
    assert not list(drawn.folder.rglob("*.faiss"))
    assert isinstance(open_index(drawn), Joined)


def test_beyond_the_limit_it_is_compressed(drawn: Collection) -> None:
    calls: list[tuple[int, int]] = []
    options = IndexOptions(exact_up_to=100, ivfpq=COARSE.ivfpq)
    assert build_index(drawn, options, progress=lambda *done: calls.append(done)) == "ivfpq"
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert "120 features are more than 100" in about(drawn)["index"]["reason"]
    assert about(drawn)["ivfpq"]["words"] == 4
    assert len(list(drawn.folder.glob("segments/*/ivfpq-*.faiss"))) == 3
    assert len(list(drawn.folder.glob("quantiser-*.faiss"))) == 1
    assert drawn.bytes_by_kind()["index"] == sum(path.stat().st_size for path in drawn.folder.rglob("*.faiss"))


def test_building_again_only_quantises_what_is_new(drawn: Collection, draw: Draw, monkeypatch: Any) -> None:
    build_index(drawn, COARSE)
    quantiser = about(drawn)["quantiser"]
    files = {path: path.read_bytes() for path in drawn.folder.rglob("*.faiss")}
    built: list[Path] = []
    build = IvfPqQuantiser.build
    monkeypatch.setattr(IvfPqQuantiser, "build",
                        lambda self, blocks, path: built.append(path) or build(self, blocks, path))
    monkeypatch.setattr(IvfPqQuantiser, "train", lambda *_: pytest.fail("the quantisers were learnt already"))
    build_index(drawn, COARSE)
    assert built == []
    drawn.add([draw("new.png", 50)])
    build_index(drawn, COARSE)
    assert [path.parent for path in built] == [drawn.segments[-1].folder]
    assert about(drawn)["quantiser"] == quantiser
    assert {path: path.read_bytes() for path in files} == files


def test_the_options_of_the_last_time_are_remembered(drawn: Collection, monkeypatch: Any) -> None:
    """All of them, whichever index they gave."""
    asked: list[IndexOptions] = []
    build = indexing._build
    monkeypatch.setattr(indexing, "_build", lambda collection, catalogue, options, progress: (
        asked.append(options) or build(collection, catalogue, options, progress)))
    for options in (IndexOptions("auto", 100, 60, COARSE.ivfpq), IndexOptions("auto", 1000, 70, IvfPqOptions(probes=3)),
                    IndexOptions("exact", 7, 8, IvfPqOptions(words=5, seed=9)), replace(COARSE, exact_up_to=3)):
        kind = build_index(drawn, options)
        assert build_index(drawn) == kind
        assert build_index(drawn, kind="exact") == "exact"
        assert asked[-3:] == [options, options, replace(options, kind="exact")]
        with Collection.open(drawn.folder) as opened:
            assert build_index(opened, kind=options.kind) == kind
        assert asked[-1] == options


def test_options_of_collections_that_stored_only_a_part_of_them(drawn: Collection) -> None:
    build_index(drawn, COARSE)
    with drawn.writing() as catalogue, catalogue._transaction() as connection:
        connection.execute("DELETE FROM about WHERE key IN ('index_options', 'quantiser_sample')")
    quantiser = about(drawn)["quantiser"]
    assert indexing.options_before(drawn) == COARSE
    assert build_index(drawn) == "ivfpq"
    assert about(drawn)["quantiser"] == quantiser


@pytest.mark.parametrize("stored", ['{"kind": "lsh"}', '{"kind": "auto", "ivfpq": {"words": "x"}}', '{"ivfpq": [1]}',
                                    '{"kind": "auto", "sample": "many", "ivfpq": {}}', '{"ivfpq": {}, "new": 1}'])
def test_stored_options_that_make_no_sense(drawn: Collection, stored: str) -> None:
    with drawn.writing() as catalogue, catalogue._transaction() as connection:
        connection.execute("INSERT INTO about VALUES ('index_options', ?)", (stored,))
    with pytest.raises(CollectionError, match=r"says nonsense of its index .*; say which index to build"):
        build_index(drawn)
    assert build_index(drawn, kind="exact") == "exact"
    assert build_index(drawn) == "exact"


def test_words_are_learnt_anew_when_the_collection_has_grown(tmp_path: Path, stub: Any, draw: Draw) -> None:
    """A collection that is built as it grows ends with as many words, within a few times, as one that is built late."""
    options = IndexOptions("ivfpq", ivfpq=IvfPqOptions(bits=4, iterations=2))
    names, words = [], []
    with Collection.create(tmp_path / "places.delf", stub) as collection:
        for count in range(0, 40, 4):  # of 20 features each
            collection.add([draw(f"{seed}.png", seed) for seed in range(count, count + 4)])
            build_index(collection, options)
            names.append(about(collection)["quantiser"])
            words.append(IvfPqQuantiser.load(collection.folder / names[-1]).words)
            assert 80 * (count // 4 + 1) // 39 < GROWTH * words[-1]
            assert _compressed(collection)
            assert all(isinstance(part, IvfPqIndex) for part in _parts(collection)), "all lists are of the new words"
        assert sorted(words) == words
        assert len(set(names)) == 2, "and otherwise they stay"
        with collection.writing():
            assert [path.name for path in collection.folder.glob("quantiser-*")] == names[-1:]
        fixed = replace(options, ivfpq=replace(options.ivfpq, words=3))
        build_index(collection, fixed)
        assert about(collection)["quantiser"] != names[-1], "other options were asked for"
        last = about(collection)["quantiser"]
        build_index(collection, fixed)
        assert about(collection)["quantiser"] == last
        build_index(collection, replace(fixed, sample=300))
        assert about(collection)["quantiser"] != last, "another sample was asked for"


def test_a_rebuild_that_is_cut_short_leaves_a_collection_that_can_be_searched(
        drawn: Collection, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of new words lie beside the old ones, which are searched until the catalogue says otherwise."""
    build_index(drawn, COARSE)
    other = replace(COARSE, ivfpq=replace(COARSE.ivfpq, seed=5))
    build, built = IvfPqQuantiser.build, []

    def torn(self: IvfPqQuantiser, blocks: Any, path: Path) -> Any:
        if built:
            raise KeyboardInterrupt
        built.append(path)
        return build(self, blocks, path)

    with Collection.open(drawn.folder) as reader:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(IvfPqQuantiser, "build", torn)
            build_index(drawn, other)
        drawn.refresh()
        assert {type(part) for part in _parts(drawn)} == {type(part) for part in _parts(reader)} == {IvfPqIndex}
        assert _finds_itself(drawn)
        assert _finds_itself(reader)
        build_index(drawn)
        assert check_collection(drawn.folder).problems == ()
        assert {type(part) for part in _parts(drawn)} == {type(part) for part in _parts(reader)} == {IvfPqIndex}
        build_index(drawn, other)
        assert {type(part) for part in _parts(drawn)} == {IvfPqIndex}
        assert {type(part) for part in _parts(reader)} == {IvfPqIndex}, "those of its state are still there"
        with drawn.writing():
            assert len(list(drawn.folder.glob("quantiser-*"))) == 1, "what nothing refers to goes"
            assert len(list(drawn.folder.glob("segments/*/ivfpq*.faiss"))) == 3
        assert {type(part) for part in _parts(reader)} == {ExactIndex}
        assert _finds_itself(reader)


def test_while_an_index_is_built_anew_whoever_opens_the_collection_searches_the_old_one(
        drawn: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(drawn, COARSE)
    seen: list[set[type]] = []

    def watched(done: int, total: int) -> None:
        with Collection.open(drawn.folder) as newcomer:
            seen.append({type(part) for part in _parts(newcomer)})
            assert _finds_itself(newcomer)

    build_index(drawn, replace(COARSE, ivfpq=replace(COARSE.ivfpq, seed=5)), progress=watched)
    assert seen == [{IvfPqIndex}] * 4


def test_lists_under_the_name_of_versions_before_are_used_until_there_are_others(drawn: Collection) -> None:
    build_index(drawn, COARSE)
    for path in drawn.folder.glob("segments/*/ivfpq-*.faiss"):
        path.rename(path.with_name("ivfpq.faiss"))
    with drawn.writing():
        pass
    assert {type(part) for part in _parts(drawn)} == {IvfPqIndex}
    assert check_collection(drawn.folder).problems == ()
    build_index(drawn, replace(COARSE, ivfpq=replace(COARSE.ivfpq, seed=5)))
    assert {type(part) for part in _parts(drawn)} == {IvfPqIndex}
    with drawn.writing():
        assert not list(drawn.folder.glob("segments/*/ivfpq.faiss"))
    assert {type(part) for part in _parts(drawn)} == {IvfPqIndex}


def test_back_to_exact_and_to_ivfpq_again(drawn: Collection, monkeypatch: Any) -> None:
    build_index(drawn, COARSE)
    assert build_index(drawn, IndexOptions("exact")) == "exact"
    assert not _compressed(drawn)
    monkeypatch.setattr(IvfPqQuantiser, "build", lambda *_: pytest.fail("the lists were built already"))
    assert build_index(drawn, COARSE) == "ivfpq"
    assert _compressed(drawn)


def test_the_papers_index_is_built_by_segments_and_learnt_once(drawn: Collection, draw: Draw, stub: Any) -> None:
    options = IndexOptions("lopq", lopq=LopqOptions(words=4, bits=4, iterations=3))
    build_index(drawn, COARSE)
    assert build_index(drawn, options) == "lopq"
    assert [type(part) for part in _parts(drawn)] == [LopqIndex] * 3
    assert _finds_itself(drawn)
    learnt, new = about(drawn)["quantiser"], draw("new.png", 50)
    drawn.add([new])
    assert [type(part) for part in _parts(drawn)] == [LopqIndex] * 3 + [ExactIndex]
    assert build_index(drawn) == "lopq", "as the last time"
    assert [type(part) for part in _parts(drawn)] == [LopqIndex] * 4
    assert about(drawn)["quantiser"] == learnt
    assert SearchEngine(drawn, stub, method="delf").search(new).results[0].image == str(new)
    assert drawn.bytes_by_kind()["index"] >= sum(path.stat().st_size for path in drawn.folder.rglob("*.lopq"))
    with drawn.writing():
        assert [path.name for path in drawn.folder.glob("quantiser-*")] == [learnt], "those of ivfpq went"
    assert build_index(drawn, COARSE) == "ivfpq"
    assert _compressed(drawn)


def test_damage_to_the_papers_index_is_found_and_mended(drawn: Collection) -> None:
    build_index(drawn, IndexOptions("lopq", lopq=LopqOptions(words=4, bits=4, iterations=3)))
    for pattern in ("segments/*/lists-*.lopq", "quantiser-*.lopq"):
        path = next(drawn.folder.glob(pattern))
        path.write_bytes(path.read_bytes()[:-1] + b"\x99")
        found = check_collection(drawn.folder)
        assert path.name in found.problems[0]
        assert check_collection(drawn.folder, repair=True).repaired
        assert not check_collection(drawn.folder).problems
    with Collection.open(drawn.folder) as opened:
        assert [type(part) for part in _parts(opened)] == [LopqIndex] * 3


def _compressed(collection: Collection) -> bool:
    return any(isinstance(part, IvfPqIndex) for part in _parts(collection))


def _finds_itself(collection: Collection) -> bool:
    found = open_index(collection).search(collection.features(0).descriptors, 1)
    return bool((found.similarities[:, 0] > 1 - 1e-6).all())


def _parts(collection: Collection) -> Any:
    index = open_index(collection)
    return getattr(index, "_parts", (index,))


def test_segments_that_are_not_built_are_searched_exactly(drawn: Collection, draw: Draw, stub: Any) -> None:
    build_index(drawn, COARSE)
    new = draw("new.png", 50)
    drawn.add([new])
    parts = open_index(drawn)._parts  # type: ignore[attr-defined]
    assert [type(part) for part in parts] == [IvfPqIndex] * 3 + [ExactIndex]
    engine = SearchEngine(drawn, stub, method="delf")
    assert engine.search(new).results[0].image == str(new)
    rows = drawn.starts[drawn.ordinal_of(new)] + np.arange(20)
    features = drawn.features(6)
    found = open_index(drawn).search(features.descriptors, 1)
    np.testing.assert_array_equal(found.ids[:, 0], rows)
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-6)


def test_an_image_without_features_has_a_list_of_none(tmp_path: Path, stub: Any, draw: Draw) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "flat.png")
    with Collection.create(tmp_path / "c", stub) as collection:
        collection.add([tmp_path / "flat.png", draw("a.png", 1)], images_per_segment=1)
        build_index(collection, COARSE)
        assert [len(part) for part in open_index(collection)._parts] == [0, 20]  # type: ignore[attr-defined]
        assert SearchEngine(collection, stub, method="delf").search(draw("a.png", 1)).results[0].image.endswith("a.png")


def test_nothing_to_learn_from(tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        assert build_index(collection) == "exact"
        assert len(open_index(collection)) == 0
        with pytest.raises(CollectionError, match="its sample of descriptors is empty"):
            build_index(collection, COARSE)


@pytest.mark.parametrize("victim", ["segments/*/ivfpq-*.faiss", "quantiser-*.faiss"])
def test_a_damaged_index_is_named(drawn: Collection, stub: Any, victim: str) -> None:
    build_index(drawn, COARSE)
    path = next(drawn.folder.glob(victim))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CollectionError, match=path.name):
        SearchEngine(drawn, stub, method="delf")


# --- the sample


def test_the_sample_does_not_depend_on_the_order_or_the_segments(tmp_path: Path, stub: Any, draw: Draw) -> None:
    files = [draw(f"{seed}.png", seed) for seed in range(6)]
    samples = []
    for name, order, size in (("a", files, 512), ("b", files[::-1], 1), ("c", files[3:] + files[:3], 2)):
        with Collection.create(tmp_path / name, stub) as collection:
            collection.add(order, images_per_segment=size)
            samples.append(training_sample(collection, 60))
            everything = training_sample(collection, 10**6)
    for other in samples[1:]:
        np.testing.assert_array_equal(samples[0], other)
    assert everything.shape == (120, 16)
    assert 30 < len(samples[0]) < 90, "about as many as were asked for"
    np.testing.assert_allclose(np.linalg.norm(everything, axis=1), 1, atol=1e-6)


def test_the_sample_is_spread_evenly_over_images(collection: Collection) -> None:
    whole, half = (training_sample(collection, size) for size in (collection.rows, collection.rows // 2))
    assert len(whole) == collection.rows
    assert len(half) == pytest.approx(collection.rows / 2, rel=0.05)
    chosen = {row.tobytes() for row in encode(half)}
    assert chosen < {row.tobytes() for row in encode(whole)}
    for ordinal in range(len(collection)):
        codes = encode(collection.features(ordinal).descriptors)
        share = np.mean([row.tobytes() in chosen for row in codes])
        assert share == pytest.approx(0.5, abs=0.12)


def test_no_photos_no_sample(tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "c", stub) as collection:
        assert training_sample(collection, 100).shape == (0, 16)


# --- on photographs


def test_the_compressed_index_finds_what_exact_search_finds(
        collection: Collection, extractor: Any, queries: Any, query_features: Any, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(collection.folder, tmp_path / "copy.delf"))
    with Collection.open(copy) as compressed:
        ivfpq = IvfPqOptions(words=64, probes=8, iterations=3, bits=6)
        assert build_index(compressed, IndexOptions("ivfpq", sample=3000, ivfpq=ivfpq)) == "ivfpq"
        options = SearchOptions(candidates=3)
        engines = [SearchEngine(opened, extractor, options=options) for opened in (collection, compressed)]
        for name in queries:
            exact, approximate = (engine.search_features(query_features[name]) for engine in engines)
            assert approximate.results[0].image == exact.results[0].image
            assert approximate.match
            assert approximate.results[0].inliers == exact.results[0].inliers, "the features verified are the same"
        neighbours = [open_index(opened).search(query_features["coins"].descriptors, 60)
                      for opened in (collection, compressed)]
        recall = np.mean([len(set(a) & set(b)) / 60 for a, b in zip(*(n.ids for n in neighbours), strict=True)])
        assert recall > 0.6
