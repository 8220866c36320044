"""Scenes with a known transform."""

from dataclasses import dataclass

import numpy as np
import pytest

from delf.types import Features, Matches

AFFINE = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [0.0, 0.0, 1.0]])
HOMOGRAPHY = np.array([[0.9, -0.2, 30.0], [0.15, 1.1, -20.0], [3e-4, -2e-4, 1.0]])


@dataclass(frozen=True)
class Scene:
    query: Features
    database: Features
    matches: Matches
    true: np.ndarray
    transform: np.ndarray


def features(points, size=(1024, 768)):
    ones = np.ones(len(points), np.float32)
    return Features(np.asarray(points, np.float32), ones, ones, np.zeros((len(points), 1), np.float32), size)


def applied(transform, points):
    mapped = np.column_stack([points, np.ones(len(points))]) @ np.asarray(transform).T
    return mapped[:, :2] / mapped[:, 2:]


def scene(transform, share, matches=1000, noise=2.0, seed=0, size=(1024, 768)):
    """Matches of which the first `share` (then shuffled) obey the transform up to noise, the others are uniform."""
    generator = np.random.default_rng(seed)
    points = generator.uniform((0, 0), size, (matches, 2))
    true = generator.permutation(matches) < share * matches
    partners = np.where(true[:, None], applied(transform, points) + generator.normal(0, noise, points.shape),
                        generator.uniform((0, 0), size, points.shape))
    rows = np.arange(matches)
    pairs = Matches(rows, rows, generator.random(matches).astype(np.float32))
    return Scene(features(points, size), features(partners, size), pairs, true, transform)


@pytest.fixture(name="scene")
def scene_maker():
    return scene


@pytest.fixture(name="features")
def features_maker():
    return features
