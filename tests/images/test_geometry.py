import numpy as np
import pytest
from PIL import Image

from delf.errors import OptionError
from delf.images import crop, limit_size, parse_box, resize


@pytest.mark.parametrize(
    "box", [(10, 5, 40, 30), (10.4, 5.5, 40.5, 30.6), (11.5, 6.5, 40.5, 31.5), (0, 0, 96, 64)]
)
def test_crop_equals_pillow(scene, box):
    part, (left, top) = crop(scene, box)
    assert np.array_equal(part, np.array(Image.fromarray(scene).crop(box)))
    assert part.flags.c_contiguous
    assert np.array_equal(scene[top : top + part.shape[0], left : left + part.shape[1]], part)


def test_crop_is_clipped_to_the_picture(scene):
    part, offset = crop(scene, (-20, 50, 30.2, 1e12))
    assert offset == (0, 50)
    assert np.array_equal(part, scene[50:, :30])


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((200, 0, 300, 50), "no pixel"),
        ((-50, -50, 0, 0), "no pixel"),
        ((10, 10, 10.2, 20), "no pixel"),
        ((30, 0, 20, 50), "no area"),
        ((5, 5, 5, 9), "no area"),
        ((float("nan"), 0, 9, 9), "finite"),
        ((0, 0, float("inf"), 9), "finite"),
        ("abcd", "four numbers"),
        ((1, 2), "four numbers"),
        ((1, 2, 3, None), "four numbers"),
    ],
)
def test_boxes_that_make_no_sense(scene, box, words):
    with pytest.raises(OptionError, match=words):
        crop(scene, box)


def test_parse_box():
    assert parse_box("1,2.5, 30,4e1") == (1.0, 2.5, 30.0, 40.0)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "0,0,inf,1", "3,0,1,1", "1;2;3;4"]
)
def test_parse_box_refuses(text):
    with pytest.raises(OptionError):
        parse_box(text)


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((4000, 3000), 1024, (1024, 768)),
        ((3000, 4000), 1024, (768, 1024)),
        ((800, 600), 1024, (800, 600)),
        ((5000, 1), 100, (100, 1)),
        ((7, 7), 1, (1, 1)),
    ],
)
def test_limit_size(size, limit, expected):
    assert limit_size(*size, limit) == expected


def test_limit_size_refuses_nothing():
    with pytest.raises(OptionError):
        limit_size(10, 10, 0)


def test_shrinking_averages_areas():
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2, ::2] = 200  # a quarter of each 2x2 block
    assert np.array_equal(resize(image, (4, 4)), np.full((4, 4, 3), 50, np.uint8))


@pytest.mark.parametrize("size", [(24, 20), (96, 80), (60, 40)])
def test_resize_keeps_half_pixel_centres(size):
    """A ramp whose value is its coordinate: each pixel must show x' = (x + 0.5) W / w - 0.5."""
    width, height = 48, 40
    ramp = np.broadcast_to(np.arange(width, dtype=np.float32)[None, :, None], (height, width, 3)).copy()
    resized = resize(ramp, size)
    assert resized.dtype == np.float32 and resized.shape == (size[1], size[0], 3)
    expected = (np.arange(size[0]) + 0.5) * width / size[0] - 0.5
    assert np.allclose(resized[3, :, 0], np.clip(expected, 0, width - 1), atol=0.01)


def test_resize_leaves_its_input_alone(scene):
    before = scene.copy()
    assert resize(scene, (96, 64)) is scene
    assert resize(scene, (1, 1)).shape == (1, 1, 3)
    assert np.array_equal(scene, before)
    with pytest.raises(OptionError):
        resize(scene, (0, 5))


@pytest.mark.parametrize("size", [(7, 5), (13, 4), (3, 9), (9, 6)])
def test_the_resize_of_tensorflow(size):
    """As its kernel has it, pixel by pixel: between the two nearest, without half-pixel centres."""
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.float32)
    resized = resize(image, size, "tensorflow")
    assert resized.shape == (size[1], size[0], 3) and resized.dtype == np.float32
    for row in range(size[1]):
        for column in range(size[0]):
            y, x = row * 6 / size[1], column * 9 / size[0]
            top, left = int(y + 1e-6), int(x + 1e-6)
            bottom, right = min(top + 1, 5), min(left + 1, 8)
            above = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
            below = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
            assert np.allclose(resized[row, column], above * (1 - y + top) + below * (y - top), atol=1e-3)


def test_the_resize_of_pillow(scene):
    expected = np.array(Image.fromarray(scene).resize((30, 20), Image.Resampling.BILINEAR))
    assert np.array_equal(resize(scene, (30, 20), "pillow"), expected)
