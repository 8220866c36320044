"""How alike two pictures are around what agrees in both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delf.types import Features, Matches, Verification
from delf.verification import VerificationOptions, verify
from delf.verification.surroundings import likeness

SIZE = (448, 336)


def pair(around: float, beside: float = 0.8, scale: float = 1.0, fewer: int = 1) -> tuple[Features, Features,
                                                                                        Verification]:
    """Two pictures, the second so many times larger, with a patch in the middle that agrees.

    around, beside: the cosine of features at the same place, far from the patch and right beside its points.
    """
    rng = np.random.default_rng(0)
    patch, rest = rng.uniform((180, 120), (260, 200), (40, 2)), rng.uniform((0, 0), SIZE, (600 // fewer, 2))
    rest = rest[np.linalg.norm(rest[:, None] - patch, axis=2).min(axis=1) > 10]
    points = np.concatenate([patch, patch + rng.normal(0, 2, patch.shape), rest])
    cosines = np.concatenate([np.full(40, 0.9), np.full(40, beside), np.full(len(rest), around)])[:, None]
    known, noise = (rng.normal(size=(len(points), 64)) for _ in range(2))
    known, noise = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (known, noise))
    described = cosines * known + np.sqrt(1 - cosines**2) * noise
    features = [Features((points * zoom).astype(np.float32), np.full(len(points), zoom, np.float32),
                         np.ones(len(points), np.float32), descriptors.astype(np.float32),
                         (round(SIZE[0] * zoom), round(SIZE[1] * zoom)))
                for zoom, descriptors in ((1.0, known), (scale, described))]
    inliers = np.column_stack([np.arange(40)] * 2)
    found = Verification(inliers, np.diag((scale, scale, 1.0)), Matches.none())
    return features[0], features[1], found


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.5])
def test_it_is_one_where_all_is_alike_and_nothing_where_only_the_inliers_are(scale: float) -> None:
    values = [likeness(*pair(around, scale=scale), 10.0) for around in (0.8, 0.4, 0.0)]
    assert values == pytest.approx([1.0, 0.55, 0.12], abs=0.12)


def test_it_does_not_depend_on_how_similar_descriptors_are() -> None:
    query, database, found = pair(0.6)
    common = [replace(one, descriptors=np.hstack([one.descriptors, np.full((len(one), 1), 2, np.float32)]) / 5**0.5)
              for one in (query, database)]
    assert likeness(*common, found, 10.0) == pytest.approx(likeness(query, database, found, 10.0), abs=0.02)


def test_it_is_not_known_where_nothing_says_so() -> None:
    assert likeness(*pair(0.8, beside=0.1), 10.0) is None, "features at corners lie at other ones"
    assert likeness(*pair(0.8, fewer=300), 10.0) is None, "hardly anything lies around"
    query, database, found = pair(0.8)
    assert likeness(query, database, replace(found, transform=np.diag((1.0, 1.0, 1.0)) + np.array(
        [[0, 0, 900], [0, 0, 0], [0, 0, 0]])), 10.0) is None, "the pictures do not overlap"


def test_points_that_are_no_numbers_lie_nowhere() -> None:
    query, database, found = pair(0.8)
    places = database.keypoints.copy()
    places[60:70] = np.nan
    assert likeness(query, replace(database, keypoints=places), found, 10.0) == pytest.approx(1.1, abs=0.2)


@pytest.mark.parametrize(("around", "there"), [(0.0, False), (0.7, True)], ids=["sign", "thing"])
def test_what_lies_anywhere_is_content_where_the_pictures_look_alike_around_it(around: float, there: bool) -> None:
    query, database, _ = pair(around)
    turn = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]) * 0.9
    places = query.keypoints @ turn.T + (110, -60) + np.random.default_rng(1).normal(0, 2, query.keypoints.shape)
    database = replace(database, keypoints=places.astype(np.float32))
    matches = Matches(np.arange(40), np.arange(40), np.linspace(1, 0.5, 40).astype(np.float32))
    assert len(verify(query, database, matches, VerificationOptions(overlays=None))) >= 35
    assert (len(verify(query, database, matches)) >= 35) == there
