"""The extractor in the manner of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from delf import DelfError, DictExtractor, Feature2D, read_image


@pytest.fixture(scope="module")
def features(extractor: Any) -> Feature2D:
    return Feature2D(extractor)


@pytest.fixture(scope="module")
def bgr(photos: Path) -> Any:
    return cv2.imread(str(photos / "coffee.jpg"))


def points(keypoints: Any) -> np.ndarray:
    return np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)


def test_the_same_features_as_the_extractor(features: Feature2D, bgr: Any, extractor: Any) -> None:
    keypoints, descriptors = features.detectAndCompute(bgr, None)
    wanted = extractor.extract(np.ascontiguousarray(bgr[..., ::-1]))
    assert isinstance(keypoints, tuple)
    assert isinstance(keypoints[0], cv2.KeyPoint)
    np.testing.assert_array_equal(points(keypoints), wanted.keypoints)
    np.testing.assert_array_equal(descriptors, wanted.descriptors)
    np.testing.assert_allclose([keypoint.response for keypoint in keypoints], wanted.scores, rtol=1e-6)
    sizes = [keypoint.size for keypoint in keypoints]
    np.testing.assert_allclose(sizes, wanted.scales * extractor.patch_size, rtol=1e-6)
    np.testing.assert_array_equal(points(features.detect(bgr)), wanted.keypoints)


def test_what_opencv_asks_of_features(features: Feature2D, bgr: Any) -> None:
    _, descriptors = features.detectAndCompute(bgr)
    sift = cv2.SIFT.create()
    assert descriptors is not None
    assert (features.descriptorSize(), features.descriptorType()) == (descriptors.shape[1], sift.descriptorType())
    assert features.defaultNorm() == sift.defaultNorm()
    assert (features.empty(), features.getDefaultName()) == (False, "Feature2D.DELF")
    assert len(cv2.BFMatcher(features.defaultNorm(), crossCheck=True).match(descriptors, descriptors)) > 0


def test_a_mask_says_where_keypoints_may_be(features: Feature2D, bgr: Any) -> None:
    everywhere, all_descriptors = features.detectAndCompute(bgr, np.full(bgr.shape[:2], 255, np.uint8))
    without, descriptors = features.detectAndCompute(bgr)
    inside = (points(without) >= -0.5).all(axis=1) & (np.rint(points(without)) < bgr.shape[1::-1]).all(axis=1)
    assert len(everywhere) >= inside.sum()
    if inside.all():
        np.testing.assert_array_equal(points(everywhere), points(without))
        np.testing.assert_array_equal(all_descriptors, descriptors)
    mask = np.zeros(bgr.shape[:2], np.uint8)
    mask[:, : bgr.shape[1] // 2] = 1
    left, _ = features.detectAndCompute(bgr, mask)
    assert len(left) > (points(without)[:, 0] < bgr.shape[1] // 2 - 1).sum() * 0.99
    assert (points(left)[:, 0] < bgr.shape[1] // 2).all()
    assert features.detectAndCompute(bgr, np.zeros_like(mask)) == ((), None)


def test_compute_describes_given_keypoints(features: Feature2D, bgr: Any) -> None:
    keypoints, descriptors = features.detectAndCompute(bgr)
    again, same = features.compute(bgr, keypoints)
    assert len(again) == len(keypoints)
    np.testing.assert_allclose(same, descriptors, atol=1e-5)
    corners = cv2.SIFT.create(50).detect(bgr, None)
    kept, described = features.compute(bgr, corners)
    assert described is not None
    assert described.shape == (len(kept), features.descriptorSize()) == (len(corners), features.descriptorSize())
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=1e-4)
    assert features.compute(bgr, []) == ((), None)


def test_grey_and_transparent_pictures(features: Feature2D, bgr: Any) -> None:
    grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
    expected = points(features.detect(np.asarray(cv2.merge([grey] * 3), np.uint8)))
    np.testing.assert_array_equal(points(features.detect(grey)), expected)
    np.testing.assert_array_equal(points(features.detect(grey[..., None])), expected)
    transparent = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA), np.uint8)
    np.testing.assert_array_equal(points(features.detect(transparent)), points(features.detect(bgr)))


def test_nothing_to_find(features: Feature2D) -> None:
    tiny = np.zeros((4, 4, 3), np.uint8)
    assert features.detectAndCompute(tiny) == ((), None)
    assert features.compute(tiny, [cv2.KeyPoint(1, 1, 3)]) == ((), None)


@pytest.mark.parametrize("image", [None, np.zeros((20, 20)), np.zeros((20, 20, 2), np.uint8), np.zeros(9, np.uint8)])
def test_what_is_no_image_of_opencv(features: Feature2D, image: Any) -> None:
    with pytest.raises(DelfError, match="an image of OpenCV"):
        features.detectAndCompute(image)


def test_other_things_that_are_refused(features: Feature2D, bgr: Any) -> None:
    for mask in (np.zeros((3, 3), np.uint8), np.zeros(bgr.shape[:2]), np.zeros(bgr.shape, np.uint8)):
        with pytest.raises(DelfError, match="a mask is a uint8 array of the image's size"):
            features.detect(bgr, mask)
    with pytest.raises(DelfError, match="call compute"):
        features.detectAndCompute(bgr, None, None, True)


def test_a_dict_as_lightglue_wants_it(extractor: Any, photos: Path) -> None:
    pixels = read_image(photos / "coffee.jpg")
    wanted = extractor.extract(pixels)
    found = DictExtractor(extractor).extract(pixels)
    n, d = wanted.descriptors.shape
    assert {name: array.shape for name, array in found.items()} == {
        "keypoints": (1, n, 2), "keypoint_scores": (1, n), "scales": (1, n), "descriptors": (1, n, d),
        "image_size": (1, 2)}
    np.testing.assert_array_equal(found["keypoints"][0], wanted.keypoints)
    np.testing.assert_array_equal(found["image_size"], [[pixels.shape[1], pixels.shape[0]]])
    tensor = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    for image in (tensor, tensor[None]):
        np.testing.assert_array_equal(DictExtractor(extractor).extract(image)["descriptors"], found["descriptors"])


@pytest.mark.parametrize("image", [np.zeros((3, 20, 20)) + 2, np.full((3, 20, 20), np.nan), np.zeros((20, 20, 3)),
                                   np.zeros((3, 0, 0)), np.zeros((2, 3, 20, 20))])
def test_what_is_no_tensor_of_an_image(extractor: Any, image: Any) -> None:
    with pytest.raises(DelfError, match=r"an image"):
        DictExtractor(extractor).extract(image)
