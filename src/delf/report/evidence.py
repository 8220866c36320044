"""What a picture of a match shows, on a canvas or a page: which lines, their colours, the outline, the words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.types import Box

Size = tuple[int, int]
Points = NDArray[np.float64]

WHOLE = 0.9  # share of the result from which the outline of the query is but its frame
SMALLEST_OUTLINE = 16.0  # square pixels: a smaller outline is a speck, and its transform a collapsed one


def percent(probability: float | None) -> str:
    """A probability in whole percent that never claims certainty: "<1 %" and ">99 %" at the ends; nothing for None."""
    if probability is None:
        return ""
    if math.isnan(probability):
        return "unknown"
    if probability < 0.01:
        return "<1 %"
    return ">99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def counted(number: int, noun: str) -> str:
    """"1 inlier", "2 inliers", "0 matches"."""
    plural = noun + ("es" if noun.endswith(("s", "ch")) else "s")
    return f"{number} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """A time as one says it: "<1 ms", "12 ms", "1.3 s", "25 s"."""
    if seconds < 0.9995:
        return "<1 ms" if seconds < 0.0005 else f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def moment(time: str) -> str:
    """An ISO 8601 time to be read, to the minute: "2019-07-14 16:30"."""
    return time[:16].replace("T", " ")


def printable(text: str) -> str:
    """`text` on one line that any encoding of Unicode can hold.

    Line breaks, control and direction characters, and the lone surrogates of file names that are not UTF-8,
    become backslash escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def drawn_lines(inlier_points: NDArray[Any], query: Size, database: Size, most: int) -> NDArray[np.int64]:
    """Which rows of (I, 4) inlier points to draw: at most `most`, spread evenly over their order.

    Rows with a point outside its picture, or that is not a number, are left out.
    """
    points = np.asarray(inlier_points, np.float64).reshape(-1, 4)
    bounds = np.array([*query, *database]) - 0.5
    inside = np.flatnonzero(((points >= -0.5) & (points <= bounds)).all(axis=1))
    if len(inside) <= most:
        return inside
    return inside[np.linspace(0, len(inside) - 1, most).round().astype(np.int64)]


def line_opacity(lines: int) -> float:
    """Few lines are nearly solid; many are thin and transparent, so that the pictures stay visible."""
    return 0.9 * math.sqrt(min(1.0, 30 / max(lines, 1)))


def colour_ramp(positions: NDArray[Any]) -> NDArray[np.uint8]:
    """(N,) positions in 0..1 -> (N, 3) sRGB from gold (0) by green and blue to violet (1), evenly to the eye.

    A straight path of lightness and hue at constant chroma in OKLCH (B. Ottosson, "A perceptual color space for
    image processing", 2020, which gives the two matrices): light enough for dark photos and never neon.
    """
    t = np.clip(np.nan_to_num(np.asarray(positions, np.float64)), 0.0, 1.0)
    lightness, chroma, hue = 0.86 - 0.16 * t, 0.125, np.radians(85 + 230 * t)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    cone_roots = lab @ np.array([[1.0, 0.3963377774, 0.2158037573],
                                 [1.0, -0.1055613458, -0.0638541728],
                                 [1.0, -0.0894841775, -1.2914855480]]).T
    linear = cone_roots**3 @ np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                                       [-1.2684380046, 2.6097574011, -0.3413193965],
                                       [-0.0041960863, -0.7034186147, 1.7076147010]]).T
    linear = np.clip(linear, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: NDArray[np.uint8] = np.rint(255 * srgb).astype(np.uint8)
    return colours


def order_colours(rows: NDArray[np.int64], total: int) -> NDArray[np.uint8]:
    """(N, 3) colours of the inliers with these row numbers out of `total`: the most similar are gold."""
    return colour_ramp(rows / max(total - 1, 1))


def corners(size: Size, box: Box | None) -> Points:
    """(4, 2) corners, clockwise, of `box`, or else of a whole picture: its outer edge, not pixel centres."""
    x1, y1, x2, y2 = box or (-0.5, -0.5, size[0] - 0.5, size[1] - 0.5)
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def projected_outline(
    transform: NDArray[np.float64] | None, outline: Points, database: Size
) -> Points | None:
    """The (N, 2) `outline` of the query on the database image: (M, 2), clipped to that picture.

    None where there is no transform, or where it degenerates: not finite, a corner on or behind the horizon, or
    less than `SMALLEST_OUTLINE` left inside the picture.
    """
    largest = 0.0 if transform is None else float(np.abs(transform).max())
    if transform is None or not 0.0 < largest < np.inf:
        return None
    projected = np.column_stack([outline, np.ones(len(outline))]) @ (transform / largest).T
    projected *= np.sign(projected[0, 2])
    if (projected[:, 2] <= 1e-9 * np.abs(projected).max()).any():
        return None
    clipped = _clip(projected, database)
    if len(clipped) < 3:
        return None
    polygon = clipped[:, :2] / clipped[:, 2:]
    return polygon if _area(polygon) >= SMALLEST_OUTLINE else None


@dataclass(frozen=True, eq=False)
class Outlines:
    """What is outlined on either picture, as (M, 2) points of it, or None; and that in words.

    Where the query shows more than the result, its outline there is the result's own frame and says nothing: then the
    result is outlined on the query. A `box` that was searched for is outlined in any case.
    """

    query: Points | None = None
    database: Points | None = None
    words: str = ""

    @classmethod
    def of(cls, transform: NDArray[np.float64] | None, query: Size, database: Size, box: Box | None) -> Outlines:
        """transform: (3, 3) from the query to the result; None where nothing is to be shown but the box."""
        searched = corners(query, box)
        given = None if box is None else searched
        projected = projected_outline(transform, searched, database)
        if transform is None or projected is None:
            return cls(given)
        if given is None and _area(projected) >= WHOLE * database[0] * database[1]:
            back = projected_outline(_inverse(transform), corners(database, None), query)
            if back is not None:
                return cls(back, None, "the result on the query")
        return cls(given, projected, "the query on the result")


def _inverse(transform: NDArray[np.float64]) -> NDArray[np.float64] | None:
    try:
        return np.asarray(np.linalg.inv(transform / np.abs(transform).max()), np.float64)
    except np.linalg.LinAlgError:
        return None


def _clip(polygon: Points, size: Size) -> Points:
    """Sutherland and Hodgman's clipping of a polygon of homogeneous points (N, 3) to the picture."""
    width, height = size
    for edge in np.array([[1, 0, 0.5], [-1, 0, width - 0.5], [0, 1, 0.5], [0, -1, height - 0.5]]):
        distance = polygon @ edge  # positive inside
        kept: list[Points] = []
        for here, there, d0, d1 in zip(polygon, np.roll(polygon, -1, axis=0), distance,
                                       np.roll(distance, -1), strict=True):
            if d0 >= 0:
                kept.append(here)
            if (d0 >= 0) != (d1 >= 0):
                kept.append(here + (there - here) * (d0 / (d0 - d1)))
        polygon = np.array(kept).reshape(-1, 3)
    return polygon


def _area(polygon: Points) -> float:
    x, y = (polygon - polygon.mean(axis=0)).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
