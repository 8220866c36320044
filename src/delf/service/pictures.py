"""Pictures for people to look at: made anew from the pixels, so that nothing else of a photo's file gets out."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from delf.images import ImageOptions, limit_size, load, resize
from delf.service.library import Photo, State
from delf.service.queries import Asked, source_of

ATTENTION_SIDE = 512
_QUALITY = 85


def jpeg(photo: Photo, side: int) -> bytes:
    """A photo of the collection, upright, with `side` pixels at most, and without metadata.

    Raises:
        Problem: its file is gone. ImageError: it cannot be read any more.
    """
    pixels = load(source_of(photo), shrink_to=side, options=ImageOptions()).pixels
    height, width = pixels.shape[:2]
    return _encoded(resize(pixels, limit_size(width, height, side)), "JPEG", quality=_QUALITY, optimize=True)


def attention(state: State, asked: Asked) -> bytes:
    """What the model looks at in a query: a grey PNG, white where attention is highest.

    Raises:
        Problem, ImageError: as for `Asked.read`.
    """
    pixels = asked.read(state).pixels
    height, width = pixels.shape[:2]
    if state.extractor.longest_side is not None:  # more detail than that is not looked at, and costs memory
        pixels = resize(pixels, limit_size(width, height, state.extractor.longest_side))
    scores = state.extractor.attention_map(pixels)
    grey = np.asarray(np.rint(255 * scores / max(float(scores.max()), 1e-12)), np.uint8)
    small = limit_size(width, height, ATTENTION_SIDE)
    return _encoded(resize(np.repeat(grey[:, :, None], 3, axis=2), small)[:, :, 0], "PNG")


def _encoded(pixels: np.ndarray, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, form, **options)
    return stream.getvalue()
