"""Views of photos for training: a random perspective of a part, with other light, and where points come to lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.settings import Options
from delf.types import FloatArray, ImageArray


@dataclass(frozen=True)
class ViewOptions(Options):
    """How much views differ.

    side: of the square view, in pixels. scales: of its pixels to the photo's, log-uniform between the two.
    rotation: standard deviation, degrees. any_rotation: share of second views turned by any angle.
    perspective: how far the corners move, as a share of the side. shift: the same for the centre.
    """

    side: int = 288
    scales: tuple[float, float] = (0.6, 1.4)
    rotation: float = 8.0
    any_rotation: float = 0.35
    perspective: float = 0.08
    shift: float = 0.1


def random_view(centre: FloatArray, options: ViewOptions, rng: np.random.Generator, *,
                turned: bool = False) -> NDArray[np.float64]:
    """A (3, 3) homography from the pixels of a photo to those of a view about `centre` (2,)."""
    side = options.side
    scale = math.exp(rng.uniform(math.log(options.scales[0]), math.log(options.scales[1])))
    any_angle = turned and rng.random() < options.any_rotation
    angle = math.radians(rng.uniform(-180, 180) if any_angle else rng.normal(0, options.rotation))
    half = (side - 1) / 2
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    moved = corners + rng.uniform(-1, 1, size=(4, 2)) * options.perspective * side
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shift = rng.normal(0, options.shift, size=2) * side
    source = (moved + shift) @ turn.T / scale + centre
    transform = cv2.getPerspectiveTransform(source.astype(np.float32), (corners + half).astype(np.float32))
    return np.asarray(transform, np.float64)


def warp(image: ImageArray, view: NDArray[np.float64], side: int) -> ImageArray:
    """The (side, side, 3) view of an image; what lies outside of the photo repeats its border."""
    # Where the view is smaller than the photo, smoothing first keeps fine texture from turning into noise.
    scale = math.sqrt(abs(np.linalg.det(view[:2, :2])))
    if scale < 0.8:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.uint8)
    return np.asarray(cv2.warpPerspective(image, view, (side, side), flags=cv2.INTER_LINEAR,
                                          borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def moved_points(points: FloatArray, view: NDArray[np.float64]) -> FloatArray:
    """(N, 2) points of the photo -> (N, 2) points of the view, float32."""
    if not len(points):
        return np.zeros((0, 2), np.float32)
    return cv2.perspectiveTransform(points[None].astype(np.float64), view)[0].astype(np.float32)


def other_light(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Other brightness, contrast, colour and sharpness, and the marks of JPEG: a new (H, W, 3) uint8 image."""
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, size=3)
    shift = rng.uniform(-25, 25)
    changed = (image.astype(np.float32) - 128) * gain.astype(np.float32) + np.float32(128 + shift)
    if rng.random() < 0.15:
        changed = np.repeat(changed.mean(axis=2, keepdims=True), 3, axis=2)
    changed = 255 * (np.clip(changed, 0, 255) / 255) ** np.float32(math.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.25:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.5, 1.6))
    result = np.clip(changed, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(30, 90))
        _, encoded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return result
