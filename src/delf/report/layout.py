"""Where the two pictures of a match lie on one canvas: side by side, or one above the other.

Canvas coordinates are continuous and start at the corner of the first pixel, as in SVG: the centre of the first
pixel of a picture that is not scaled is (0.5, 0.5) from the corner of its panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 8
SMALLEST = 320  # smaller pictures are enlarged to this height (width, if stacked), or lines would hide them
WIDE = 2.0  # two pictures of this aspect ratio or more are stacked: side by side they would be thin strips

Size = tuple[int, int]


@dataclass(frozen=True)
class Panel:
    """The place of one picture on the canvas; `image_size` is (width, height) in pixels of the original."""

    x: int
    y: int
    width: int
    height: int
    image_size: Size

    def place(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """(N, 2) points of the picture, in pixels of the original, as (N, 2) points of the canvas."""
        scale = np.array([self.width, self.height]) / self.image_size
        return (np.asarray(points, np.float64) + 0.5) * scale + (self.x, self.y)

    def transposed(self) -> Panel:
        """The panel with x and y swapped."""
        return Panel(self.y, self.x, self.height, self.width, self.image_size[::-1])


@dataclass(frozen=True)
class Layout:
    """A canvas of `width` by `height` pixels with the panels of the query and of the database image."""

    width: int
    height: int
    query: Panel
    database: Panel


def arrange(query: Size, database: Size, limit: Size) -> Layout:
    """Stacked where both pictures are wide, else side by side; sizes as (width, height) within `limit`."""
    wide = all(width >= WIDE * height for width, height in (query, database))
    return stacked(query, database, limit) if wide else side_by_side(query, database, limit)


def side_by_side(query: Size, database: Size, limit: Size) -> Layout:
    """Both pictures at one height, the query left.

    The aspect ratio is kept, except that no side falls below one pixel.
    """
    aspects = [width / height for width, height in (query, database)]
    height = min(max(query[1], database[1], SMALLEST), limit[1], (limit[0] - GAP) / sum(aspects))
    left, right = (max(1, int(height * aspect)) for aspect in aspects)
    rows = max(1, int(height))
    return Layout(left + GAP + right, rows,
                  Panel(0, 0, left, rows, query), Panel(left + GAP, 0, right, rows, database))


def stacked(query: Size, database: Size, limit: Size) -> Layout:
    """Both pictures at one width, the query on top."""
    turned = side_by_side(query[::-1], database[::-1], limit[::-1])
    return Layout(turned.height, turned.width, turned.query.transposed(), turned.database.transposed())
