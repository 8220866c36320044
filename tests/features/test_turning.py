"""Features of turned images lie where they are in the image that is not turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from delf.features import extract_turned
from delf.types import Features


class Corners:
    """Finds the brightest pixel, in pixels of the original."""

    def extract(self, image: np.ndarray, *, image_size: tuple[int, int]) -> Features:
        row, column = np.unravel_index(image[:, :, 0].argmax(), image.shape[:2])
        factor = (image_size[0] / image.shape[1], image_size[1] / image.shape[0])
        point = np.array([[(column + 0.5) * factor[0] - 0.5, (row + 0.5) * factor[1] - 0.5]], np.float32)
        one = np.ones(1, np.float32)
        return Features(point, one, one, np.ones((1, 1), np.float32), image_size)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("reduction", [1, 4])
def test_a_point_stays_where_it_is(quarters: int, reduction: int) -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[12, 71] = 255
    extractor: Any = Corners()
    found = extract_turned(extractor, image, (100 * reduction, 60 * reduction), quarters)
    expected = [(71 + 0.5) * reduction - 0.5, (12 + 0.5) * reduction - 0.5]
    np.testing.assert_allclose(found.keypoints, [expected], atol=1e-4)
    assert found.image_size == (100 * reduction, 60 * reduction)
    assert found.keypoints.dtype == np.float32


def test_what_is_seen_is_the_turned_image() -> None:
    image = np.arange(60 * 40 * 3, dtype=np.uint8).reshape(60, 40, 3)
    seen = []

    class Watching(Corners):
        def extract(self, image: np.ndarray, *, image_size: tuple[int, int]) -> Features:
            seen.append((image, image_size))
            return super().extract(image, image_size=image_size)

    watching: Any = Watching()
    extract_turned(watching, image, (40, 60), 1)
    assert np.array_equal(seen[0][0], np.rot90(image)) and seen[0][1] == (60, 40)
