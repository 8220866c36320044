"""Features of turned images lie where they are in the image that is not turned."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

from delf.features import Delf, extract_turned
from delf.images import read_image
from delf.types import Features
from delf.verification import match_and_verify


class Brightest:
    """Finds the middle of each bright spot, and the corners of what it sees."""

    longest_side = 2048

    def __init__(self, max_features: int = 1000) -> None:
        self.max_features = max_features
        self.seen: list[np.ndarray] = []
        self.asked: list[int] = []

    def keeping(self, count: int) -> Any:
        self.asked.append(count)
        return self

    def extract(self, image: np.ndarray) -> Features:
        self.seen.append(image)
        height, width = image.shape[:2]
        _, _, _, middles = cv2.connectedComponentsWithStats((image[:, :, 0] > 100).astype(np.uint8))
        corners = [(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]
        points = np.array([*middles[1:], *corners], np.float32)
        ones = np.ones(len(points), np.float32)
        return Features(points, ones, ones, ones[:, None], (width, height))


@pytest.fixture
def picture() -> np.ndarray:
    image = np.zeros((60, 100, 3), np.uint8)
    cv2.circle(image, (71, 12), 4, (255, 255, 255), -1)
    return image


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135, 180, 200.5, 270, -90, 359])
@pytest.mark.parametrize("reduction", [1, 4])
def test_a_point_stays_where_it_is(picture: np.ndarray, degrees: float, reduction: int) -> None:
    extractor: Any = Brightest()
    found = extract_turned(extractor, picture, (100 * reduction, 60 * reduction), degrees)
    expected = [(71 + 0.5) * reduction - 0.5, (12 + 0.5) * reduction - 0.5]
    np.testing.assert_allclose(found.keypoints[0], expected, atol=0.25 * reduction)  # of a spot in whole pixels
    assert degrees % 90 == 0 or len(found) == 1, "its mirror images lie outside"
    assert found.image_size == (100 * reduction, 60 * reduction)
    assert found.keypoints.dtype == found.scales.dtype == np.float32
    np.testing.assert_allclose(found.scales, reduction, rtol=1e-6)


@pytest.mark.parametrize(("degrees", "kept"), [(0, 5), (90, 5), (180, 5), (270, 5), (45, 1), (130, 1)])
def test_nothing_is_found_outside_of_the_image(picture: np.ndarray, degrees: float, kept: int) -> None:
    extractor: Any = Brightest()
    found = extract_turned(extractor, picture, (100, 60), degrees)
    assert len(found) == len(found.scores) == len(found.descriptors) == kept
    assert (found.keypoints >= -0.5).all() and (found.keypoints <= (99.5, 59.5)).all()


@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_change_no_pixel(quarters: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 41, 3), np.uint8)
    extractor: Any = Brightest()
    extract_turned(extractor, image, (41, 60), 90 * quarters)
    assert np.array_equal(extractor.seen[0], np.rot90(image, quarters))
    assert extractor.asked == [1000]


def test_as_many_features_are_found_as_upright(extractor: Delf, queries: Any) -> None:
    image = read_image(queries["coins"].path)
    size = (image.shape[1], image.shape[0])
    upright = extractor.extract(image)
    for degrees in (37, 45, 90):
        turned = extract_turned(extractor, image, size, degrees)
        assert len(turned) >= 0.9 * len(upright), degrees
        assert (np.diff(turned.scores) <= 0).all()


def test_a_turn_that_is_undone_finds_the_same(extractor: Delf, queries: Any) -> None:
    """The picture of a photo that lies askew, turned upright, has the features of the photo."""
    image = read_image(queries["camera"].path)
    height, width = image.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    askew = cv2.warpAffine(image, cv2.getRotationMatrix2D(middle, 60, 1), (width, height))  # to the left
    upright, lying = extractor.extract(image), extractor.extract(askew)
    straightened = extract_turned(extractor, np.asarray(askew, np.uint8), (width, height), -60)
    inliers = [len(match_and_verify(found, upright)) for found in (lying, straightened)]
    assert inliers[1] > 200 + inliers[0]


def test_a_huge_picture_is_reduced_first() -> None:
    image = np.zeros((20, 40_000, 3), np.uint8)
    image[5:15, 20_000:20_100] = 255
    extractor: Any = Brightest()
    found = extract_turned(extractor, image, (40_000, 20), 45)
    assert max(extractor.seen[0].shape) <= math.ceil(2048 * math.sqrt(2))
    assert abs(found.keypoints[0, 0] - 20_050) < 60


def test_without_a_limit_there_is_one() -> None:
    image = np.zeros((4, 40_000, 3), np.uint8)
    image[:, 20_000:20_100] = 255
    extractor: Any = Brightest()
    extractor.longest_side = None
    found = extract_turned(extractor, image, (40_000, 4), 90)
    assert extractor.seen[0].shape[0] == 16384
    assert abs(found.keypoints[0, 0] - 20_050) < 60
