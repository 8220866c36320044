"""From an image to its features: against the definition in plain loops, and the odd images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from delf.errors import ImageError, ModelError, OptionError
from delf.features import Delf, ExtractionOptions
from delf.features.texture import shows_something
from delf.images import limit_size, read_image, resize
from delf.pair import match
from delf.pools import available_cores
from delf.ranking.confidence import MATCH_PROBABILITY
from delf.runtimes import open_runtime
from delf.types import Features

FIELDS = ("keypoints", "scales", "scores", "descriptors", "global_descriptor")
FIELD_SIZE = 211  # of ResNet-18


def assert_equal(one: Features, two: Features, fields: tuple[str, ...] = FIELDS) -> None:
    for field in fields:
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field), err_msg=field)
    assert one.image_size == two.image_size


def overlap(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """Intersection over union of two squares (x, y, side)."""
    width, height = (min(one[i] + one[2] / 2, two[i] + two[2] / 2) - max(one[i] - one[2] / 2, two[i] - two[2] / 2)
                     for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] ** 2 + two[2] ** 2 - shared)


def literal_extract(runtime: Any, options: ExtractionOptions, image: np.ndarray) -> Features:
    """The definition (Noh et al., and the reference's steps), one cell at a time and in double precision."""
    height, width = image.shape[:2]
    base = limit_size(width, height, options.max_image_size) if options.max_image_size else (width, height)
    found, pooled, white = [], np.zeros(runtime.config.channels), runtime.whitening
    for scale in options.scales:
        size = (round(base[0] * scale), round(base[1] * scale))
        level = resize(image, size)
        output = runtime.run(level.transpose(2, 0, 1)[None].astype(np.float32))
        if white is None or scale >= white.smallest_scale[0]:
            pooled += output.global_descriptor[0] / np.linalg.norm(output.global_descriptor[0].astype(np.float64))
        shown = shows_something(level, output.attention.shape[1:], 16, options.texture, options.border)
        for row in range(output.attention.shape[1]):
            for column in range(output.attention.shape[2]):
                length = np.linalg.norm(output.feature_map[0, :, row, column].astype(np.float64))
                score = np.float32(np.float64(output.attention[0, row, column]) ** (1 - options.length_weight)
                                   * length**options.length_weight)
                if score >= options.score_threshold and shown[row, column]:
                    x = (16 * column + 0.5) * width / size[0] - 0.5
                    y = (16 * row + 0.5) * height / size[1] - 0.5
                    found.append((score, x, y, (width / size[0] * height / size[1]) ** 0.5,
                                  output.feature_map[0, :, row, column]))
    found.sort(key=lambda feature: -feature[0])
    kept: list[Any] = []
    for feature in found:
        patch = (feature[1], feature[2], FIELD_SIZE * feature[3])
        if options.suppression_iou >= 1 or all(
                overlap(patch, (other[1], other[2], FIELD_SIZE * other[3])) <= options.suppression_iou
                for other in kept):
            kept.append(feature)
        if len(kept) == options.max_features:
            break
    descriptors = []
    for *_, raw in kept:
        vector = raw.astype(np.float64) / np.linalg.norm(raw.astype(np.float64))
        projected = [component @ (vector - runtime.pca.mean) for component in
                     runtime.pca.components[: options.dimensions].astype(np.float64)]
        if options.whitening:
            projected = [value / variance**0.5 for value, variance in
                         zip(projected, runtime.pca.variances[: options.dimensions], strict=True)]
        descriptors.append(np.array(projected) / np.linalg.norm(projected))
    pooled /= np.linalg.norm(pooled)
    if white is not None:
        pooled = white.projection.astype(np.float64) @ (pooled - white.mean)
    return Features(np.array([feature[1:3] for feature in kept], np.float32),
                    np.array([feature[3] for feature in kept], np.float32),
                    np.array([feature[0] for feature in kept], np.float32), np.array(descriptors, np.float32),
                    (width, height), (pooled / np.linalg.norm(pooled)).astype(np.float32))


@pytest.mark.parametrize("options", [
    {}, {"max_image_size": 200, "max_features": 77}, {"score_threshold": 14.0, "length_weight": 0.0, "dimensions": 40},
    {"length_weight": 0.25, "score_threshold": 30.0, "max_features": 3000, "texture": 0.0, "border": 0.0},
    {"texture": 3.0, "border": 20.0},
    {"whitening": True, "max_features": 50, "max_image_size": None, "scales": (1.0,)},
    {"suppression_iou": 0.5, "max_features": 40, "max_image_size": 256},
    {"suppression_iou": 0.0, "scales": (1.4142, 0.5), "max_image_size": 256},
], ids=lambda options: ", ".join(options) or "defaults")
def test_extraction_is_the_definition(extractor: Any, samples: Any, options: dict[str, Any]) -> None:
    delf = Delf(extractor.runtime, replace(extractor.options, **options), threads=2)
    found, expected = delf.extract(samples.coffee), literal_extract(delf.runtime, delf.options, samples.coffee)
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)
    np.testing.assert_allclose(found.scales, expected.scales, rtol=1e-6)
    tolerance = 2e-4 if delf.options.whitening else 2e-5
    np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=tolerance)
    np.testing.assert_allclose(found.global_descriptor, expected.global_descriptor, atol=1e-5)
    assert found.image_size == expected.image_size


def test_shapes_types_and_order(extractor: Any, samples: Any) -> None:
    features = extractor.extract(samples.astronaut)
    height, width = samples.astronaut.shape[:2]
    assert features.descriptors.shape == (len(features), 128)
    assert all(getattr(features, field).dtype == np.float32 for field in FIELDS)
    assert (np.diff(features.scores) <= 0).all()
    assert features.scores.min() >= extractor.options.score_threshold > 0
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(features.global_descriptor) == pytest.approx(1, abs=1e-5)
    assert features.image_size == (width, height)
    assert (features.keypoints >= -0.5).all()
    assert (features.keypoints <= np.array([width, height]) + 16 * features.scales[:, None]).all()


def test_the_number_of_threads_does_not_matter(extractor: Any, samples: Any) -> None:
    images = [samples.astronaut, samples.coffee, samples.coffee[:, ::-1].copy()]
    for threads in (1, 3):
        delf = Delf(extractor.runtime, extractor.options, threads=threads)
        for found, image in zip(delf.extract_many(images), images, strict=True):
            assert_equal(found, extractor.extract(image))


def test_neighbours_in_a_batch_do_not_matter(extractor: Any, samples: Any) -> None:
    delf = Delf(extractor.runtime, replace(extractor.options, max_image_size=160, max_features=200), threads=2)
    images = [samples.coffee, samples.coffee[::-1].copy(), samples.coffee[:, ::-1].copy()]
    for found, image in zip(delf.extract_many(images, batch_size=3), images, strict=True):
        alone = delf.extract(image)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-5)
        # Two features whose scores are the same up to a rounding may change places.
        order, expected = (np.lexsort(np.column_stack([f.keypoints, f.scales]).T) for f in (found, alone))
        np.testing.assert_array_equal(found.keypoints[order], alone.keypoints[expected])
        np.testing.assert_allclose(found.descriptors[order], alone.descriptors[expected], atol=1e-5)
        np.testing.assert_allclose(found.global_descriptor, alone.global_descriptor, atol=1e-6)


def test_extract_many_keeps_the_order(pixel_runtime: Any) -> None:
    def flat(number: int, width: int) -> np.ndarray:
        return np.full((32, width, 3), number, np.uint8)

    delf = Delf(pixel_runtime(), ExtractionOptions(dimensions=3, scales=(1.0,)), threads=3)
    images = [flat(i, 32 if i % 5 else 48) for i in range(1, 40)]
    for batch_size in (None, 1, 4, 100):
        found = list(delf.extract_many(iter(images), batch_size=batch_size))
        assert [features.scores[0] for features in found] == list(range(1, 40))
        assert [features.image_size[0] for features in found] == [image.shape[1] for image in images]
    assert list(delf.extract_many([])) == []


def test_batches_are_of_one_size_and_bounded(pixel_runtime: Any) -> None:
    images = [np.ones((32, width, 3), np.uint8) for width in (32, 32, 32, 32, 32, 48, 32, 32)]
    for device, batch_size, expected in (("cpu", None, [1] * 8), ("cpu", 4, [4, 3, 1]), ("gpu", None, [7, 1])):
        delf = Delf(pixel_runtime(device=device), ExtractionOptions(dimensions=3, scales=(1.0,)), threads=1)
        assert len(list(delf.extract_many(images, batch_size=batch_size))) == 8
        assert [shape[0] for shape in delf.runtime.batches] == expected


def test_an_odd_size_does_not_wait_for_ever(pixel_runtime: Any) -> None:
    images = [np.ones((32, 48 if number == 0 else 32, 3), np.uint8) for number in range(40)]
    taken = 0

    def counted() -> Any:
        nonlocal taken
        for image in images:
            taken += 1
            yield image

    delf = Delf(pixel_runtime(device="gpu"), ExtractionOptions(dimensions=3, scales=(1.0,)), threads=1)
    many = delf.extract_many(counted(), batch_size=3)
    assert next(many).image_size == (48, 32)
    assert taken < 40, "a few batches of images wait, not all"
    assert [features.image_size for features in many] == [(32, 32)] * 39


def test_few_batches_are_in_flight(pixel_runtime: Any) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield np.ones((16, 16, 3), np.uint8)

    delf = Delf(pixel_runtime(), ExtractionOptions(dimensions=3), threads=2)
    many = delf.extract_many(endless())
    for _ in range(5):
        next(many)
    assert taken <= 5 + 4


def test_more_features_only_add(extractor: Any, samples: Any) -> None:
    few, more = (Delf(extractor.runtime, replace(extractor.options, max_features=count), threads=2)
                 .extract(samples.coffee) for count in (20, 300))
    assert (len(few), len(more)) == (20, 300)
    assert_equal(few, more.select(slice(20)))


def test_a_threshold_only_leaves_out(extractor: Any, samples: Any) -> None:
    loose = extractor.extract(samples.coffee)
    level = float(np.median(loose.scores))
    strict = Delf(extractor.runtime, replace(extractor.options, score_threshold=level)).extract(samples.coffee)
    assert_equal(strict, loose.select(loose.scores >= level))
    none = Delf(extractor.runtime, replace(extractor.options, score_threshold=1e6)).extract(samples.coffee)
    assert none.descriptors.shape == (0, 128)
    np.testing.assert_array_equal(none.global_descriptor, loose.global_descriptor)


def test_fewer_dimensions_are_the_first_ones(extractor: Any, samples: Any) -> None:
    full = extractor.extract(samples.coffee)
    short = Delf(extractor.runtime, replace(extractor.options, dimensions=40)).extract(samples.coffee)
    assert short.descriptors.shape == (len(full), 40)
    first = full.descriptors[:, :40] / np.linalg.norm(full.descriptors[:, :40], axis=1, keepdims=True)
    np.testing.assert_allclose(short.descriptors, first, atol=1e-5)
    assert_equal(short, full, ("keypoints", "scales", "scores"))


def test_whitening_divides_by_the_standard_deviation(extractor: Any, samples: Any) -> None:
    plain = extractor.extract(samples.coffee).descriptors
    white = Delf(extractor.runtime, replace(extractor.options, whitening=True)).extract(samples.coffee).descriptors
    divided = plain / np.sqrt(extractor.runtime.pca.variances)
    np.testing.assert_allclose(white, divided / np.linalg.norm(divided, axis=1, keepdims=True), atol=1e-4)
    assert white.std(axis=0).std() < plain.std(axis=0).std()


@pytest.mark.parametrize(("height", "width"), [(9, 400), (400, 9), (1, 1), (1, 5000), (5000, 3), (11, 2000), (0, 40),
                                               (40, 0)])
def test_images_that_are_too_small(extractor: Any, height: int, width: int) -> None:
    features = extractor.extract(np.full((height, width, 3), 90, np.uint8))
    assert (len(features), features.descriptors.shape) == (0, (0, 128))
    assert features.image_size == (width, height)
    assert features.global_descriptor.shape == (256,)
    assert not features.global_descriptor.any()


@pytest.mark.parametrize(("height", "width"), [(10, 10), (10, 900), (1000, 11), (12, 16)])
def test_images_that_are_just_large_enough(extractor: Any, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    everywhere = replace(extractor.options, score_threshold=0.0, texture=0.0, border=0.0)
    features = Delf(extractor.runtime, everywhere).extract(image)
    assert len(features) > 0
    assert np.isfinite(features.descriptors).all()
    assert np.linalg.norm(features.global_descriptor) == pytest.approx(1, abs=1e-5)


def test_scales_that_leave_no_pixel(pixel_runtime: Any) -> None:
    delf = Delf(pixel_runtime(), ExtractionOptions(dimensions=3, scales=(0.01, 1.0)))
    assert len(delf.extract(np.full((10, 10, 3), 9, np.uint8))) == 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_nothing_matches_nothing(extractor: Any, samples: Any, level: int) -> None:
    blank = np.full((300, 400, 3), level, np.uint8)
    assert np.isfinite(extractor.extract(blank).descriptors).all()
    assert match(blank, samples.coffee, extractor).probability < MATCH_PROBABILITY


@pytest.mark.parametrize("image", [np.zeros((30, 30), np.uint8), np.zeros((30, 30, 4), np.uint8),
                                   np.zeros((30, 30, 3), np.float32), np.zeros((1, 30, 30, 3), np.uint8)])
def test_arrays_that_are_no_images(extractor: Any, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8 RGB array, not (uint8|float32) of shape"):
        list(extractor.extract_many([image]))


def test_the_image_is_left_alone(extractor: Any, samples: Any) -> None:
    image = samples.coffee.copy()
    image.setflags(write=False)
    before = extractor.extract(samples.coffee)
    assert_equal(extractor.extract(image), before)
    assert_equal(extractor.extract(np.asfortranarray(image)), before)
    np.testing.assert_array_equal(image, samples.coffee)


def test_large_images_are_reduced_first(extractor: Any, samples: Any) -> None:
    large = cv2.resize(samples.coffee, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    delf = Delf(extractor.runtime, replace(extractor.options, max_image_size=256))
    features = delf.extract(large)
    assert features.image_size == (large.shape[1], large.shape[0])
    assert features.scales.min() == pytest.approx(large.shape[1] / 512, rel=0.01)
    assert delf.longest_side == 512
    assert extractor.longest_side == 2048
    assert Delf(extractor.runtime, replace(extractor.options, max_image_size=None)).longest_side is None


@pytest.mark.parametrize("options", [
    {"scales": ()}, {"scales": (0.0,)}, {"scales": (-1.0,)}, {"scales": (9.0,)}, {"scales": (float("nan"),)},
    {"max_features": 0}, {"max_image_size": 9}, {"dimensions": 0}, {"dimensions": -3},
    {"length_weight": -1.0}, {"length_weight": 1.1}, {"length_weight": float("nan")},
    {"texture": -1.0}, {"texture": float("nan")}, {"border": -0.5}, {"border": "8"},
    {"score_threshold": float("nan")}, {"suppression_iou": -0.1}, {"suppression_iou": float("nan")},
    {"min_image_size": 9}, {"min_image_size": 80.5}, {"min_image_size": 2000},
])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        ExtractionOptions(**options)
    with pytest.raises(OptionError):
        Delf.load(**options)


def test_options_that_do_not_fit_the_model() -> None:
    with pytest.raises(OptionError, match="'delf-r18' has 128 dimensions, not 129"):
        Delf.load(dimensions=129)
    with pytest.raises(OptionError, match=r"unknown extraction option: .*dimension'"):
        Delf.load(dimension=40)
    with pytest.raises(ModelError, match="there is no model 'delf-r99'"):
        Delf.load("delf-r99")
    with pytest.raises(OptionError, match="unknown runtime"):
        Delf.load(runtime="caffe")


def test_identity_is_model_and_options(extractor: Any) -> None:
    identity = Delf.load(scales=[0.5, 1], threads=1).identity
    assert identity == json.loads(json.dumps(identity))
    assert identity["model"] == {"name": "delf-r18", "fingerprint": open_runtime().config.fingerprint}
    assert identity["options"]["scales"] == [0.5, 1]
    assert identity == Delf.load(scales=(0.5, 1), threads=7, runtime="torch").identity
    others = [Delf.load(**options).identity for options in ({}, {"dimensions": 40}, {"whitening": True})]
    assert all(others.count(other) == 1 for other in others)
    assert extractor.identity == others[0]


def test_cores() -> None:
    assert available_cores() >= 1
    assert Delf.load().threads == available_cores()


def test_the_attention_map_is_light_where_features_are_kept(extractor: Delf, photos: Path) -> None:
    image = read_image(photos / "rocket.jpg")
    light = extractor.attention_map(image)
    assert (light.shape, light.dtype) == (image.shape[:2], np.float32)
    assert 0 <= light.min() < light.max() <= 1
    features = extractor.extract(image)
    best = features.keypoints[features.scales <= 1.0][:50].round().astype(int)
    inside = best[(best >= 0).all(axis=1) & (best < image.shape[1::-1]).all(axis=1)]
    assert light[inside[:, 1], inside[:, 0]].mean() > 1.3 * light.mean()
    assert not extractor.attention_map(np.zeros((6, 8, 3), np.uint8)).any()
