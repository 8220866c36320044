"""A small scene with a known answer: a textured picture, and the same picture seen through a known homography."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from delf.types import FloatArray, ImageArray, ImageMatch, Result


@dataclass(frozen=True, eq=False)
class Scene:
    query: ImageArray
    database: ImageArray
    transform: np.ndarray
    points: FloatArray

    def match(self, inliers: int | None = None, probability: float = 0.93) -> ImageMatch:
        points = self.points[:inliers]
        return ImageMatch(points, self.transform, len(points), 3 * len(points), probability)

    def result(self, rank: int = 1, image: str = "holiday/a.jpg", probability: float = 0.93,
               inliers: int | None = None) -> Result:
        points = self.points[:inliers]
        return Result(rank, image, 10.5 / rank, len(points), probability, self.transform, points)


@pytest.fixture(scope="session")
def scene() -> Scene:
    rng = np.random.default_rng(3)
    blocks = rng.integers(60, 200, (24, 32, 3), np.uint8)
    query = np.asarray(cv2.resize(blocks, (640, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
    transform = np.array([[0.7, 0.12, 40.0], [-0.08, 0.75, 60.0], [1e-4, 5e-5, 1.0]])
    database = np.asarray(cv2.warpPerspective(query, transform, (600, 500)), np.uint8)
    xy = rng.uniform((10, 10), (630, 470), (40, 2))
    moved = np.column_stack([xy, np.ones(len(xy))]) @ transform.T
    points = np.hstack([xy, moved[:, :2] / moved[:, 2:]]).astype(np.float32)
    return Scene(query, database, transform, points)
