"""What confirmed images say of others, against a literal one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import OptionError
from delf.ranking import CHANCE, Candidates, SupportOptions, support, supporters


def test_supporters_are_the_best_with_more_inliers_than_chance_gives() -> None:
    candidates = Candidates(np.array([5, 2, 9, 7]), np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    inliers = np.array([CHANCE, CHANCE + 5, CHANCE + 200, CHANCE + 50])
    images, weights = supporters(candidates, inliers, SupportOptions())
    assert images.tolist() == [9, 7, 2]  # by their scores and inliers together: 1.0, 0.5, 0.42
    np.testing.assert_allclose(weights, [1.0, 1.0, 0.1])
    assert supporters(candidates, inliers, SupportOptions(images=1))[0].tolist() == [9]
    assert supporters(candidates, np.full(4, CHANCE), SupportOptions())[0].tolist() == []


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), total=st.integers(6, 12))
def test_support_is_the_mean_of_the_others(seed: int, count: int, total: int) -> None:
    rng = np.random.default_rng(seed)
    images, weights = rng.permutation(total)[:count], rng.uniform(0.1, 1.0, count)
    similarities = rng.uniform(0, 1, (count, total)).astype(np.float32)
    said = support(images, weights, similarities)
    for image in range(total):
        others = [k for k in range(count) if images[k] != image]
        mean = np.average(similarities[others, image], weights=weights[others]) if others else 0.0
        assert said[image] == pytest.approx(weights.max() * mean)


def test_refuses_senseless_options() -> None:
    for options in ({"images": -1}, {"gain": -0.5}):
        with pytest.raises(OptionError, match="0 or more"):
            SupportOptions(**options)
