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
from delf.ranking.expansion import expand
from delf.retrieval import GlobalRetrieval, open_retriever
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
    given = iter(VECTORS)
    extract = type(stub).extract_many
    monkeypatch.setattr(type(stub), "extract_many", lambda self, images: (
        replace(found, global_descriptor=next(given)) for found in extract(self, images)))
    collection = Collection.create(tmp_path / "c.delf", stub)
    collection.add([draw(f"{seed}.png", seed) for seed in range(9)], images_per_segment=4)
    assert len(collection.segments) == 3
    return collection


def test_all_images_by_their_cosine(nine: Collection) -> None:
    found = open_retriever(nine, GlobalRetrieval()).candidates(features(QUERY), nine.alive)
    cosines = VECTORS @ QUERY
    assert found.images.tolist() == np.argsort(-cosines).tolist()
    np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1], atol=2e-3)


def test_images_that_are_not_alive_are_neither_found_nor_added_to_the_query(nine: Collection) -> None:
    alive = np.ones(9, bool)
    alive[np.argmax(VECTORS @ QUERY)] = False
    found = open_retriever(nine, GlobalRetrieval(expansion=2)).candidates(features(QUERY), alive)
    kept = np.flatnonzero(alive)
    nearest = kept[np.argsort(-(VECTORS[kept] @ QUERY))[:2]]
    expanded = unit(QUERY + VECTORS[nearest].sum(axis=0))
    assert found.images.tolist() == kept[np.argsort(-(VECTORS[kept] @ expanded))].tolist()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_expansion_by_its_formula(alpha: float) -> None:
    cosines = VECTORS[:4] @ QUERY
    total = QUERY.astype(float).copy()
    for cosine, vector in zip(cosines, VECTORS[:4], strict=True):
        total += max(float(cosine), 0.0) ** alpha * vector
    np.testing.assert_allclose(expand(QUERY, cosines, VECTORS[:4], alpha=alpha), total / np.linalg.norm(total),
                               atol=1e-6)


def test_nothing_to_compare(tmp_path: Path, stub: Any, draw: Callable[..., Path], nine: Collection) -> None:
    assert len(open_retriever(nine, GlobalRetrieval()).candidates(features(None), nine.alive)) == 0
    with Collection.create(tmp_path / "empty.delf", stub) as empty:
        assert len(open_retriever(empty, GlobalRetrieval()).candidates(features(QUERY), empty.alive)) == 0


def test_a_collection_without_global_descriptors(tmp_path: Path, stub: Any, draw: Callable[..., Path],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    extract = type(stub).extract_many
    monkeypatch.setattr(type(stub), "extract_many", lambda self, images: (
        replace(found, global_descriptor=None) for found in extract(self, images)))
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add([draw("a.png", 1)])
        with pytest.raises(CollectionError, match="no global descriptors; index them again"):
            open_retriever(collection, GlobalRetrieval())


@pytest.mark.parametrize("options", [{"expansion": -1}, {"alpha": -1.0}, {"alpha": float("nan")}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expansion is 0 or more"):
        GlobalRetrieval(**options)
