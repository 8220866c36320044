"""The verifier of scenes with depth, on cameras that are known, beside slow and literal computations."""

import numpy as np
import pytest

from delf.types import Features, Matches
from delf.verification import VerificationOptions, verify
from delf.verification.epipolar import _beyond_chance, _Views
from delf.verification.plane import Correspondences

CAMERA = np.array([[900.0, 0, 512], [0, 900, 384], [0, 0, 1]])
SIZE = np.array([1024, 768])
TURN = np.array([[np.cos(0.15), 0, np.sin(0.15)], [0, 1, 0], [-np.sin(0.15), 0, np.cos(0.15)]])
MOVE = np.array([-1.2, 0.2, 0.3])
FLAT, DEEP = VerificationOptions(), VerificationOptions("fundamental")


def crossing(vector):
    return np.cross(np.eye(3), -vector)


def fundamental_of(turn, move):
    """F of cameras [I | 0] and [turn | move] (Hartley and Zisserman, 9.2)."""
    inverse = np.linalg.inv(CAMERA)
    return inverse.T @ crossing(move) @ turn @ inverse


def seen(points):
    image = points @ CAMERA.T
    return image[:, :2] / image[:, 2:]


def views(share=0.5, *, turn=TURN, move=MOVE, depths=(4.0, 12.0), matches=200, noise=1.5, seed=0):
    """Two photos of points in space: their features, the matches, and which of them are true."""
    generator = np.random.default_rng(seed)
    points = generator.uniform((-4, -3, depths[0]), (4, 3, depths[1]), (20 * matches, 3))
    first, second = seen(points), seen(points @ turn.T + move)
    visible = ((first > 0) & (first < SIZE) & (second > 0) & (second < SIZE)).all(axis=1)
    first, second = (side[visible][:matches] + generator.normal(0, noise, (matches, 2)) for side in (first, second))
    true = generator.permutation(matches) < share * matches
    second = np.where(true[:, None], second, generator.uniform((0, 0), SIZE, second.shape))
    return features(first), features(second), true


def features(points):
    ones = np.ones(len(points), np.float32)
    return Features(points.astype(np.float32), ones, ones, np.zeros((len(points), 1), np.float32), tuple(SIZE.tolist()))


def in_order(count):
    return Matches(np.arange(count), np.arange(count), np.linspace(1, 0, count).astype(np.float32))


def literal_agreement(matrix, source, target, threshold):
    """One point after the other: its distance from the line of its partner, and the depths of both by the oriented line
    through the epipole."""
    epipole = np.linalg.svd(matrix.T)[2][2]
    near, sides = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        a, b, c = (sum(row[i] * value for i, value in enumerate((x, y, 1.0))) for row in matrix)
        near.append(abs(a * u + b * v + c) / (a * a + b * b) ** 0.5 <= threshold)
        sides.append(float(np.dot(np.cross(epipole, (u, v, 1.0)), (a, b, c))) > 0)
    most = sum(side for side, is_near in zip(sides, near, strict=True) if is_near) * 2 >= sum(near)
    return [is_near and side == most for is_near, side in zip(near, sides, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_finds_what_lies_at_different_depths(seed):
    query, database, true = views(seed=seed)
    flat, deep = (verify(query, database, in_order(200), options) for options in (FLAT, DEEP))
    of_truth = literal_agreement(fundamental_of(TURN, MOVE), query.keypoints, database.keypoints, 10)
    assert np.all(np.array(of_truth)[true]), "the reference knows the true ones"
    assert true[deep.inliers[:, 0]].sum() >= 0.9 * true.sum()
    assert len(deep) <= 1.1 * sum(of_truth), "and chance brings few others near their lines"
    assert len(flat) < 0.6 * true.sum()


def test_the_transform_is_the_affine_one_of_the_inliers():
    query, database, _ = views()
    found = verify(query, database, in_order(200), DEEP)
    design = np.column_stack([query.keypoints[found.inliers[:, 0]].astype(float), np.ones(len(found))])
    partners = database.keypoints[found.inliers[:, 1]].astype(float)
    expected = np.linalg.inv(design.T @ design) @ design.T @ partners
    np.testing.assert_allclose(found.transform, np.vstack([expected.T, (0, 0, 1)]), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_is_that_of_a_literal_computation(seed):
    query, database, _ = views(0.6, seed=seed)
    source, target = query.keypoints.astype(float), database.keypoints.astype(float)
    for matrix in (fundamental_of(TURN, MOVE), -fundamental_of(TURN, MOVE),
                   np.random.default_rng(seed).normal(0, 1, (3, 3)) / np.outer((900, 900, 1), (900, 900, 1))):
        u, s, vt = np.linalg.svd(matrix)
        matrix = u @ np.diag([s[0], s[1], 0]) @ vt
        agree = _Views.of(matrix, source, target, 10.0).agreeing(source, target)
        assert agree.tolist() == literal_agreement(matrix, source, target, 10.0)


def test_points_behind_the_other_camera_do_not_agree():
    query, database, _ = views(1.0, noise=0.0)
    source, target = query.keypoints.astype(float), database.keypoints.astype(float)
    matrix = fundamental_of(TURN, MOVE)
    epipole = CAMERA @ MOVE
    epipole = epipole[:2] / epipole[2]
    target[:50] = epipole + (epipole - target[:50])  # on the same lines, beyond the epipole
    agree = _Views.of(matrix, source, target, 10.0).agreeing(source, target)
    assert agree.tolist() == [False] * 50 + [True] * 150


@pytest.mark.parametrize("scene", [{"move": np.zeros(3)}, {"depths": (8.0, 8.0)}], ids=["turned alone", "flat"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_what_a_homography_explains_is_left_to_it(scene, share):
    query, database, true = views(share, **scene)
    flat, deep = (verify(query, database, in_order(200), options) for options in (FLAT, DEEP))
    assert len(flat) > 0.9 * true.sum()
    np.testing.assert_array_equal(deep.inliers, flat.inliers)
    np.testing.assert_array_equal(deep.transform, flat.transform)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("matches", [9, 40, 200])
def test_chance_is_left_to_the_homography(seed, matches):
    query, database, _ = views(0.0, matches=matches, seed=seed)
    flat, deep = (verify(query, database, in_order(matches), options) for options in (FLAT, DEEP))
    assert len(deep) == len(flat)


def test_seven_matches_say_nothing():
    query, database, _ = views(1.0, matches=7)
    flat, deep = (verify(query, database, in_order(7), options) for options in (FLAT, DEEP))
    np.testing.assert_array_equal(deep.inliers, flat.inliers)


def test_matches_along_one_line_tell_nothing_of_others():
    """Where all points lie in a strip along the lines, any of them would agree."""
    query, database, _ = views(1.0, turn=np.eye(3), move=np.array([-1.0, 0, 0]), matches=400)
    middle = np.abs(query.keypoints[:, 1] - 384) < 8
    source, target = query.keypoints[middle].astype(float), database.keypoints[middle].astype(float)
    pairs = Correspondences(source, target, np.ones(len(source)), np.column_stack([np.arange(len(source))] * 2))
    agreement = _Views.of(fundamental_of(np.eye(3), np.array([-1.0, 0, 0])), source, target, 20.0)
    agree = agreement.agreeing(source, target)
    assert agree.all()
    assert len(source) > 5
    assert not _beyond_chance(agreement, pairs, agree)
