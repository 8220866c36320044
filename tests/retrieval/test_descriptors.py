"""Global retrieval beside the plain product of all vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.errors import CollectionError, OptionError
from delf.ranking.expansion import RerankOptions, augment, expand, rerank
from delf.retrieval import GlobalRetrieval, open_retriever
from delf.retrieval import descriptors as module
from delf.retrieval.descriptors import GlobalRetriever, StoredDescriptors
from delf.types import Features


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


VECTORS = unit(np.random.default_rng(0).normal(size=(9, 5)))
QUERY = unit(np.random.default_rng(1).normal(size=5))


def features(vector: np.ndarray | None) -> Features:
    none = np.zeros(0, np.float32)
    return Features(none.reshape(0, 2), none, none, none.reshape(0, 16), (8, 8), vector)


@pytest.fixture
def nine(tmp_path: Path, stub: Any, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Nine images in three segments, with those vectors."""
    given, stub.global_dimensions = iter(VECTORS), len(VECTORS[0])
    extract = type(stub).extract_many
    monkeypatch.setattr(type(stub), "extract_many", lambda self, images: (
        replace(found, global_descriptor=next(given)) for found in extract(self, images)))
    collection = Collection.create(tmp_path / "c.delf", stub)
    collection.add([draw(f"{seed}.png", seed) for seed in range(9)], images_per_segment=4)
    assert len(collection.segments) == 3
    return collection


def stored(collection: Collection) -> np.ndarray:
    """The vectors, as they are on the disk."""
    return collection.global_descriptors()


def test_all_images_by_their_cosine(nine: Collection) -> None:
    found = open_retriever(nine, GlobalRetrieval()).candidates(features(QUERY), nine.alive)
    cosines = VECTORS @ QUERY
    assert found.images.tolist() == np.argsort(-cosines).tolist()
    np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1], atol=2e-3)


def test_images_that_are_not_alive_are_neither_found_nor_added_to_the_query(nine: Collection) -> None:
    alive = np.ones(9, bool)
    alive[np.argmax(VECTORS @ QUERY)] = False
    found = open_retriever(nine, GlobalRetrieval(expansion=2, alpha=0.0)).candidates(features(QUERY), alive)
    kept = np.flatnonzero(alive)
    nearest = kept[np.argsort(-(VECTORS[kept] @ QUERY))[:2]]
    expanded = unit(QUERY + VECTORS[nearest].sum(axis=0))
    assert found.images.tolist() == kept[np.argsort(-(VECTORS[kept] @ expanded))].tolist()


def test_the_second_search_is_with_the_expanded_query(nine: Collection) -> None:
    vectors = stored(nine)
    nearest = np.argsort(-(vectors @ QUERY))[:3]
    for alpha in (0.0, 1.0, 3.0):
        found = open_retriever(nine, GlobalRetrieval(expansion=3, alpha=alpha)).candidates(features(QUERY), nine.alive)
        cosines = vectors @ expand(QUERY, vectors[nearest], alpha)
        assert found.images.tolist() == np.argsort(-cosines).tolist()
        np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1], atol=1e-6)
    every = open_retriever(nine, GlobalRetrieval(expansion=100, alpha=0.0)).candidates(features(QUERY), nine.alive)
    cosines = vectors @ expand(QUERY, vectors, 0.0)
    np.testing.assert_allclose(every.scores, np.sort(cosines)[::-1], atol=1e-6)


def test_nothing_is_alive(nine: Collection) -> None:
    for options in (GlobalRetrieval(expansion=2), GlobalRetrieval(rerank=RerankOptions(depth=3))):
        assert len(open_retriever(nine, options).candidates(features(QUERY), np.zeros(9, bool))) == 0


def test_equal_images_come_by_ordinal_and_the_limit_cuts_behind_them(nine: Collection, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)
    monkeypatch.setattr(StoredDescriptors, "__getitem__", lambda self, rows: np.repeat(
        np.float16(VECTORS[:1]), len(np.arange(9)[rows]), axis=0))
    for limit in (4, 9):
        found = open_retriever(nine, GlobalRetrieval(limit=limit)).candidates(features(QUERY), nine.alive)
        assert found.images.tolist() == list(range(limit))
        assert len(set(found.scores.tolist())) == 1


def test_the_best_are_the_same_with_a_limit_and_in_blocks(nine: Collection, monkeypatch: Any) -> None:
    every = open_retriever(nine, GlobalRetrieval()).candidates(features(QUERY), nine.alive)
    monkeypatch.setattr(module, "BLOCK", 2)
    few = open_retriever(nine, GlobalRetrieval(limit=4)).candidates(features(QUERY), nine.alive)
    assert few.images.tolist() == every.images[:4].tolist()
    np.testing.assert_array_equal(few.scores, every.scores[:4])
    assert (few.images.dtype, few.scores.dtype) == (np.int64, np.float32)


def test_reranking_changes_the_order_of_the_best_alone(nine: Collection) -> None:
    options = RerankOptions(depth=5, neighbours=3, beta=1.0)
    before = open_retriever(nine, GlobalRetrieval()).candidates(features(QUERY), nine.alive)
    found = open_retriever(nine, GlobalRetrieval(rerank=options)).candidates(features(QUERY), nine.alive)
    best = before.images[:5]
    scores = rerank(QUERY, stored(nine)[best], options)
    assert found.images[:5].tolist() == best[np.argsort(-scores, kind="stable")].tolist()
    np.testing.assert_allclose(found.scores[:5], np.sort(scores)[::-1], atol=1e-6)
    assert found.images[5:].tolist() == before.images[5:].tolist()
    assert found.scores[5:].max() < found.scores[:5].min()
    everything = open_retriever(nine, GlobalRetrieval(rerank=RerankOptions())).candidates(features(QUERY), nine.alive)
    expected = rerank(QUERY, stored(nine)[before.images])
    np.testing.assert_allclose(np.sort(everything.scores), np.sort(expected), atol=1e-6)


def test_augmented_descriptors(nine: Collection, monkeypatch: Any) -> None:
    [image] = np.flatnonzero(nine.ordinal_of(nine.image(2).path) == np.arange(9))
    nine.remove(nine.image(int(image)).path)
    calls: list[tuple[int, int]] = []
    options = GlobalRetrieval(augmentation=2, alpha=1.0)
    retriever = GlobalRetriever(nine, options, lambda *figures: calls.append(figures))
    assert calls == [(9, 9)]
    moved = np.concatenate(list(augment(stored(nine), 2, 1.0, nine.alive)))
    found = retriever.candidates(features(QUERY), nine.alive)
    kept = np.flatnonzero(nine.alive)
    assert len(kept) == 8
    assert found.images.tolist() == kept[np.argsort(-(moved[kept] @ QUERY))].tolist()
    np.testing.assert_allclose(found.scores, np.sort(moved[kept] @ QUERY)[::-1], atol=2e-3)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", full)
    with pytest.raises(CollectionError, match=r"the descriptors of 9 images \(No space left .* without augmentation"):
        open_retriever(nine, options)


def test_rows_of_several_segments_are_those_of_one_array(nine: Collection) -> None:
    rows = StoredDescriptors([segment.globals for segment in nine.segments])
    whole = nine.global_descriptors()
    assert len(rows) == 9
    for chosen in (slice(0, 9), slice(3, 8), slice(4, 4), slice(7, 100), np.array([8, 0, 4, 4, 3]), np.array([], int)):
        np.testing.assert_array_equal(rows[chosen], whole[chosen])
        assert rows[chosen].dtype == np.float16
    assert StoredDescriptors([])[0:3].shape == (0, 0)


def test_an_empty_collection(tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "empty.delf", stub) as empty:
        for options in (GlobalRetrieval(), GlobalRetrieval(expansion=3, augmentation=2, rerank=RerankOptions())):
            assert len(open_retriever(empty, options).candidates(features(QUERY), empty.alive)) == 0


@pytest.mark.parametrize(("vector", "length"), [(None, "none"), (QUERY[:3], "3")])
def test_a_query_without_a_fitting_descriptor(nine: Collection, vector: np.ndarray | None, length: str) -> None:
    with pytest.raises(OptionError, match=rf"needs a global descriptor of 5 dimensions \(it has {length}\)"):
        open_retriever(nine, GlobalRetrieval()).candidates(features(vector), nine.alive)


def test_a_collection_without_global_descriptors(tmp_path: Path, stub: Any, draw: Callable[..., Path],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    extract, stub.global_dimensions = type(stub).extract_many, 0
    monkeypatch.setattr(type(stub), "extract_many", lambda self, images: (
        replace(found, global_descriptor=None) for found in extract(self, images)))
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add([draw("a.png", 1)])
        with pytest.raises(CollectionError, match=r"c\.delf have no global descriptors, .* index the photos again"):
            open_retriever(collection, GlobalRetrieval())


@pytest.mark.parametrize(("options", "sentence"), [
    ({"expansion": -1}, "0 or more images"), ({"augmentation": -1}, "0 or more images"), ({"limit": 0}, "limit 1 or"),
    ({"alpha": -1.0}, "alpha is"), ({"alpha": float("nan")}, "alpha is")])
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        GlobalRetrieval(**options)
