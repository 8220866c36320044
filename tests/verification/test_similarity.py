"""The verifier that grows a transform from one match, beside a slow and literal one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from delf.types import Features, Matches
from delf.verification import VerificationOptions, verify
from delf.verification.geometry import one_to_one
from delf.verification.similarity import ROUNDS, SHORTLIST, TOLERANCE

OPTIONS = VerificationOptions(verifier="similarity", overlays=None)


def picture(points: np.ndarray, scales: np.ndarray) -> Features:
    count = len(points)
    return Features(points.astype(np.float32), scales.astype(np.float32), np.ones(count, np.float32),
                    np.ones((count, 1), np.float32), (1000, 800))


def scene(zoom: float, shift: tuple[float, float], true: int, false: int,
          seed: int = 0) -> tuple[Features, Features, Matches]:
    """The first matches are those of a picture that is zoomed and moved; the others are at random."""
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, 800, (true + false, 2))
    target = source * zoom + shift + rng.normal(0, 1, source.shape)
    target[true:] = rng.uniform(0, 800, (false, 2))
    scales = 2.0 ** rng.integers(-2, 3, true + false)
    others = np.concatenate([scales[:true] * zoom, 2.0 ** rng.integers(-2, 3, false)])
    rows = np.arange(true + false)
    return picture(source, scales), picture(target, others), Matches(rows, rows, np.linspace(1, 0.5, true + false,
                                                                                               dtype=np.float32))


def most_support(query: Features, database: Features, tolerance: float) -> int:
    """The most matches that any match's own zoom and shift bring together, one loop for each."""
    best = 0
    for i in range(len(query)):
        zoom = float(database.scales[i] / query.scales[i])
        count = 0
        for j in range(len(query)):
            moved = (query.keypoints[j] - query.keypoints[i]) * zoom + database.keypoints[i]
            count += np.linalg.norm(moved - database.keypoints[j]) <= tolerance
        best = max(best, count)
    return best


def literal(query: Features, database: Features, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """What the verifier's docstring says, one hypothesis and one match after the other; transform and inliers."""
    pairs = list(zip(matches.query.tolist(), matches.database.tolist(), strict=True))

    def agreeing(transform: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
        return [(i, j) for i, j in pairs
                if np.linalg.norm(transform @ [*query.keypoints[i], 1] - database.keypoints[j]) <= tolerance]

    def support(transform: np.ndarray, tolerance: float) -> int:
        found = agreeing(transform, tolerance)
        return min(len({i for i, _ in found}), len({j for _, j in found}))

    def refined(transform: np.ndarray, tolerance: float) -> np.ndarray:
        found = np.array(agreeing(transform, tolerance)).reshape(-1, 2)
        source, target = query.keypoints[found[:, 0]].astype(float), database.keypoints[found[:, 1]]
        if len(found) < 3 or np.linalg.det(np.cov(source.T, bias=True)) <= 1:
            return transform
        return np.linalg.lstsq(np.column_stack([source, np.ones(len(source))]), target, rcond=None)[0].T

    hypotheses = []
    for i, j in pairs:
        zoom = float(database.scales[j] / query.scales[i])
        shift = database.keypoints[j] - zoom * query.keypoints[i].astype(float)
        hypotheses.append(np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]))
    shortlist = sorted(hypotheses, key=lambda one: -support(one, TOLERANCE * OPTIONS.threshold))[:SHORTLIST]
    tried = list(shortlist)
    for tolerance in ROUNDS:
        shortlist = [refined(one, tolerance * OPTIONS.threshold) for one in shortlist]
        tried += shortlist
    winner = refined(max(tried, key=lambda one: support(one, OPTIONS.threshold)), OPTIONS.threshold)
    return winner, one_to_one(np.array(agreeing(winner, OPTIONS.threshold)))


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_it_does_what_it_says(words: int, seed: int) -> None:
    """With several words, a feature is in as many matches as there are others of its word."""
    query, database, matches = scene(1.3, (40, -25), 14, 20, seed)
    if words > 1:
        other = np.random.default_rng(seed).permutation(34)
        rows = np.concatenate([np.arange(34), np.arange(34), other])
        matches = Matches(rows, np.concatenate([np.arange(34), other, np.arange(34)]),
                          np.linspace(1, 0.2, len(rows), dtype=np.float32))
    found = verify(query, database, matches, OPTIONS)
    transform, inliers = literal(query, database, matches)
    np.testing.assert_array_equal(found.inliers, inliers)
    assert found.transform is not None
    np.testing.assert_allclose(found.transform[:2], transform, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("true", "false"), [(12, 100), (30, 120), (60, 0)])
@pytest.mark.parametrize("zoom", [0.5, 1.0, 1.7])
def test_it_finds_what_every_single_match_proposes(true: int, false: int, zoom: float) -> None:
    query, database, matches = scene(zoom, (40, -25), true, false)
    found = verify(query, database, matches, OPTIONS)
    assert len(found) >= most_support(query, database, OPTIONS.threshold) - 1
    assert np.count_nonzero(found.inliers[:, 0] < true) >= 0.95 * true
    np.testing.assert_allclose(found.transform, [[zoom, 0, 40], [0, zoom, -25], [0, 0, 1]], atol=4)


def test_one_match_in_fifty_is_enough() -> None:
    query, database, matches = scene(1.2, (5, 5), 10, 490)
    assert np.count_nonzero(verify(query, database, matches, OPTIONS).inliers[:, 0] < 10) >= 9


def test_chance_alone_verifies_little() -> None:
    query, database, matches = scene(1.0, (0, 0), 0, 300)
    assert len(verify(query, database, matches, OPTIONS)) < 15


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_features_without_a_scale_propose_nothing(scale: Any) -> None:
    query, database, matches = scene(1.0, (0, 0), 30, 0)
    query = picture(query.keypoints, np.full(30, scale))
    found = verify(query, database, matches, OPTIONS)
    assert (len(found), found.transform, found.tentative) == (0, None, 30)
