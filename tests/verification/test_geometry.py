"""Every verifier finds the transform of scenes whose transform is known, and nothing where there is none."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import ransac
from skimage.transform import AffineTransform

from delf.errors import OptionError
from delf.types import Features, Matches
from delf.verification import VERIFIERS, VerificationOptions, match_features, verify
from delf.verification.geometry import REFERENCE, one_to_one

AFFINE = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [0.0, 0.0, 1.0]])
HOMOGRAPHY = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [3e-4, -2e-4, 1.0]])
CORNERS = np.array([[0, 0], [1023, 0], [1023, 767], [0, 767]], float)


def applied(transform, points):
    mapped = np.column_stack([points, np.ones(len(points))]) @ transform.T
    return mapped[:, :2] / mapped[:, 2:]


def quality(found, true):
    """(recall, precision) of the inliers of a scene, whose match i is of feature i with feature i."""
    correct = true[found.inliers[:, 0]].sum()
    return correct / true.sum(), correct / max(len(found), 1)


@pytest.fixture(params=VERIFIERS)
def options(request):
    return VerificationOptions(verifier=request.param, iterations=1000 if request.param == "reference" else 5000)


# One of a thousand samples is clean at 10 %: the reference may find nothing there, so it is not asked.
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_finds_an_affine_transform(options, scene, share, seed):
    if options.verifier == "reference" and share < 0.3:
        pytest.skip("1000 unguided samples do not suffice for one inlier in ten")
    truth = scene(AFFINE, share, seed=seed)
    found = verify(truth.query, truth.database, truth.matches, options)
    recall, precision = quality(found, truth.true)
    assert recall > 0.98
    assert precision > 0.97
    errors = np.linalg.norm(applied(found.transform, CORNERS) - applied(AFFINE, CORNERS), axis=1)
    assert errors.max() < 5
    assert found.tentative == 1000


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_homography_finds_the_half_that_an_affine_transform_misses(scene, share, seed):
    truth = scene(HOMOGRAPHY, share, seed=seed)
    grown, flat = (verify(truth.query, truth.database, truth.matches, VerificationOptions(name))
                   for name in ("homography", "affine"))
    recall, precision = quality(grown, truth.true)
    assert recall > 0.99
    assert precision > 0.98
    assert quality(flat, truth.true)[0] < 0.5
    errors = np.linalg.norm(applied(grown.transform, CORNERS) - applied(HOMOGRAPHY, CORNERS), axis=1)
    assert errors.max() < 4


def test_inliers_are_those_within_the_threshold_most_similar_first(options, scene):
    truth = scene(AFFINE, 0.5)
    found = verify(truth.query, truth.database, truth.matches, options)
    distances = np.linalg.norm(applied(found.transform, truth.query.keypoints) - truth.database.keypoints, axis=1)
    assert set(found.inliers[:, 0]) == set(np.flatnonzero(distances <= options.threshold))
    assert (np.diff(truth.matches.similarities[found.inliers[:, 0]]) <= 0).all()
    np.testing.assert_array_equal(found.transform[2], [0, 0, 1])


def test_threshold_is_in_pixels_of_a_picture_of_1024(options, scene):
    truth = scene(AFFINE, 0.5)
    small = verify(truth.query, truth.database, truth.matches, options)
    query, database = (replace(picture, keypoints=2 * picture.keypoints, image_size=(2048, 1536))
                       for picture in (truth.query, truth.database))
    large = verify(query, database, truth.matches, options)
    np.testing.assert_array_equal(large.inliers, small.inliers)
    moved = applied(large.transform, 2 * CORNERS) / 2 - applied(small.transform, CORNERS)
    assert np.abs(moved).max() < 0.5  # OpenCV's own rounds of refinement are not quite the same at another scale
    kept = verify(query, replace(database, image_size=(1024, 768)), truth.matches, options)
    assert len(kept) < len(small)  # the same points with a threshold that is half as large


def test_the_order_of_the_matches_makes_no_difference(options, scene):
    truth = scene(HOMOGRAPHY, 0.3)
    first = verify(truth.query, truth.database, truth.matches, options)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(1000)
        matches = truth.matches
        shuffled = Matches(matches.query[order], matches.database[order], matches.similarities[order])
        again = verify(truth.query, truth.database, shuffled, options)
        np.testing.assert_array_equal(again.inliers, first.inliers)
        np.testing.assert_array_equal(again.transform, first.transform)


def test_the_seed_reaches_the_verifier(options, scene):
    truth = scene(HOMOGRAPHY, 0.3)
    transforms = [verify(truth.query, truth.database, truth.matches, replace(options, seed=seed)).transform
                  for seed in range(4)]
    differ = any(not np.array_equal(transform, transforms[0]) for transform in transforms[1:])
    assert differ == (options.verifier != "similarity"), "that one draws no samples"


def test_inliers_are_one_to_one(options, scene):
    truth = scene(AFFINE, 0.5, matches=300)
    # every match again, to the next feature, which lies on the same point
    query, database = (picture.select(np.repeat(np.arange(300), 2)) for picture in (truth.query, truth.database))
    rows = 2 * np.arange(300)
    matches = Matches(np.concatenate([rows, rows, rows + 1]), np.concatenate([rows, rows + 1, rows]),
                      np.concatenate([truth.matches.similarities] * 3))
    found = verify(query, database, matches, options)
    assert len(found) >= 140
    for side in (0, 1):
        assert len(np.unique(found.inliers[:, side])) == len(found)


def test_one_to_one_takes_the_better_pair():
    pairs = np.array([[3, 1], [2, 1], [2, 5], [3, 7], [9, 5], [9, 6]])
    assert one_to_one(pairs).tolist() == [[3, 1], [2, 5], [9, 6]]


def test_minimum_inliers(options, scene):
    truth = scene(AFFINE, 0.5, matches=40)
    count = len(verify(truth.query, truth.database, truth.matches, options))
    assert count >= 18
    assert len(verify(truth.query, truth.database, truth.matches, replace(options, minimum_inliers=count))) == count
    none = verify(truth.query, truth.database, truth.matches, replace(options, minimum_inliers=count + 1))
    assert (len(none), none.transform, none.tentative) == (0, None, 40)


@pytest.mark.parametrize("transform", [
    np.diag([-1.0, 1.0, 1.0]), np.diag([1e-3, 1e-3, 1.0]), np.diag([50.0, 50.0, 1.0]), np.diag([1.0, 0.01, 1.0]),
    np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros((3, 3)) + np.diag([0, 0, 1.0]),
], ids=["mirrored", "collapsed", "blown up", "squeezed", "on a line", "on a point"])
def test_no_photo_is_so_transformed(options, scene, transform):
    truth = scene(transform, 1.0, matches=60, noise=0.0)
    found = verify(truth.query, truth.database, truth.matches, options)
    assert (len(found), found.transform) == (0, None)


@pytest.mark.parametrize("matches", range(5))
def test_too_few_matches(options, scene, matches):
    truth = scene(AFFINE, 1.0, matches=matches)
    found = verify(truth.query, truth.database, truth.matches, options)
    assert (len(found), found.transform, found.tentative) == (0, None, matches)


COORDINATES = st.one_of(st.floats(width=32), st.floats(-100, 2000, width=32), st.sampled_from([0.0, 1.0, 500.0]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=arrays.arrays(np.float32, st.tuples(st.integers(0, 24), st.just(4)), elements=COORDINATES),
       verifier=st.sampled_from(list(VERIFIERS)), threshold=st.sampled_from([0.01, 10.0, 1e6]))
def test_no_points_raise_or_warn(features, points, verifier, threshold):
    rows = np.arange(len(points))
    matches = Matches(rows, rows, np.zeros(len(points), np.float32))
    found = verify(features(points[:, :2]), features(points[:, 2:]), matches,
                   VerificationOptions(verifier, threshold, iterations=50))
    assert (found.transform is None) == (len(found) == 0)
    if found.transform is not None:
        assert np.isfinite(found.transform).all()
        assert np.linalg.det(found.transform[:2, :2]) != 0
        assert np.isfinite(points[found.inliers[:, 0]]).all()


def test_points_that_are_not_finite_are_passed_over(options, scene):
    truth = scene(AFFINE, 0.5, matches=200)
    keypoints = truth.query.keypoints.copy()
    keypoints[:20] = np.nan
    keypoints[20:30] = np.inf
    found = verify(replace(truth.query, keypoints=keypoints), truth.database, truth.matches, options)
    assert found.inliers[:, 0].min() >= 30
    assert quality(found, truth.true & (np.arange(200) >= 30))[0] > 0.97


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_reference_agrees_with_scikit_image(scene, share, seed):
    truth = scene(AFFINE, share, matches=400, seed=seed, noise=6.0)
    found = verify(truth.query, truth.database, truth.matches, replace(REFERENCE, seed=seed))
    _, mask = ransac((truth.query.keypoints.astype(float), truth.database.keypoints.astype(float)), AffineTransform,
                     min_samples=3, residual_threshold=20, max_trials=1000, rng=seed)
    assert abs(len(found) - mask.sum()) <= 0.04 * mask.sum()  # both draw their own samples


@pytest.mark.parametrize("changes", [{"verifier": "magic"}, {"threshold": 0.0}, {"threshold": float("nan")},
                                     {"minimum_inliers": 2}, {"iterations": 0}, {"confidence": 1.0}, {"seed": -1}])
def test_options_that_make_no_sense(changes):
    with pytest.raises(OptionError, match=next(iter(changes)).split("_")[0]):
        VerificationOptions(**changes)


def sift(image):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    keypoints, descriptors = cv2.SIFT_create(1000).detectAndCompute(grey, None)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    root = np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))  # RootSIFT has unit length
    ones = np.ones(len(points), np.float32)
    return Features(points, ones, ones, root.astype(np.float32), grey.shape[::-1])


def test_a_photo_warped_by_a_known_homography(options):
    photo = skimage.data.astronaut()
    transform = np.array([[0.8, 0.15, 20.0], [-0.1, 0.9, 60.0], [2e-4, 3e-4, 1.0]])
    query, database = sift(photo), sift(cv2.warpPerspective(photo, transform, (512, 512)))
    found = verify(query, database, match_features(query, database), replace(options, threshold=3.0))
    assert len(found) > 200 if options.verifier == "homography" else len(found) > 50
    points = query.keypoints[found.inliers[:, 0]]
    errors = np.linalg.norm(applied(transform, points) - database.keypoints[found.inliers[:, 1]], axis=1)
    assert np.median(errors) < 1
    assert (errors < 6).mean() > 0.97
    if options.verifier == "homography":  # from the query to the database image, over the whole picture
        corners = np.array([[0, 0], [511, 0], [511, 511], [0, 511]], float)
        assert np.abs(applied(found.transform, corners) - applied(transform, corners)).max() < 2


def test_two_photos_of_different_things(options):
    query, database = sift(skimage.data.astronaut()), sift(skimage.data.coffee())
    assert len(verify(query, database, match_features(query, database), options)) < 25
