"""Details of two photos, verified: at any angle, and not where the photos have nothing in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from delf.features.details import find_details
from delf.features.rootsift import in_original
from delf.images import read_image
from delf.types import Features
from delf.verification import DetailOptions, angle, verify_details

OPTIONS = DetailOptions()


@pytest.fixture(scope="module")
def samples(photos: Path) -> SimpleNamespace:
    return SimpleNamespace(**{name: read_image(photos / f"{name}.jpg") for name in ("astronaut", "coffee")})


def features_of(image: np.ndarray) -> Features:
    size, zeros = (image.shape[1], image.shape[0]), np.zeros(0, np.float32)
    return Features(zeros.reshape(0, 2), zeros, zeros, zeros.reshape(0, 4), size,
                    details=in_original(*find_details(image, 400), size))


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_photo_is_found_as_it_lies(samples: SimpleNamespace, quarters: int) -> None:
    query, database = features_of(np.rot90(samples.coffee, quarters)), features_of(samples.coffee)
    found = verify_details(query, database, OPTIONS)
    assert found is not None
    assert found.transform is not None
    assert query.details is not None
    assert len(found) > 50
    turned = angle(found.transform, query.details.keypoints[found.inliers[:, 0]].astype(np.float64))
    assert (turned - 90 * quarters + 180) % 360 - 180 == pytest.approx(0, abs=1)


def test_two_things_have_few_in_common(samples: SimpleNamespace) -> None:
    found = verify_details(features_of(samples.astronaut), features_of(samples.coffee), OPTIONS)
    assert found is not None
    assert len(found) < 7


def test_where_one_has_none_nothing_is_said(samples: SimpleNamespace) -> None:
    photo = features_of(samples.coffee)
    assert verify_details(photo, replace(photo, details=None), OPTIONS) is None
    assert verify_details(replace(photo, details=None), photo, OPTIONS) is None
    blank = features_of(np.zeros((50, 60, 3), np.uint8))
    found = verify_details(photo, blank, OPTIONS)
    assert found is not None
    assert len(found) == 0
