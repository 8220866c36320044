"""Overlays are drawn alike on every photo, and pairs with them are samples of the right kind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.errors import OptionError
from delf.images import read_image
from delf.training.overlaid import EACH, others_of, overlaid_samples
from delf.training.overlays import OVERLAYS, TUNED, UNTUNED, Overlay


@pytest.mark.parametrize("kind", OVERLAYS)
def test_an_overlay_is_the_same_every_time(kind: str) -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (120, 200, 3), np.uint8), np.full((90, 140, 3), 100, np.uint8)]
    for photo in photos:
        before = photo.copy()
        drawn, again = (Overlay(kind, 5).draw(photo) for _ in range(2))
        np.testing.assert_array_equal(drawn.pixels, again.pixels)
        np.testing.assert_array_equal(photo, before)
        assert (Overlay(kind, 6).draw(photo).pixels.shape != drawn.pixels.shape
                or (Overlay(kind, 6).draw(photo).pixels != drawn.pixels).any())
        corners = np.array([(0, 0, 1), (photo.shape[1] - 1, photo.shape[0] - 1, 1)]) @ drawn.transform.T
        assert (corners[:, :2] >= -1).all()
        assert (corners[:, :2] <= np.array(drawn.pixels.shape[1::-1])).all()


def around(pixels: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The mean colour at a point."""
    x, y = np.rint(point[:2]).astype(int)
    return np.asarray(pixels[y - 4 : y + 5, x - 4 : x + 5].mean(axis=(0, 1)))


def test_the_photo_is_where_the_overlay_says(photos: Path) -> None:
    pixels = read_image(photos / "coffee.jpg")
    for kind in ("frame", "phone", "browser", "post"):
        drawn = Overlay(kind, 1).draw(pixels)
        for share in (0.3, 0.6):
            place = np.array([pixels.shape[1] * share, pixels.shape[0] * share, 1]).round()
            near, expected = (around(picture, point) for picture, point in
                              ((drawn.pixels, drawn.transform @ place), (pixels, place)))
            assert np.abs(near - expected).max() < 25, kind


def test_nothing_is_fitted_to_some_kinds() -> None:
    assert set(TUNED) | set(UNTUNED) == set(OVERLAYS)
    assert not set(TUNED) & set(UNTUNED)
    with pytest.raises(OptionError, match=r"one of caption bar, .*, not 'moustache'"):
        Overlay("moustache")


def test_samples_of_a_photo(extractor: Any, photos: Path, tmp_path: Path) -> None:
    quick = extractor.changed(scales=(0.5, 1.0), max_features=300)
    listed = [(photos / f"{name}.jpg", name) for name in ("coffee", "rocket", "cat", "coins")]
    others = others_of(listed, "coffee", random.Random(0))
    assert len(others) == EACH
    assert listed[0][0] not in others
    samples = overlaid_samples(quick, listed[0][0], photos / "coffee.jpg", others, random.Random(1))
    assert [right for _, right in samples].count(True) == 1
    [found] = [evidence for evidence, right in samples if right]
    assert found["inliers"] > np.log1p(20)
    assert all(evidence["inliers"] < np.log1p(20) for evidence, right in samples if not right)
    assert overlaid_samples(quick, listed[0][0], None, [tmp_path / "gone.jpg"], random.Random(1)) == []
