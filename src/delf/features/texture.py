"""Where a picture shows something: how much texture there is around each cell, and what is border or bare margin.

A network answers at every cell. Where the picture is flat, or shows a gradient, noise or one straight edge, what it
answers comes from the zeros around the picture or from next to nothing, and looks alike in all such pictures.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from delf.types import FloatArray, ImageArray

FINE, COARSE = 1.2, 4.0  # pixels: standard deviations between which detail counts; below is noise, above are gradients
REACH = 12  # pixels of the coarse filter, three standard deviations
FAINT = 0.3  # least texture of a dark picture, above that of compression and of the noise of most cameras
CLEAR = 2.5  # times as much texture as a quarter of the picture has at most: noise is alike all over
BARE = 3.0  # grey levels by which a bare margin may vary: noise and compression
RIM = 8  # pixels at the edges of a picture
WINDOW = 3  # strides: the side of the square around a cell whose texture counts as its own


def shows_something(pixels: ImageArray | FloatArray, cells: tuple[int, ...], stride: int, least: float,
                    border: float) -> NDArray[np.bool_]:
    """(rows, columns) whether a picture, and not its border, shows something at each cell of a level.

    In a dark or foggy picture things have less texture than `least`. There they have to stand out from the noise.

    Args:
        pixels: (H, W, 3) of the level. least, border: `texture` and `border` of `ExtractionOptions`.
    """
    rows, columns = cells
    shown = inside((pixels.shape[1], pixels.shape[0]), stride, rows, columns, border)
    if least:
        shown &= within_margins(pixels, stride, rows, columns)
        found = texture(pixels, stride, rows, columns)
        quiet = np.percentile(found, 25) if found.size else 0.0
        shown &= found >= min(least, max(FAINT, CLEAR * quiet))
    return shown


def texture(pixels: ImageArray | FloatArray, stride: int, rows: int, columns: int) -> FloatArray:
    """(H, W, 3) pixels of a level -> (rows, columns) texture around each cell, in grey levels per pixel.

    That is how much the picture changes in the direction in which it changes least: the root of the smaller
    eigenvalue of the mean product of gradients (the structure tensor) of a band of detail. It is next to nothing for
    a flat picture, for gradients of any form, and for a straight edge alone; about 0.2 for noise of two grey levels
    or blocks of a strong compression; and more than one for nearly all that photos are recognised by.
    """
    detail = _detail(pixels)
    across = cv2.Sobel(detail, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(detail, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    product: FloatArray = np.multiply(across, down, out=detail)  # fresh memory would cost more than the product
    np.square(across, out=across)
    np.square(down, out=down)
    xx, xy, yy = (_around_cells(np.asarray(one, np.float32), stride, rows, columns) for one in (across, product, down))
    smaller = (xx + yy) / 2 - np.sqrt(np.square((xx - yy) / 2) + np.square(xy))
    return np.asarray(np.sqrt(np.maximum(smaller, 0)), np.float32)


def inside(size: tuple[int, int], stride: int, rows: int, columns: int, border: float) -> NDArray[np.bool_]:
    """(rows, columns) which cells of a level of (width, height) lie at least `border` pixels from its edges."""
    across, down = (np.minimum(stride * np.arange(cells), side - 1 - stride * np.arange(cells)) >= border
                    for side, cells in zip(size, (columns, rows), strict=True))
    return np.asarray(down[:, None] & across[None])


def within_margins(pixels: ImageArray | FloatArray, stride: int, rows: int, columns: int) -> NDArray[np.bool_]:
    """(rows, columns) which cells of a level lie within its bare margins: the bars of a letterbox, the lid of a
    scanner, the ground that a frame was filled with.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    box = [0, 0, *grey.shape]  # top, left, bottom, right
    for _ in range(2):  # bars above and below hide that the columns between them are bare
        part = grey[box[0] : box[2], box[1] : box[3]]
        above, below = _bare(part), _bare(part[::-1])
        part = part[above : len(part) - below]
        before, behind = _bare(part.T), _bare(part.T[::-1])
        box = [box[0] + above, box[1] + before, box[2] - below, box[3] - behind]
    down, across = (np.arange(cells) * stride for cells in (rows, columns))
    return np.asarray(((down >= box[0]) & (down < box[2]))[:, None] & ((across >= box[1]) & (across < box[3])))


def _bare(grey: FloatArray) -> int:
    """How many rows of a picture, from the first on, are of one grey level and the same one; all but one at most."""
    if grey.size == 0 or grey[0].std() > BARE:  # as nearly always
        return 0
    bare = (grey.std(axis=1) <= BARE) & (np.abs(grey.mean(axis=1) - grey[0].mean()) <= 2 * BARE)
    return int(np.argmin(bare)) if not bare.all() else len(bare) - 1


def _detail(pixels: ImageArray | FloatArray) -> FloatArray:
    """(H, W) the luminance without what is finer or coarser than texture.

    Beyond its edges the picture goes on as a gradient does, so that they make no detail of their own.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    reach = [min(REACH, side - 1) for side in grey.shape]
    wide = np.pad(grey, [(one, one) for one in reach], mode="reflect", reflect_type="odd")
    band = np.asarray(cv2.GaussianBlur(wide, (0, 0), FINE), np.float32)
    band -= np.asarray(cv2.GaussianBlur(wide, (0, 0), COARSE, dst=wide), np.float32)
    height, width = grey.shape
    return np.asarray(band[reach[0] : reach[0] + height, reach[1] : reach[1] + width], np.float32)


def _around_cells(values: NDArray[np.float32], stride: int, rows: int, columns: int) -> FloatArray:
    """(H, W) -> (rows, columns) means over the squares around the cells, without the rim of the picture: what is beyond
    it is guessed, and bends each line that runs out of the picture. The rim is set to zero.
    """
    top, left = (_rim(length) for length in values.shape)
    values[:top], values[len(values) - top :] = 0, 0
    values[:, :left], values[:, values.shape[1] - left :] = 0, 0
    area = _area(values.shape, stride)[:rows, :columns]
    return np.asarray(_sums(values, stride)[:rows, :columns] / area, np.float32)


@lru_cache(maxsize=64)
def _area(shape: tuple[int, ...], stride: int) -> FloatArray:
    """The share of the square around each cell that lies within the rim of a picture of (height, width)."""
    top, left = (_rim(length) for length in shape)
    kept = np.zeros(shape, np.float32)
    kept[top : shape[0] - top, left : shape[1] - left] = 1
    return _sums(kept, stride)


def _sums(values: FloatArray, stride: int) -> FloatArray:
    """(H, W) -> the sums over the squares around the cells, as shares of a square."""
    sides = WINDOW * stride, WINDOW * stride
    sums = cv2.boxFilter(values, -1, sides, borderType=cv2.BORDER_CONSTANT)[::stride, ::stride]
    return np.array(sums, np.float32)  # not a view, which would keep all of them


def _rim(length: int) -> int:
    return min(RIM, length // 4)
