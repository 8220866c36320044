"""The two conventions of the pyramid: sizes, places, and what levels are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delf.features import Delf, ExtractionOptions
from delf.features.pyramid import Pyramid
from delf.models.receptive_field import receptive_field

FIELD = receptive_field("slim50")


def pyramid(convention: str = "tensorflow", scales: tuple[float, ...] = (0.5, 1.0), most: int | None = None,
            least: int | None = None) -> Pyramid:
    return Pyramid(convention, FIELD, scales, most, least)


@pytest.mark.parametrize("convention", ["antialiased", "tensorflow"])
@pytest.mark.parametrize(("size", "most", "least", "expected"), [
    ((400, 300), None, None, (400, 300)), ((400, 300), 200, None, (200, 150)), ((400, 300), 400, 400, (400, 300)),
    ((400, 300), None, 800, (800, 600)), ((300, 400), 1000, 401, (301, 401)), ((400, 300), 500, 400, (400, 300)),
])
def test_limits_of_the_size(convention: str, size: tuple[int, int], most: int | None, least: int | None,
                            expected: tuple[int, int]) -> None:
    assert pyramid(convention, most=most, least=least).base_size(*size) == expected


def test_sizes_are_rounded_in_single_precision() -> None:
    """By the reference, halves go to the even number; 0.7071 of 427 is 301.93."""
    assert pyramid(scales=(0.5, 0.7071, 1.0)).level_sizes(637, 427) == [(318, 214), (450, 302), (637, 427)]
    assert pyramid(scales=(0.5,)).level_sizes(13, 15) == [(6, 8)]
    assert pyramid().level_sizes(9, 400) == pyramid(most=200).level_sizes(18, 400) == []  # less than 10 pixels


def test_places() -> None:
    cells = np.array([[0, 0], [2, 1]])
    centres, scales = pyramid().place(cells, 0, (100, 50), (200, 100))
    assert centres.tolist() == [[0, 0], [128, 64]] and scales.tolist() == [2, 2]
    assert pyramid().patch_side == 290 and pyramid("antialiased").patch_side == 291
    limited = pyramid(most=100)  # a photo of 400 x 300 as 100 x 75, of which 200 x 150 were given
    assert limited.in_photo(centres, (200, 150), (400, 300)).tolist() == [[0, 0], [512, 256]]
    centres, scales = pyramid("antialiased").place(cells, 0, (100, 50), (200, 100))
    assert centres.tolist() == [[0.5, 0.5], [128.5, 64.5]] and scales.tolist() == [2, 2]


def test_what_levels_are_made_of() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    base = pyramid(most=40).base(image)
    assert np.array_equal(base, np.array(Image.fromarray(image).resize((40, 30), Image.Resampling.BILINEAR)))
    level = pyramid(most=40).level(base, (20, 15))
    assert level.dtype == np.float32 and np.array_equal(level, base[::2, ::2])  # nothing is averaged
    assert pyramid("antialiased", most=40).base(image) is image
    assert pyramid("antialiased").level(image, (20, 15)).dtype == np.uint8


def test_an_extractor_takes_the_convention_of_its_model(pixel_runtime: Any) -> None:
    """The feature of a cell is the colour of its pixel, which lies at 32 i / s in the photo."""
    image = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    runtime = pixel_runtime(stride=32)
    runtime.config = replace(runtime.config, resize="tensorflow", mean=(0.0,) * 3)
    extractor = Delf(runtime, ExtractionOptions(scales=(0.5, 1.0), dimensions=3, max_image_size=None), threads=1)
    found = extractor.extract(image)
    assert extractor.longest_side is None and len(found) == 4 * 5 + 7 * 10
    x, y = found.keypoints.astype(int).T
    assert np.array_equal(found.scores, image[y, x, 1])
    assert set(found.scales.tolist()) == {1.0, 2.0}
    assert extractor.attention_map(image).shape == (200, 300)
    reduced = extractor.extract(image, image_size=(600, 400))  # the same pixels, as a copy of a larger photo
    assert np.array_equal(reduced.keypoints, 2 * found.keypoints)


def test_a_small_photo_is_enlarged_where_that_is_asked_for(pixel_runtime: Any) -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    for convention in ("antialiased", "tensorflow"):
        runtime = pixel_runtime(stride=32)
        runtime.config = replace(runtime.config, resize=convention)
        options = ExtractionOptions(scales=(1.0,), dimensions=3, min_image_size=160)
        found = Delf(runtime, options, threads=1).extract(image)
        assert len(found) == 4 * 5 and found.keypoints.max() < 80
