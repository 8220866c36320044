"""What transforms of the plane do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delf.verification import angle
from delf.verification.plane import transformed

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
