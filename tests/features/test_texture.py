"""What shows nothing gives no features: flat pictures, gradients, noise, straight edges, borders and bare margins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from delf.features import Delf
from delf.features.texture import inside, shows_something, texture, within_margins
from delf.images import resize
from delf.training.blanks import COLOURS, SIZES, blank_pictures, compressed
from delf.training.overlays import Overlay
from delf.verification import match_and_verify

SCALES = (0.25, 0.7071, 1.4142)


def textures(pixels: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Around the cells of a level of a picture."""
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return texture(resize(pixels, size), 16, -(-size[1] // 16), -(-size[0] // 16))


@pytest.fixture(scope="module")
def floor() -> float:
    return 0.8


@pytest.mark.parametrize("scale", SCALES)
def test_blank_pictures_have_no_texture(floor: float, scale: float) -> None:
    found = {name: float(textures(pixels, scale).max()) for name, pixels in blank_pictures()}
    assert len(found) == len(COLOURS) * 15
    assert {name: most for name, most in found.items() if most >= floor} == {}


@pytest.mark.parametrize("quality", [None, 75])
@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 135])
def test_a_straight_edge_is_no_texture(floor: float, degrees: int, quality: int | None) -> None:
    across, down = np.meshgrid(np.arange(320) - 160, np.arange(240) - 120)
    side = across * np.cos(np.radians(degrees)) + down * np.sin(np.radians(degrees))
    grey = np.clip(side + 0.5, 0, 1) * 200 + 20  # as a lens draws an edge: it covers a part of some pixels
    pixels = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    assert textures(pixels if quality is None else compressed(pixels, quality)).max() < floor


def test_photos_have_texture(samples: Any, floor: float) -> None:
    assert np.mean(textures(samples.coffee) >= floor) > 0.7
    assert textures(samples.coffee // 4).max() > floor, "a dark photo as well"


def test_texture_is_of_the_place(samples: Any) -> None:
    """A picture with one patch has texture where a square of three strides reaches the patch, and nowhere else."""
    pixels = np.full((320, 320, 3), 128, np.uint8)
    pixels[160:176, 160:176] = samples.coffee[100:116, 100:116]
    rows, columns = np.nonzero(textures(pixels) > 0.1)
    assert set(rows.tolist()) == set(columns.tolist()) == {9, 10, 11, 12}, "at 144, 160, 176 and 192 pixels"


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (17, 16)])
def test_texture_of_small_pictures(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = textures(pixels)
    assert found.shape == (-(-size[0] // 16), -(-size[1] // 16))
    assert np.isfinite(found).all()
    assert within_margins(pixels, 16, *found.shape).shape == found.shape


def test_cells_inside() -> None:
    assert inside((49, 33), 16, 3, 4, 0).all()
    np.testing.assert_array_equal(inside((49, 33), 16, 3, 4, 16), [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert not inside((48, 33), 16, 3, 3, 17).any()


@pytest.mark.parametrize(("name", "darkness", "least"), [("rocket", 4, 50), ("coffee", 8, 40), ("coffee", 14, 25)])
def test_a_dark_photo_has_features_that_match(extractor: Any, samples: Any, name: str, darkness: int,
                                              least: int) -> None:
    """Where its texture has to be that of a light one, it has none that do."""
    quick, photo = extractor.changed(scales=(0.5, 0.7071, 1.0)), getattr(samples, name)
    dark = compressed(photo // darkness, 90)
    assert len(match_and_verify(quick.extract(photo), quick.extract(dark))) > least


@pytest.mark.parametrize("quality", [90, 60, 30])
@pytest.mark.parametrize("level", [0, 8, 30, 128])
def test_noise_is_nothing_where_it_is_dark_either(level: int, quality: int) -> None:
    pixels = np.random.default_rng(level).normal(level, 4, (336, 448, 3))
    pixels = compressed(np.rint(pixels).clip(0, 255).astype(np.uint8), quality)
    for scale in SCALES:
        size = round(448 * scale), round(336 * scale)
        assert not shows_something(resize(pixels, size), (-(-size[1] // 16), -(-size[0] // 16)), 16, 0.8, 8.0).any()


@pytest.mark.parametrize("number", range(len(COLOURS)))
def test_blank_pictures_have_no_features(extractor: Any, number: int) -> None:
    quick = extractor.changed(scales=(0.25, 0.5))
    width, height = SIZES[number % len(SIZES)]
    assert len(quick.extract(np.full((height, width, 3), COLOURS[number], np.uint8))) == 0


def test_features_keep_off_the_border(extractor: Any, samples: Any) -> None:
    found, without = (one.extract(samples.coffee) for one in (extractor, extractor.changed(border=0.0)))
    height, width = samples.coffee.shape[:2]

    def nearest(features: Any) -> np.ndarray:
        """How far from an edge each is, in pixels of its level, whose first pixel has its middle at 0."""
        places = (features.keypoints + 0.5) / features.scales[:, None] - 0.5
        sizes = np.array([width, height]) / features.scales[:, None]
        return np.minimum(places, sizes - 1 - places).min(axis=1)

    assert nearest(found).min() >= extractor.options.border - 1 > 0
    assert nearest(without).min() < 1


@pytest.mark.parametrize("level", [0, 255, 128])
@pytest.mark.parametrize("sides", [(60, 60, 0, 0), (0, 0, 50, 50), (40, 90, 30, 30)],
                         ids=["letter", "pillar", "window"])
def test_bars_give_no_features(extractor: Any, samples: Any, sides: tuple[int, ...], level: int) -> None:
    quick = replace(extractor.options, scales=(0.5, 1.0))
    boxed = cv2.copyMakeBorder(samples.coffee, *sides, cv2.BORDER_CONSTANT, value=(level,) * 3)
    found = Delf(extractor.runtime, quick, threads=1).extract(compressed(boxed, 85))
    top, _, left, _ = sides
    places = found.keypoints - (left, top)
    slack = 8 * found.scales.max()  # compression smears the edge over a block of 8 pixels
    assert len(found) > 200
    assert (places >= -slack).all()
    assert (places <= np.array(samples.coffee.shape[1::-1]) + slack).all()


def test_a_shaded_margin_is_kept(samples: Any) -> None:
    """A margin is of one grey level: a sky that grows lighter is a part of the photo."""
    sky = np.repeat(np.linspace(80, 200, 100).astype(np.uint8)[:, None, None], samples.coffee.shape[1], axis=1)
    pixels = np.vstack([np.repeat(sky, 3, axis=2), samples.coffee])
    assert within_margins(pixels, 16, -(-len(pixels) // 16), 1)[1:].all()


@pytest.mark.parametrize("kind", ["letterbox", "frame"])
def test_overlays_say_where_the_photo_went(samples: Any, kind: str) -> None:
    drawn = Overlay(kind, 3).draw(samples.coffee)
    corner = np.rint(drawn.transform[:2, 2]).astype(int)
    height, width = samples.coffee.shape[:2]
    photo = drawn.pixels[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
    assert np.abs(photo.astype(int) - samples.coffee).mean() < 6
