"""Expansion, augmentation and re-ranking of global descriptors, against slow definitions in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.ranking import expansion as module
from delf.ranking.expansion import RerankOptions, augment, expand, largest, rerank


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def draw(count: int, length: int = 6, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, length)))


def literal_expand(query: np.ndarray, neighbours: Any, alpha: float) -> np.ndarray:
    total = query.astype(np.float64)
    for vector in neighbours:
        total = total + max(float(query @ vector), 0.0) ** alpha * vector
    return total / np.linalg.norm(total)


def nearest_others(vectors: np.ndarray, row: int, count: int, keep: np.ndarray) -> list[int]:
    similarities = vectors.astype(np.float64) @ vectors[row]
    others = [i for i in range(len(vectors)) if i != row and keep[i]]
    return sorted(others, key=lambda i: (-similarities[i], i))[:count]


def literal_rerank(query: np.ndarray, database: np.ndarray, options: RerankOptions) -> list[float]:
    refined = []
    for row, vector in enumerate(database.astype(np.float64)):
        total = vector.copy()
        for other in nearest_others(database, row, options.neighbours - 1, np.ones(len(database), bool)):
            total += options.beta * max(float(database[other] @ vector), 0.0) * database[other]
        refined.append(total / np.linalg.norm(total))
    first = [float(vector @ query) for vector in refined]
    best = sorted(range(len(refined)), key=lambda i: (-first[i], i))[: options.neighbours]
    again = np.max([refined[i] for i in best], axis=0)
    again /= np.linalg.norm(again)
    return [(score + float(vector @ again)) / 2 for score, vector in zip(first, refined, strict=True)]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_expansion_by_its_formula(alpha: float) -> None:
    vectors = draw(8)
    found = expand(vectors[0], vectors[1:], alpha)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, literal_expand(vectors[0], vectors[1:], alpha), atol=1e-6)
    assert (vectors[1:] @ vectors[0]).min() < 0  # an image on the other side is among them
    np.testing.assert_array_equal(expand(vectors[0], vectors[:0], alpha), vectors[0])


def test_alpha_trusts_similar_images_more() -> None:
    query, near, far = (unit(np.array(vector, float)) for vector in ((1, 0, 0), (3, 1, 0), (1, 0, 3)))
    shares = [expand(query, np.stack([near, far]), alpha) for alpha in (0.0, 1.0, 4.0)]
    assert [share[2] for share in shares] == sorted((share[2] for share in shares), reverse=True)
    assert shares[2][2] < 0.1 < shares[0][2]


@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize("kept", ["all", "some"])
@pytest.mark.parametrize("blocks", [(1024, 8192), (7, 5), (1, 3)])
def test_augmentation_by_its_formula(alpha: float, kept: str, blocks: tuple[int, int],
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = draw(23)
    vectors[11] = vectors[3]  # a copy is a neighbour as any other
    keep = np.arange(23) % 3 != 1 if kept == "some" else np.ones(23, bool)
    monkeypatch.setattr(module, "BLOCK", blocks[0])
    monkeypatch.setattr(module, "OTHERS", blocks[1])
    made = list(augment(vectors, 4, alpha, keep if kept == "some" else None))
    assert all(len(block) == blocks[0] for block in made[:-1])
    expected = [literal_expand(vectors[row], vectors[nearest_others(vectors, row, 4, keep)], alpha)
                for row in range(23)]
    np.testing.assert_allclose(np.concatenate(made), expected, atol=1e-6)


def test_augmentation_of_few_images() -> None:
    vectors = draw(3)
    np.testing.assert_allclose(np.concatenate(list(augment(vectors, 10, 0.0))),
                               np.repeat(unit(vectors.sum(axis=0))[None], 3, axis=0), atol=1e-6)
    alone = np.array([True, False, False])
    [found] = augment(vectors, 2, 0.0, alone)  # the first has no neighbour; it is the only one of the others
    np.testing.assert_allclose(found, unit(np.stack([vectors[0], vectors[1] + vectors[0], vectors[2] + vectors[0]])),
                               atol=1e-6)
    assert list(augment(vectors[:0], 2, 0.0)) == []


def test_augmentation_reads_halves_and_gives_singles() -> None:
    vectors = draw(5).astype(np.float16)
    [found] = augment(vectors, 2, 0.0)
    assert found.dtype == np.float32
    assert vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@given(values=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4),
       count=st.integers(0, 7))
def test_the_largest_values_the_first_of_equals(values: list[list[int]], count: int) -> None:
    found = largest(np.array(values, np.float32), count)
    expected = [sorted(range(5), key=lambda i, row=row: (-row[i], i))[:count] for row in values]
    assert found.tolist() == expected
    assert found.shape == (len(values), min(count, 5))


@pytest.mark.parametrize("options", [RerankOptions(), RerankOptions(neighbours=3, beta=0.5),
                                     RerankOptions(neighbours=1), RerankOptions(neighbours=99, beta=1.0)])
def test_reranking_by_its_formula(options: RerankOptions) -> None:
    vectors = draw(15, seed=1)
    database = vectors[1:]
    database[9] = database[4]  # a copy
    found = rerank(vectors[0], database, options)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, literal_rerank(vectors[0], database, options), atol=1e-6)
    assert len(rerank(vectors[0], database[:0], options)) == 0


def test_reranking_lifts_what_the_best_images_look_like() -> None:
    """A query sees two images of a thing; a third is nearer to those than to the query, and a stranger is not."""
    query, seen, other = np.eye(3)
    images = unit(np.stack([query + seen, query + 0.9 * seen, 0.3 * query + seen, 0.35 * query + other]))
    assert images[3] @ query > images[2] @ query
    scores = rerank(query.astype(np.float32), images, RerankOptions(neighbours=2, beta=0.5))
    assert scores[2] > scores[3]


@pytest.mark.parametrize("options", [{"depth": 0}, {"neighbours": 0}, {"beta": -0.1}, {"beta": float("nan")}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="must be"):
        RerankOptions(**options)
