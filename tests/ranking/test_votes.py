"""Votes, held to a loop that does what the docstring says."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from delf.ranking import Candidates, count_votes, in_order
from delf.types import Neighbours


def slow_votes(neighbours: Neighbours, images: np.ndarray, power: float) -> list[tuple[int, float]]:
    """(image, weight) in order."""
    votes: dict[int, list[float]] = {}
    for row in range(len(images)):
        best: dict[int, float] = {}
        for column in range(images.shape[1]):
            if neighbours.ids[row, column] >= 0:
                image, similarity = int(images[row, column]), float(neighbours.similarities[row, column])
                best[image] = max(best.get(image, -np.inf), similarity)
        for image, similarity in best.items():
            votes.setdefault(image, []).append(max(similarity, 0.0) ** power)
    return sorted(((image, sum(weights)) for image, weights in votes.items()),
                  key=lambda vote: (-round(vote[1], 9), vote[0]))


@st.composite
def answers(draw: Any) -> tuple[Neighbours, np.ndarray]:
    """Neighbours as an index gives them: best first, missing ones last."""
    shape = draw(st.tuples(st.integers(0, 6), st.integers(1, 8)))
    images = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 5)))
    # Eighths: their sums are exact, so that the order of weights does not hang on rounding.
    similarities = -np.sort(-draw(arrays.arrays(np.int64, shape, elements=st.integers(-8, 8))) / 8, axis=1)
    found = draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, shape[1])))
    missing = np.arange(shape[1]) >= found[:, None]
    ids = np.where(missing, -1, np.arange(images.size).reshape(shape))
    return Neighbours(ids, np.where(missing, -np.inf, similarities).astype(np.float32)), images


@settings(max_examples=200, deadline=None)
@given(answer=answers(), power=st.sampled_from([0.0, 1.0, 2.0]))
def test_votes_are_those_of_the_loop(answer: tuple[Neighbours, np.ndarray], power: float) -> None:
    neighbours, images = answer
    votes = count_votes(neighbours, images, power=power)
    expected = slow_votes(neighbours, images, power)
    assert votes.images.tolist() == [image for image, _ in expected]
    np.testing.assert_allclose(votes.scores, [weight for _, weight in expected], rtol=1e-6)
    assert votes.scores.dtype == np.float32
    assert len(votes) == len(expected)


def one_row(images: list[int], similarities: list[float], **options: float) -> Candidates:
    row = np.array([images])
    return count_votes(Neighbours(np.arange(row.size).reshape(row.shape), np.array([similarities], np.float32)), row,
                       **options)


def test_a_query_feature_counts_once_for_an_image_by_its_best_neighbour() -> None:
    votes = one_row([7, 7, 3, 7, 3], [0.9, 0.8, 0.7, 0.6, 0.5], power=1.0)
    assert votes.images.tolist() == [7, 3]
    np.testing.assert_allclose(votes.scores, [0.9, 0.7])


def test_power_nought_counts_and_a_negative_similarity_weighs_nothing() -> None:
    assert one_row([2, 1], [0.9, -0.3]).scores.tolist() == [1, 1]
    assert one_row([2, 1], [0.9, -0.3], power=2.0).scores.tolist() == [np.float32(np.float32(0.9) ** 2), 0]


def test_nothing_found_is_no_vote() -> None:
    for shape in ((0, 3), (2, 3)):
        ids = np.full(shape, -1)
        votes = count_votes(Neighbours(ids, np.full(shape, -np.inf, np.float32)), np.zeros(shape, np.int64))
        assert (len(votes), votes.images.tolist(), votes.scores.tolist()) == (0, [], [])


@given(answer=answers(), seed=st.integers(0, 99))
def test_the_order_of_the_query_features_does_not_matter(answer: tuple[Neighbours, np.ndarray], seed: int) -> None:
    neighbours, images = answer
    order = np.random.default_rng(seed).permutation(len(images))
    votes = count_votes(neighbours, images)
    turned = count_votes(Neighbours(neighbours.ids[order], neighbours.similarities[order]), images[order])
    assert votes.images.tolist() == turned.images.tolist()


@settings(deadline=None, max_examples=100)
@given(scores=st.lists(st.sampled_from([0.0, 0.1, 0.1 + 1e-12, 0.5, 2.0]), max_size=12), count=st.integers(0, 14),
       seed=st.integers(0, 99), wanted=st.lists(st.integers(0, 40), max_size=5))
def test_the_best_are_those_of_the_whole_order(scores: list[float], count: int, seed: int, wanted: list[int]) -> None:
    """Equal scores, and such as only float64 tells apart, included."""
    images = np.random.default_rng(seed).permutation(40)[: len(scores)]
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], images[row]))
    expected = [(int(images[row]), float(np.float32(scores[row]))) for row in order]

    def told(candidates: Candidates) -> list[tuple[int, float]]:
        assert candidates.scores.dtype == np.float32
        return list(zip(candidates.images.tolist(), candidates.scores.tolist(), strict=True))

    sorted_already = Candidates(images[order].astype(np.int64), np.array(scores, np.float32)[order])
    for found in (in_order(images, np.array(scores)), sorted_already):
        assert told(found.best(count)) == expected[:count]
        assert told(found) == expected
        assert told(found.best(count)) == expected[:count]
        assert found.scores_of(wanted) == {image: score for image, score in expected if image in wanted}
        assert sorted(found.scores_without(wanted).tolist()) == sorted(
            score for image, score in expected if image not in wanted)
        dense = np.zeros(40)
        found.add_to(dense)
        assert [(image, dense[image]) for image, _ in expected] == expected
        assert np.count_nonzero(dense) == np.count_nonzero([score for _, score in expected])
