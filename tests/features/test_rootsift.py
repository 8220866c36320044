"""RootSIFT: known places, known sizes and directions, and the same answer each time."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from delf.errors import ImageError, OptionError
from delf.features.rootsift import RootSiftOptions, as_bytes, from_bytes, root_sift


def blob(x: float, y: float, sigma: float, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A bright Gaussian spot on grey."""
    columns, rows = np.arange(size[0]), np.arange(size[1])
    spot = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(60 + 150 * spot).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_a_spot_is_found_where_it_is_and_as_large_as_it_is(sigma: float) -> None:
    found = root_sift(blob(70.3, 55.6, sigma))
    assert len(found) >= 1
    assert np.abs(found.keypoints[0] - (70.3, 55.6)).max() < 0.1  # without the precise upscale it is 0.25 pixels off
    # The difference of Gaussians answers most to a spot of about its own blur (Lindeberg, IJCV 1998).
    assert found.scales[0] * 1.6 == pytest.approx(sigma, rel=0.25)


def test_descriptors_are_the_roots_of_shares(samples: SimpleNamespace) -> None:
    found = root_sift(samples.coffee, RootSiftOptions(max_features=100))
    assert found.descriptors.shape == (100, 128)
    assert found.descriptors.dtype == np.float32
    assert (found.descriptors >= 0).all()
    assert np.linalg.norm(found.descriptors, axis=1) == pytest.approx(1.0, abs=1e-5)
    _, raw = cv2.SIFT.create(nfeatures=100, enable_precise_upscale=True).detectAndCompute(
        cv2.cvtColor(samples.coffee, cv2.COLOR_RGB2GRAY), None)
    shares = raw / raw.sum(axis=1, keepdims=True)
    squares = found.descriptors**2  # in another order
    assert all(np.abs(shares - one).max(axis=1).min() < 1e-6 for one in squares)


def test_the_strongest_come_first_and_fewer_are_the_first_of_more(samples: SimpleNamespace) -> None:
    more, fewer = (root_sift(samples.coffee, RootSiftOptions(max_features=count)) for count in (150, 100))
    assert (np.diff(more.strengths) <= 0).all()
    assert (len(more), len(fewer)) == (150, 100)
    for name in ("keypoints", "scales", "orientations", "strengths", "descriptors"):
        assert np.array_equal(getattr(fewer, name), getattr(more, name)[:100])


def test_any_number_of_threads_gives_the_same(samples: SimpleNamespace) -> None:
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(root_sift(samples.astronaut))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(found[0].keypoints, found[1].keypoints)
    assert np.array_equal(found[0].descriptors, found[1].descriptors)


def test_a_quarter_turn_turns_places_and_directions_and_leaves_descriptors(samples: SimpleNamespace) -> None:
    image = samples.coffee
    upright, turned = root_sift(image), root_sift(np.ascontiguousarray(np.rot90(image, -1)))  # to the right
    there = np.column_stack([image.shape[0] - 1 - upright.keypoints[:, 1], upright.keypoints[:, 0]])
    alike = upright.descriptors @ turned.descriptors.T
    best = alike.argmax(axis=1)
    near = np.linalg.norm(there - turned.keypoints[best], axis=1) < 1.0
    assert near.mean() > 0.9
    turns = (turned.orientations[best] - upright.orientations - 90 + 180) % 360 - 180
    assert np.median(np.abs(turns[near])) < 1.0
    assert ((upright.orientations >= 0) & (upright.orientations < 360)).all()


@pytest.mark.parametrize("shape", [(0, 0, 3), (1, 1, 3), (1, 400, 3), (7, 7, 3), (64, 64, 3), (300, 9, 3), (40, 40)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank_pictures_have_none(shape: tuple[int, ...], value: int) -> None:
    found = root_sift(np.full(shape, value, np.uint8))
    assert len(found) == 0
    assert found.descriptors.shape == (0, 128)
    assert found.keypoints.shape == (0, 2)


def test_small_and_narrow_pictures_do_not_end_it() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 900), (8, 8), (9, 400), (33, 12)):
        found = root_sift(rng.integers(0, 256, (*shape, 3), np.uint8))
        assert (found.keypoints < (shape[1], shape[0])).all()


@pytest.mark.parametrize("image", [np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32),
                                   np.zeros(8, np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="read_image"):
        root_sift(image)


@pytest.mark.parametrize("options", [{"max_features": 0}, {"max_features": 1.5}, {"contrast": -1}, {"edge": "x"}])
def test_options_without_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        RootSiftOptions(**options)  # type: ignore[arg-type]


def test_bytes_keep_cosines(samples: SimpleNamespace) -> None:
    descriptors = root_sift(samples.coffee).descriptors
    codes = as_bytes(descriptors)
    assert codes.dtype == np.uint8
    back = from_bytes(codes)
    assert np.linalg.norm(back, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.einsum("ij,ij->i", back, descriptors).min() > 0.995
    assert not from_bytes(np.zeros((1, 128), np.uint8)).any()
