"""What transforms of the plane do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delf.verification import angle
from delf.verification.plane import _undistorted, plausible, transformed

POINTS = np.random.default_rng(0).uniform((0, 0), (640, 480), (50, 2))


def similarity(degrees: float, scale: float = 1.0) -> np.ndarray:
    """Turns clockwise as seen: the x axis towards y, which grows downwards."""
    cosine, sine = (scale * part(math.radians(degrees)) for part in (math.cos, math.sin))
    return np.array([[cosine, -sine, 30.0], [sine, cosine, -200.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("degrees", [0, 10, 45, 90, 135, 179, -1, -90, -150])
@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_the_angle_of_a_similarity(degrees: float, scale: float) -> None:
    assert angle(similarity(degrees, scale), POINTS) == pytest.approx(degrees)


def test_the_x_axis_goes_down_by_a_quarter_turn_clockwise() -> None:
    right = transformed(similarity(90), np.array([[0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(right[1] - right[0], (0, 1), atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 70, -120])
def test_stretching_turns_nothing(degrees: float) -> None:
    stretched = similarity(degrees) @ np.diag([3.0, 1.0, 1.0])
    assert angle(stretched, POINTS) == pytest.approx(degrees)


@pytest.mark.parametrize("degrees", [0, 70, -120])
def test_perspective_is_looked_at_where_the_points_are(degrees: float) -> None:
    transform = similarity(degrees) @ np.array([[1, 0, 0], [0, 1, 0], [4e-4, 3e-4, 1]])
    middle = POINTS.mean(axis=0)
    step = 1e-3  # pixels
    ahead, aside = ((transformed(transform, middle + move) - transformed(transform, middle - move))[0] / (2 * step)
                    for move in (np.array([[step, 0.0]]), np.array([[0.0, step]])))
    expected = math.degrees(math.atan2(ahead[1] - aside[0], ahead[0] + aside[1]))
    assert angle(transform, POINTS) == pytest.approx(expected, abs=1e-4)


# --- what a photo can have undergone

CENTRE = np.array([320.0, 240.0])
CROSS = np.array([(0, 240), (640, 240), (320, 0), (320, 480), (320, 240)], float)  # none lies at a corner of their box
CORNERS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


def leaning(corner: tuple[int, int], lean: float, scale: float, squeeze: float = 1.0) -> np.ndarray:
    """A transform whose depth is 1 at the centre and 1 - lean at one corner, so that it is largest there.

    squeeze: how much more it scales towards the corner than across.
    """
    towards = np.array(corner) / math.sqrt(2)
    across = np.array([-towards[1], towards[0]])
    inner = np.eye(3)
    inner[:2, :2] = scale * (squeeze * np.outer(towards, towards) + np.outer(across, across))
    inner[2, :2] = -lean / 2 * np.array(corner)
    unit = np.diag([1 / 320, 1 / 240, 1.0]) @ np.array([[1, 0, -CENTRE[0]], [0, 1, -CENTRE[1]], [0, 0, 1.0]])
    back = np.diag([320.0, 240.0, 1.0])
    return back @ inner @ unit


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("lean", "scale", "squeeze", "bad"), [
    (1.2, 1.0, 1.0, 1), (0.75, 1.0, 1.0, 1), (0.6, 0.5, 2.5, 1), (0.7, 0.25, 1.0, -1)],
    ids=["folded", "blown up", "squeezed", "collapsed"])
def test_one_corner_is_enough_to_refuse_a_transform(corner: tuple[int, int], lean: float, scale: float, squeeze: float,
                                                    bad: int) -> None:
    """All other corners, the centre and the points themselves are such as a camera gives."""
    transform = leaning(corner, lean, scale, squeeze)
    places = {one: (CENTRE + one * CENTRE).tolist() for one in map(tuple, np.array(CORNERS))}
    wrong = [one for one, place in places.items() if not _undistorted(transform.tolist(), *place)]
    assert wrong == [(bad * corner[0], bad * corner[1])]
    assert all(_undistorted(transform.tolist(), *point) for point in CROSS.tolist())
    assert not plausible(transform, CROSS)
    assert plausible(leaning(corner, lean / 4, 1.0), CROSS)
    assert plausible(transform, CENTRE + (CROSS - CENTRE) / 8), "in the middle nothing is wrong with it"


@pytest.mark.parametrize(("transform", "words"), [
    (np.diag([-1.0, 1.0, 1.0]), "mirrored"), (np.diag([11.0, 11.0, 1.0]), "blown up"),
    (np.diag([0.09, 0.09, 1.0]), "collapsed"), (np.diag([6.5, 1.0, 1.0]), "squeezed"),
    (np.diag([1.0, 1.0, -1.0]), "behind the camera"), (np.full((3, 3), np.nan), "not finite"),
    (np.zeros((3, 3)), "nothing")])
def test_what_no_camera_does(transform: np.ndarray, words: str) -> None:
    assert not plausible(transform, POINTS), words


def test_what_a_camera_does() -> None:
    for transform in (np.eye(3), similarity(77, 9.0), similarity(-150, 0.12), np.diag([5.5, 1.0, 1.0])):
        assert plausible(transform, POINTS)
    assert not plausible(np.eye(3), np.zeros((0, 2)))
