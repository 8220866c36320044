"""Details: the same places whatever copy of a photo they are found in, and beside features that stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from delf.errors import OptionError
from delf.features import Delf, ExtractionOptions, extract_turned
from delf.features.details import LONGEST_SIDE, find_details
from delf.features.rootsift import in_original
from delf.query import Query
from delf.types import Features


def details_of(image: np.ndarray, most: int = 100, size: tuple[int, int] | None = None) -> Features:
    return in_original(*find_details(image, most), size or (image.shape[1], image.shape[0]))


@pytest.fixture
def detailed() -> Iterator[Delf]:
    yield Delf.load(threads=1, details=50, max_features=60, scales=(0.5,))


def test_they_lie_in_the_pixels_of_the_original(samples: SimpleNamespace) -> None:
    small = samples.coffee
    height, width = small.shape[:2]
    here, there = details_of(small), details_of(small, size=(3 * width, 3 * height))
    assert there.image_size == (3 * width, 3 * height)
    assert there.keypoints == pytest.approx(3 * (here.keypoints + 0.5) - 0.5, abs=1e-3)
    assert there.scales == pytest.approx(3 * here.scales)
    assert (there.keypoints >= -0.5).all()
    assert (there.keypoints <= np.array(there.image_size) - 0.5).all()


def test_a_larger_photo_is_reduced_first(samples: SimpleNamespace) -> None:
    large = cv2.resize(samples.coffee, (2 * LONGEST_SIDE, LONGEST_SIDE))
    found, size = find_details(large, 10)
    assert size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert found.keypoints[:, 0].max() < LONGEST_SIDE
    assert details_of(large, 200).keypoints[:, 0].max() > LONGEST_SIDE


def test_what_shows_nothing_has_none() -> None:
    assert len(details_of(np.full((80, 120, 3), 127, np.uint8))) == 0
    assert len(details_of(np.zeros((2, 3, 3), np.uint8))) == 0


def test_the_features_beside_them_stay_what_they_are(samples: SimpleNamespace, detailed: Delf) -> None:
    without, found = detailed.changed(details=None).extract(samples.coffee), detailed.extract(samples.coffee)
    assert without.details is None
    assert found.details is not None
    assert len(found.details) == 50
    assert np.array_equal(found.descriptors, without.descriptors)
    assert np.array_equal(found.keypoints, without.keypoints)
    many = list(detailed.extract_many([samples.astronaut, samples.coffee]))
    assert many[1].details is not None
    assert np.array_equal(many[1].details.descriptors, found.details.descriptors)


def test_turned_features_bring_none_and_a_turned_query_keeps_its_own(samples: SimpleNamespace, detailed: Delf) -> None:
    size = samples.coffee.shape[1], samples.coffee.shape[0]
    assert extract_turned(detailed, samples.coffee, size, 90).details is None
    query = Query.of_photo(detailed, samples.coffee)
    upright, turned = query.features, query.turned(90.0)
    assert turned is not None
    assert turned.details is upright.details


def test_those_of_a_part_lie_in_the_whole(samples: SimpleNamespace, detailed: Delf) -> None:
    box = (40.0, 30.0, 200.0, 170.0)
    details = Query.of_photo(detailed, samples.coffee, box=box).features.details
    assert details is not None
    assert len(details) > 10
    assert (details.keypoints >= (39.5, 29.5)).all()
    assert (details.keypoints <= (199.5, 169.5)).all()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "many", 2**40])
def test_their_number_must_make_sense(wrong: Any) -> None:
    with pytest.raises(OptionError, match="details must be 1 or more"):
        ExtractionOptions(details=wrong)
