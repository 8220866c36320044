"""The rankings and the probability: what must hold of each, whatever the numbers in them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf.ranking import MATCH_PROBABILITY, RANKINGS, evidence, probability
from delf.ranking.confidence import EVIDENCE
from delf.types import Features, Matches, Verification

PAIRS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 1000)), min_size=1, max_size=12)


def scored(name: str, pairs: list[tuple[int, int]]) -> np.ndarray:
    weights, inliers = np.array(pairs).T
    return RANKINGS[name](weights.astype(np.float32), inliers.astype(np.int64))


@pytest.mark.parametrize("name", RANKINGS)
@given(pairs=PAIRS)
def test_more_evidence_of_both_kinds_never_ranks_lower(name: str, pairs: list[tuple[int, int]]) -> None:
    scores = scored(name, pairs)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    for (votes, inliers), score in zip(pairs, scores, strict=True):
        for (more_votes, more_inliers), other in zip(pairs, scores, strict=True):
            if more_votes >= votes and more_inliers >= inliers:
                assert other >= score


@pytest.mark.parametrize("name", RANKINGS)
def test_no_images_no_scores_and_the_inputs_stay_as_they_are(name: str) -> None:
    weights, inliers = np.array([4, 2], np.float32), np.array([3, 9])
    RANKINGS[name](weights, inliers)
    assert (weights.tolist(), inliers.tolist()) == ([4, 2], [3, 9])
    assert len(RANKINGS[name](weights[:0], inliers[:0])) == 0


@given(pairs=PAIRS)
def test_by_inliers_votes_only_break_ties(pairs: list[tuple[int, int]]) -> None:
    order = np.argsort(-scored("inliers", pairs), kind="stable")
    expected = sorted(range(len(pairs)), key=lambda i: (-pairs[i][1], -pairs[i][0]))
    assert [pairs[i] for i in order] == [pairs[i] for i in expected]


@given(pairs=PAIRS)
def test_by_retrieval_inliers_say_nothing(pairs: list[tuple[int, int]]) -> None:
    assert scored("retrieval", pairs).tolist() == [votes for votes, _ in pairs]


def test_joint_by_its_formula() -> None:
    assert scored("joint", [(10, 0), (10, 50), (10, 100), (10, 900), (0, 900)]).tolist() == [10, 20, 30, 30, 0]


def test_confirmed_by_its_formula() -> None:
    pairs = [(10, 0), (10, 10), (10, 30), (10, 50), (10, 900), (0, 900)]
    assert scored("confirmed", pairs).tolist() == [10, 10, 30, 50, 50, 0]


@pytest.mark.parametrize("name", ["joint", "confirmed"])
@given(pairs=PAIRS)
def test_a_score_does_not_depend_on_the_other_images(name: str, pairs: list[tuple[int, int]]) -> None:
    assert scored(name, pairs).tolist() == [scored(name, [pair])[0] for pair in pairs]


@pytest.mark.parametrize(("name", "first", "last"), [("joint", 0, 100), ("confirmed", 10, 50)])
def test_scores_rise_strictly_with_each_until_inliers_are_enough(name: str, first: int, last: int) -> None:
    assert (np.diff(scored(name, [(50, inliers) for inliers in range(first, last + 1)])) > 0).all()
    assert (np.diff(scored(name, [(votes, 25) for votes in range(101)])) > 0).all()


def of_inliers(inliers: int) -> float:
    return probability({"inliers": np.log1p(inliers)})


def test_the_probability_rises_with_the_inliers() -> None:
    values = [of_inliers(inliers) for inliers in range(150)]
    assert all(0 < value < 1 for value in values)
    assert all(low < high for low, high in pairwise(values))
    assert 0 < of_inliers(10**6) <= 1
    assert of_inliers(28) < MATCH_PROBABILITY <= of_inliers(29)


def test_the_probability_is_a_logistic_function_of_the_evidence() -> None:
    weights = {"inliers": 2.0, "images": -0.5, "intercept": -3.0}
    assert probability({"inliers": 1.5, "images": 2.0, "area": 0.7}, weights) == pytest.approx(1 / (1 + np.exp(1)))
    assert probability({}, weights) == pytest.approx(1 / (1 + np.exp(3)))
    assert probability({"inliers": 1e9}, weights) == 1
    assert probability({"inliers": -1e9}, weights) == pytest.approx(0)


def some_matches(count: int) -> Matches:
    rows = np.arange(count)
    return Matches(rows, rows, np.ones(count, np.float32))


def test_evidence_says_what_was_found() -> None:
    corners = np.array([(0, 0), (100, 0), (100, 50), (0, 50), (9, 9)], np.float32)
    unit = np.eye(5, dtype=np.float32)
    features = Features(corners, np.ones(5, np.float32), np.ones(5, np.float32), unit, (200, 100))
    turned = Features(corners, features.scales, features.scores, np.roll(unit, 1, axis=0), (200, 100))
    rows = np.array([(0, 0), (1, 1), (2, 2), (3, 4)])
    found = evidence(features, turned, Verification(rows, np.eye(3), some_matches(16)), images=1000)
    assert found == pytest.approx({"inliers": np.log(5), "share": 0.25, "area": 0.25, "similarity": 0.25, "images": 3})
    nothing = evidence(features, turned, Verification(rows[:0], None, Matches.none()))
    assert set(nothing.values()) == {0.0}
    assert tuple(nothing) == EVIDENCE
