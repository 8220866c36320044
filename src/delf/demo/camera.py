"""A photograph of a photograph: first where the camera stands (a homography), then what light and lens do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.types import Box, ImageArray

Homography = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Where the camera stands before a picture that hangs on a wall.

    box: the part of the picture that may be seen, in fractions of its sides; the camera looks at its middle.
    zoom: pixels of the photo per pixel of the picture there. yaw: degrees from the front, positive where the
    camera stands on the right. pitch: the same, positive where it stands below. roll: degrees that the photo is
    turned clockwise.
    """

    box: Box = (0, 0, 1, 1)
    zoom: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def shaken(self, degrees: float, random: np.random.Generator) -> View:
        """The same view from a slightly other place: up to that many degrees and 5 % of zoom away."""
        if not degrees:
            return self
        yaw, pitch, roll = (degrees * random.uniform(-1, 1) for _ in range(3))
        return replace(self, zoom=self.zoom * random.uniform(0.95, 1.05), yaw=self.yaw + yaw,
                       pitch=self.pitch + pitch / 2, roll=self.roll + roll / 2)


@dataclass(frozen=True)
class Light:
    """What light, lens and file format do to a photo.

    gamma: above 1 is darker. warmth: above 0 is red, below 0 is blue. blur: standard deviation in pixels.
    noise: standard deviation in grey levels. post: the width of a post that stands before the scene, as a part of
    the photo's. quality: of the JPEG file, 1 to 95.
    """

    gamma: float = 1.0
    warmth: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    post: float = 0.0
    quality: int = 92


def place(view: View, picture_size: tuple[int, int]) -> tuple[Homography, tuple[int, int]]:
    """From the picture to the photo that `view` gives of it, and the photo's (width, height).

    The photo has the proportions of the box and is as large as it can be with all of it inside the box, so that it
    has no empty corner. The 3x3 homography maps pixel centres.
    """
    width, height = picture_size
    x1, x2 = (side * width - 0.5 for side in view.box[::2])
    y1, y2 = (side * height - 0.5 for side in view.box[1::2])
    to_middle = _translation(-(x1 + x2) / 2, -(y1 + y2) / 2)
    projection = _projection(view, distance=1.5 * math.hypot(x2 - x1, y2 - y1)) @ to_middle
    corners = transform_points(projection, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    scale = _largest_scale((x2 - x1, y2 - y1), corners)
    size = math.floor(scale * (x2 - x1) + 1e-6), math.floor(scale * (y2 - y1) + 1e-6)
    return _translation((size[0] - 1) / 2, (size[1] - 1) / 2) @ projection, size


def _projection(view: View, distance: float) -> Homography:
    """The plane of the picture, origin in its middle, to the image plane: K [r1 r2 t] (Hartley and Zisserman)."""
    yaw, pitch, roll = (math.radians(angle) for angle in (view.yaw, view.pitch, view.roll))
    turned = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    from_below = np.array([[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]])
    from_right = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    pose = turned @ from_below @ from_right
    pose[:, 2] = 0, 0, distance
    focal_length = view.zoom * distance
    return cast(Homography, np.diag([focal_length, focal_length, 1]) @ pose)


def _largest_scale(shape: tuple[float, float], quadrilateral: NDArray[np.float64]) -> float:
    """How large a rectangle of that (width, height), centred on the origin, is where it just fits.

    quadrilateral: (4, 2), convex, with the origin inside, clockwise on the screen.
    """
    edges = np.roll(quadrilateral, -1, axis=0) - quadrilateral
    outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    limits = (outward * quadrilateral).sum(axis=1)
    reach = np.abs(outward) @ (np.array(shape) / 2)
    return float((limits / reach).min())


def _translation(x: float, y: float) -> Homography:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def transform_points(transform: Homography, points: object) -> NDArray[np.float64]:
    """The (N, 2) points of the other image."""
    rows = np.asarray(points, np.float64)
    mapped = np.column_stack([rows, np.ones(len(rows))]) @ transform.T
    return mapped[:, :2] / mapped[:, 2:]


def render(picture: ImageArray, homography: Homography, size: tuple[int, int], oversampling: int) -> ImageArray:
    """The photo of that (width, height): (height, width, 3) uint8.

    Each pixel is the mean of `oversampling` x `oversampling` samples, so that a photo from far away has no moiré.
    """
    width, height = size
    finer = np.diag([oversampling, oversampling, 1.0])
    finer[:2, 2] = (oversampling - 1) / 2  # the samples of a pixel lie around its centre
    samples = cv2.warpPerspective(picture, finer @ homography, (width * oversampling, height * oversampling),
                                  flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return cast(ImageArray, cv2.resize(samples, size, interpolation=cv2.INTER_AREA))


def oversampling_of(view: View) -> int:
    """How many samples a pixel of the photo needs in each direction to miss no pixel of the picture."""
    foreshortening = math.cos(math.radians(view.yaw)) * math.cos(math.radians(view.pitch))
    return math.ceil(1 / (view.zoom * foreshortening) - 0.1)


def expose(photo: ImageArray, light: Light, random: np.random.Generator) -> ImageArray:
    """A photo in another light, taken with another lens; the size stays."""
    values: NDArray[Any] = _behind_post(photo, light.post) if light.post else photo
    values = 255 * (values / 255) ** light.gamma * [1 + light.warmth, 1, 1 - light.warmth]
    if light.blur:
        values = cv2.GaussianBlur(values, (0, 0), light.blur)
    values = values + light.noise * random.standard_normal(values.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _behind_post(photo: ImageArray, part: float) -> NDArray[np.float64]:
    """The photo with a round post, a little out of plumb, in front of its right half."""
    height, width = photo.shape[:2]
    y, x = np.mgrid[:height, :width]
    across = (x - 0.62 * width - 0.05 * y) / (part * width / 2)
    shade = 0.25 + 0.75 * np.sqrt(np.clip(1 - (across + 0.3) ** 2 / 1.7, 0, 1))  # the light comes from the left
    post = shade[..., None] * [128, 116, 104]
    return np.where(np.abs(across)[..., None] < 1, post, photo)


def describe(view: View, light: Light, *, closer: float, part: float) -> str:
    """What view and light do to a picture, in words.

    closer, part: the zoom, and the part of the picture that is seen, against the photo that it is compared with.
    """
    sides = {f"{abs(view.yaw):.0f}° from the {'right' if view.yaw > 0 else 'left'}": abs(view.yaw) >= 8,
             f"{abs(view.pitch):.0f}° from {'below' if view.pitch > 0 else 'above'}": abs(view.pitch) >= 8}
    seen = " and ".join(side for side, holds in sides.items() if holds)
    distance = f"{closer:.1f} times closer" if closer > 1 else f"{1 / closer:.1f} times farther away"
    said = {
        "a part of it": part < 0.4,
        f"seen {seen}": bool(seen),
        f"turned {abs(view.roll):.0f}°": abs(view.roll) >= 3,
        distance: max(closer, 1 / closer) >= 1.25,
        "darker": light.gamma > 1.1,
        "brighter": light.gamma < 0.9,
        "in warm light": light.warmth > 0,
        "in cold light": light.warmth < 0,
        "out of focus": light.blur > 0,
        "noisy": light.noise > 0,
        "behind a post": light.post > 0,
        f"JPEG quality {light.quality}": light.quality <= 60,
    }
    return ", ".join(words for words, holds in said.items() if holds)
