"""What lies where an overlay was seen in several images of one picture says nothing in any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from delf.errors import OptionError
from delf.types import Features, Matches, Verification
from delf.verification import RecurrenceOptions, VerificationOptions, recurring, rests_on, verify, verify_again

SIZE = (640, 480)
OPTIONS = RecurrenceOptions(images=3)


def picture(points: np.ndarray) -> Features:
    ones = np.ones(len(points), np.float32)
    return Features(points.astype(np.float32), ones, ones, ones[:, None], SIZE)


def seen(inliers: Any, overlay: Any = ()) -> Verification:
    """Of a picture and another one, of which the same rows agree."""
    rows, taken = (np.repeat(np.asarray(some, np.int64)[:, None], 2, axis=1) for some in (inliers, overlay))
    return Verification(rows, np.eye(3), Matches(rows[:, 0], rows[:, 1], np.ones(len(rows), np.float32)), taken)


@pytest.fixture
def places() -> Features:
    """Fifty features in a strip below, and fifty above it."""
    rng = np.random.default_rng(0)
    below, above = rng.uniform((0, 440), (640, 470), (50, 2)), rng.uniform((0, 0), (640, 380), (50, 2))
    return picture(np.concatenate([below, above]))


STRIP, ABOVE = np.arange(50), np.arange(50, 100)


@pytest.mark.parametrize("side", [0, 1])
def test_where_several_show_an_overlay_it_is_one(places: Features, side: int) -> None:
    others = [(seen(ABOVE[:5], STRIP), side)] * 3
    gone = recurring(places, [*others, (seen(STRIP), side)], 10.0, OPTIONS)
    assert gone[STRIP].all()
    assert not gone[ABOVE].any()
    assert rests_on(gone, seen(STRIP), side, OPTIONS)
    assert not rests_on(gone, seen(ABOVE), side, OPTIONS)
    assert not rests_on(gone, seen(STRIP[:5]), side, OPTIONS), "so few agree by chance"


def test_two_are_too_few(places: Features) -> None:
    assert not recurring(places, [(seen([], STRIP), 0)] * 2 + [(seen(STRIP), 0)], 10.0, OPTIONS).any()


def test_where_more_agree_in_what_they_show_it_is_none(places: Features) -> None:
    """Of a place with many photos, chance made three pairs look like overlays."""
    found = [(seen([], STRIP), 0)] * 3 + [(seen(STRIP), 0)] * 4
    assert not recurring(places, found, 10.0, OPTIONS).any()
    by_chance = [(seen([], STRIP), 0)] * 3 + [(seen(STRIP[:9]), 0)] * 4
    assert recurring(places, by_chance, 10.0, OPTIONS)[STRIP].all(), "few inliers are chance's"


def test_a_neighbour_of_an_overlay_is_on_it() -> None:
    """Other images match other features of the same letters."""
    letters = picture(np.array([(x, 460) for x in range(20, 620, 10)], float))
    gone = recurring(letters, [(seen([], np.arange(0, 60, 2)), 0)] * 3, 10.0, OPTIONS)
    assert gone.all()


def test_keypoints_anywhere() -> None:
    wild = picture(np.array([(np.nan, 0), (np.inf, -np.inf), (-5, 1e9), (3, 3)]))
    assert recurring(wild, [(seen([], [0, 1, 2, 3]), 0)] * 3, 10.0, OPTIONS).all()
    assert not recurring(wild, [], 10.0, OPTIONS).any()


def test_what_is_left_is_verified_anew(places: Features) -> None:
    """Letters that match other letters agree with one transform, and what the pictures show with another."""
    rng = np.random.default_rng(1)
    moved = places.keypoints.copy()
    moved[STRIP] = moved[STRIP] @ np.array([[0.8, 0.1], [-0.05, 1.1]]) + (60, -90)
    moved[ABOVE[:20]] = moved[ABOVE[:20]] @ np.array([[0.9, 0.12], [-0.1, 0.85]]) + (40, 60) + rng.normal(0, 1, (20, 2))
    moved[ABOVE[20:]] = rng.uniform((0, 0), SIZE, (30, 2))
    other, rows = picture(moved), np.arange(100)
    alone = VerificationOptions(overlays=None)
    found = verify(places, other, Matches(rows, rows, np.linspace(1, 0.5, 100).astype(np.float32)), alone)
    assert set(STRIP) <= set(found.inliers[:, 0].tolist())
    again = verify_again(places, other, replace(found, worth=1.25), np.isin(rows, STRIP), 0, alone)
    assert again.worth == 1.25, "an inlier is worth what it was"
    assert set(ABOVE[:20]) <= set(again.inliers[:, 0].tolist())
    assert not set(STRIP) & set(again.matches.query.tolist())
    assert set(STRIP) <= set(again.overlay[:, 0].tolist()), "it says what was taken for an overlay's"


@pytest.mark.parametrize("options", [{"images": 0}, {"share": 1.5}, {"inliers": -1.0}, {"reach": 0.0}, {"minimum": 0}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        RecurrenceOptions(**options)
