"""What confirmed images say of others, against a literal one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.ranking import Candidates, SupportOptions, support, supporters


def test_supporters_are_the_best_that_geometry_confirms() -> None:
    candidates = Candidates(np.array([5, 2, 9, 7]), np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    options = SupportOptions(inliers=20, range=50)
    inliers = np.array([20, 25, 220, 70])
    images, weights = supporters(candidates, inliers, options)
    assert images.tolist() == [9, 2, 7]  # by their scores and inliers together: 1.0, 0.75, 0.5
    np.testing.assert_allclose(weights, [1.0, 0.1, 1.0])
    assert supporters(candidates, inliers, SupportOptions(images=1))[0].tolist() == [9]
    assert supporters(candidates, np.full(4, 20), options)[0].tolist() == []


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), total=st.integers(6, 12))
def test_support_is_the_mean_of_the_others(seed: int, count: int, total: int) -> None:
    rng = np.random.default_rng(seed)
    images, weights = rng.permutation(total)[:count], rng.uniform(0.1, 1.0, count)
    similarities = rng.uniform(0, 1, (count, total)).astype(np.float32)
    cut = total // 2  # of two segments
    said = np.concatenate([support(images, weights, similarities[:, :cut]),
                           support(images, weights, similarities[:, cut:], cut)])
    np.testing.assert_array_equal(said, support(images, weights, similarities))
    for image in range(total):
        others = [k for k in range(count) if images[k] != image]
        mean = np.average(similarities[others, image], weights=weights[others]) if others else 0.0
        assert said[image] == pytest.approx((1 - np.prod(1 - weights)) * mean)


def test_refuses_senseless_options() -> None:
    for options in ({"images": -1}, {"gain": -0.5}, {"inliers": -1}, {"range": 0}):
        with pytest.raises(OptionError, match="0 or more"):
            SupportOptions(**options)
