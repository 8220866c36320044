"""What a look at a query says of the images that it found."""

from __future__ import annotations

import numpy as np
import pytest

from delf.looks import Look
from delf.ranking import BACKGROUND, CHANCE, in_order, words_background, words_evidence
from delf.types import Features, Matches, Verification
from delf.verifying import Verified


def features(count: int) -> Features:
    """So many in one row."""
    points = np.column_stack([np.arange(count), np.zeros(count)]).astype(np.float32)
    ones = np.ones(count, np.float32)
    return Features(points, ones, ones, np.eye(count, dtype=np.float32), (200, 100))


def background(similarities: np.ndarray) -> float:
    """Of images of these similarities, none of which is confirmed."""
    similar = float(np.quantile(similarities, BACKGROUND)) if len(similarities) else 0.0
    return words_background(len(similarities), similar)


def verified(ordinal: int, inliers: int, overlay: int) -> Verified:
    """An image with so many pairs that agree, and so many that agree in an overlay."""
    rows = np.stack([np.arange(inliers + overlay)] * 2, axis=1)
    found = Verification(rows[:inliers], np.eye(3) if inliers else None, Matches.none(), rows[inliers:])
    return Verified(ordinal, features(100), found)


@pytest.mark.parametrize(("inliers", "overlay", "share"), [(30, 0, 1.0), (30, 30, 0.5), (5, 95, 0.05), (0, 40, 0.0),
                                                           (0, 0, 1.0)])
def test_words_count_as_far_as_what_agrees_is_no_overlays(inliers: int, overlay: int, share: float) -> None:
    found = in_order(np.array([7, 3]), np.array([0.2, 0.04], np.float32))
    one = verified(3, inliers, overlay)
    confirmed = one.inliers > CHANCE
    beside = background(np.array([0.2] if confirmed else [0.2, 0.04], np.float32))
    expected = words_evidence(0.04 * share, beside)
    assert Look(features(100), found, found, [one]).words_of(one) == pytest.approx(expected, rel=1e-6)


def test_words_of_an_image_that_retrieval_did_not_find() -> None:
    found = in_order(np.array([7]), np.array([0.2], np.float32))
    one = verified(3, 10, 0)
    assert Look(features(100), found, found, [one]).words_of(one) == words_evidence(0.0, background(found.scores))


def test_a_similarity_is_judged_beside_those_of_other_images() -> None:
    """Not beside those of the same thing, however many there are; and where there are few others, beside usual ones."""
    rng = np.random.default_rng(0)
    landmarks, streets = (rng.uniform(0, most, 900).astype(np.float32) for most in (0.001, 0.004))
    alone = [words_evidence(0.01, background(others)) for others in (landmarks, streets)]
    assert alone[0] - alone[1] == pytest.approx(np.log(3.9 / 1.2), abs=0.05)
    found = in_order(np.arange(1000), np.concatenate([streets, np.full(100, 0.01, np.float32)]))
    confirmed = [verified(ordinal, 40, 0) for ordinal in range(900, 1000)]
    look = Look(features(100), found, found, confirmed)
    assert look.words_of(confirmed[0]) == pytest.approx(alone[1], abs=1e-6)
    usual = words_evidence(0.01, background(np.zeros(0, np.float32)))
    few = [words_evidence(0.01, background(np.full(number, 0.01, np.float32))) for number in (1, 5, 2000)]
    assert usual > few[0] > few[1] > few[2] == pytest.approx(0.0, abs=0.05)
