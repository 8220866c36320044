"""Late fusion, and two lists in turns."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from delf.ranking.fusion import LOCAL_WEIGHT, fused, in_turns

LISTS = st.lists(st.integers(0, 12), unique=True, max_size=9)


def test_the_mean_of_two_normalised_scores() -> None:
    cosines, inliers = np.array([0.9, -0.2, 0.5], np.float32), np.array([10, 40, 0])
    expected = [LOCAL_WEIGHT * count / 40 + (1 - LOCAL_WEIGHT) * float(cosine)
                for cosine, count in zip(cosines, inliers, strict=True)]
    np.testing.assert_allclose(fused(cosines, inliers), expected, rtol=1e-12)
    assert 0 < LOCAL_WEIGHT < 1
    assert fused(cosines, inliers, 1.0).tolist() == [0.25, 1.0, 0.0]
    np.testing.assert_array_equal(fused(cosines, inliers, 0.0), cosines)


def test_without_inliers_the_order_is_that_of_the_cosines() -> None:
    cosines = np.array([0.3, 0.8, -0.5], np.float32)
    assert np.argsort(-fused(cosines, np.zeros(3, np.int64))).tolist() == [1, 0, 2]
    assert len(fused(cosines[:0], np.zeros(0, np.int64))) == 0


def test_many_inliers_outweigh_some_similarity() -> None:
    assert np.argmax(fused(np.array([0.5, 0.4], np.float32), np.array([5, 80]))) == 1


@given(first=LISTS, second=LISTS)
def test_one_of_each_in_turn_and_each_once(first: list[int], second: list[int]) -> None:
    expected: list[int] = []
    for place in range(max(len(first), len(second))):
        for images in (first, second):
            if place < len(images) and images[place] not in expected:
                expected.append(images[place])
    found = in_turns(np.array(first, np.int64), np.array(second, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == expected
