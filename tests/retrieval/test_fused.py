"""Local and global candidates together, on photos and on drawings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.errors import OptionError
from delf.index import CodebookOptions
from delf.methods import SearchOptions
from delf.ranking import CHANCE, Candidates
from delf.ranking.fusion import LOCAL_WEIGHT, in_turns
from delf.retrieval import RETRIEVERS, AsmkRetrieval, GlobalRetrieval, VoteOptions, open_retriever
from delf.retrieval.fused import FusedRetrieval, FusedRetriever
from delf.retrieval.words import WordOptions
from delf.search import SearchEngine
from delf.types import Features, Matches, Verification

NONE = Candidates(np.zeros(0, np.int64), np.zeros(0, np.float32))
NEAREST = FusedRetrieval(pooled=GlobalRetrieval(expansion=2, alpha=1.0), expansion="nearest")


def verified(inliers: int) -> Verification:
    return Verification(np.tile(np.arange(inliers)[:, None], 2), np.eye(3), Matches.none())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RETRIEVERS, FusedRetrieval, FusedRetriever)


def test_both_lists_in_turns_with_global_scores(collection: Collection, query_features: dict[str, Features]) -> None:
    query = query_features["coffee"]
    votes, pooled = (open_retriever(collection, options).candidates(query, collection.alive)
                     for options in (VoteOptions(), NEAREST.pooled))
    found = open_retriever(collection, NEAREST).candidates(query, collection.alive)
    assert found.images.tolist() == in_turns(votes.images, pooled.images).tolist()
    scores = dict(zip(pooled.images.tolist(), pooled.scores.tolist(), strict=True))
    assert found.scores.tolist() == [scores[image] for image in found.images.tolist()]


def test_what_only_one_of_them_finds_is_there(collection: Collection, query_features: dict[str, Features]) -> None:
    """The global list is cut to one image, and votes find no more than three."""
    options = replace(NEAREST, pooled=GlobalRetrieval(limit=1), local=VoteOptions(neighbours=1))
    query = query_features["rocket"].select(slice(3))
    found = open_retriever(collection, options).candidates(query, collection.alive)
    local, pooled = (open_retriever(collection, one).candidates(query, collection.alive).images
                     for one in (options.local, options.pooled))
    assert set(found.images.tolist()) == {*local.tolist(), *pooled.tolist()}
    assert len(pooled) == 1
    assert np.isfinite(found.scores).all()


def test_a_search_finds_photos(collection: Collection, queries: dict[str, Any], extractor: Any,
                               query_features: dict[str, Features]) -> None:
    for expansion in ("nearest", "verified"):
        options = SearchOptions(retrieval=FusedRetrieval(expansion=expansion), ranking="fused", candidates=6)
        engine = SearchEngine(collection, extractor, options=options)
        for name, query in queries.items():
            [first, *rest] = engine.search_features(query_features[name], top=None).results
            assert first.image in query.transforms, (name, expansion)
            assert first.inliers > CHANCE
            assert len(rest) == 11
            assert LOCAL_WEIGHT < first.score <= 1.001


def test_verified_images_expand_the_query(collection: Collection, query_features: dict[str, Features]) -> None:
    query = query_features["coffee"]
    options = FusedRetrieval(pooled=GlobalRetrieval(expansion=2, alpha=0.0))
    retriever = open_retriever(collection, options)
    plain = open_retriever(collection, GlobalRetrieval())
    first = retriever.candidates(query, collection.alive)
    alone = plain.candidates(query, collection.alive)
    assert sorted(first.scores.tolist()) == sorted(alone.scores.tolist())  # nothing has been expanded yet
    looked = [(4, verified(CHANCE)), (7, verified(80)), (1, verified(25)), (0, verified(0)), (9, verified(CHANCE + 1))]
    again = retriever.expanded(query, NONE, looked, collection.alive)
    assert again is not None
    assert query.global_descriptor is not None
    vectors = collection.global_descriptors()
    moved = query.global_descriptor + vectors[7] + vectors[1]  # those with most inliers
    cosines = vectors @ (moved / np.linalg.norm(moved))
    assert again.images.tolist() == in_turns(np.array([7, 1, 9, 4, 0]), np.argsort(-cosines)).tolist()
    np.testing.assert_allclose(again.scores, cosines[again.images], atol=1e-5)


def test_without_verified_images_there_is_no_second_look(collection: Collection,
                                                         query_features: dict[str, Features]) -> None:
    query, looked = query_features["coffee"], [(4, verified(CHANCE)), (7, verified(0))]
    assert open_retriever(collection, FusedRetrieval()).expanded(query, NONE, looked, collection.alive) is None
    looked.append((1, verified(90)))
    assert open_retriever(collection, NEAREST).expanded(query, NONE, looked, collection.alive) is None
    unexpanded = FusedRetrieval(pooled=GlobalRetrieval(expansion=0))
    assert open_retriever(collection, unexpanded).expanded(query, NONE, looked, collection.alive) is None


def test_words_instead_of_votes(tmp_path: Path, stub: Any, draw: Callable[..., Path]) -> None:
    with Collection.create(tmp_path / "c.delf", stub) as made:
        made.add([draw(f"{seed}.png", seed) for seed in range(5)])
        local = AsmkRetrieval(words=WordOptions(learn=CodebookOptions(words=6, iterations=3)))
        retriever = open_retriever(made, FusedRetrieval(local=local))
        query = made.features(3)
        words = open_retriever(made, local).candidates(query, made.alive)
        found = retriever.candidates(query, made.alive)
        assert found.images[0] == words.images[0]
        assert sorted(found.images.tolist()) == list(range(5))
        assert retriever.learnt
        assert retriever.reads == ("asmk", "words", "globals")
        assert retriever.matches(query, 3) is None
        alive = made.alive.copy()
        alive[3] = False
        assert 3 not in retriever.candidates(query, alive).images
        assert not open_retriever(made, FusedRetrieval()).learnt
        assert open_retriever(made, FusedRetrieval()).reads == ("descriptors", "index", "globals")


def test_a_kind_of_expansion_that_there_is_not() -> None:
    with pytest.raises(OptionError, match="nearest or verified, not 'both'"):
        FusedRetrieval(expansion="both")
