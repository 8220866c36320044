"""Distinct inliers, against a literal count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.ranking import distinct_inliers
from delf.types import Matches, Verification


def verification(query: list[int], similarities: list[float], inliers: list[int]) -> Verification:
    """Matches of query features with database features of the same number; inliers are places in the list."""
    rows = np.array(query, np.int64)
    pairs = np.column_stack([rows, rows])[np.array(inliers, np.int64)]
    return Verification(pairs, np.eye(3), Matches(rows, rows, np.array(similarities, np.float32)))


def literally(candidates: list[Verification], rivals: float) -> list[float]:
    found = []
    for one in candidates:
        total = 0.0
        for feature, _ in one.inliers:
            similarity = one.matches.similarities[one.matches.query == feature][0]
            better = 0
            for other in candidates:
                agreeing = set(other.inliers[:, 0].tolist())
                better += sum(1 for row, value in zip(other.matches.query, other.matches.similarities, strict=True)
                              if row == feature and value > similarity and row not in agreeing)
            total += 1 / (1 + better / len(candidates) / rivals)
        found.append(total)
    return found


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(0, 6), rivals=st.floats(0.01, 1))
def test_is_what_a_literal_count_says(seed: int, images: int, rivals: float) -> None:
    rng = np.random.default_rng(seed)
    candidates = []
    for _ in range(images):
        query = rng.permutation(8)[: rng.integers(0, 9)].tolist()
        similarities = rng.choice([0.5, 0.6, 0.7], len(query)).tolist()  # with ties
        candidates.append(verification(query, similarities, np.flatnonzero(rng.random(len(query)) < 0.5).tolist()))
    np.testing.assert_allclose(distinct_inliers(candidates, rivals), literally(candidates, rivals))


def test_without_other_images_every_inlier_counts() -> None:
    assert distinct_inliers([verification([3, 1, 2], [0.9, 0.8, 0.7], [0, 2])]).tolist() == [2.0]
    assert distinct_inliers([replace(verification([3, 1], [0.9, 0.8], [0, 1]), worth=1.25)]).tolist() == [2.5]
    assert distinct_inliers([]).tolist() == []
    assert distinct_inliers([Verification(np.empty((0, 2), np.int64), None, Matches.none())]).tolist() == [0.0]


def test_what_many_images_answer_counts_less_unless_they_agree() -> None:
    image = verification([0, 1], [0.7, 0.7], [0, 1])
    strangers = [verification([0], [0.8], []) for _ in range(9)]
    assert distinct_inliers([image, *strangers], rivals=0.9)[0] == pytest.approx(1.5)
    others = [verification([0, 1], [0.8, 0.8], [0, 1]) for _ in range(9)]
    assert distinct_inliers([image, *others], rivals=0.9)[0] == pytest.approx(2.0)


def test_the_order_of_the_candidates_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    candidates = [verification(list(range(9)), rng.choice([0.5, 0.6], 9).tolist(), [0, 4, 5]) for _ in range(7)]
    order = rng.permutation(7)
    np.testing.assert_array_equal(distinct_inliers([candidates[i] for i in order]), distinct_inliers(candidates)[order])
