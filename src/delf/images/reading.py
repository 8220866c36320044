"""The ways in: pixels, pixels with metadata, or metadata alone, from whatever holds an image."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delf.errors import ImageError
from delf.images.decoding import (
    ImageOptions,
    check_size,
    decode,
    decode_metadata,
    failures_as_image_error,
)
from delf.images.metadata import ImageMetadata, pillow_orientation
from delf.images.paths import display_path
from delf.images.pixels import eight_bit, upright_rgb
from delf.images.sources import read_file, read_stream
from delf.types import ImageArray

_Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
ImageSource = _Encoded | Image.Image | NDArray[Any]


_DEFAULTS = ImageOptions()
_Key = TypeVar("_Key")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """All that indexing needs of a file, which was read once.

    pixels: (H, W, 3) uint8 RGB, upright; smaller than `size` where `shrink_to` allowed it.
    metadata: size of the upright original, time and place.
    sha256: hexadecimal digest of the file's bytes. file_size: their number.
    """

    pixels: ImageArray
    metadata: ImageMetadata
    sha256: str
    file_size: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright original, in whose pixels keypoints are reported."""
        return self.metadata.width, self.metadata.height


def read_image(source: ImageSource, *, options: ImageOptions = _DEFAULTS) -> ImageArray:
    """The pixels of an image: (H, W, 3) uint8 RGB, contiguous, upright.

    source: a path, the bytes of a file, a binary file object (read to its end), a Pillow image, or an array.
    An array is (H, W) or (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGBA, already upright, of dtype uint8,
    uint16 (the high byte is kept), bool or float from 0 to 1; one that has the wanted form is returned as it
    is. `delf.images.pixels` says how each kind of picture becomes RGB. Raises `ImageError`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, options)
    if isinstance(source, Image.Image):
        return _from_pillow(source, options)
    data, name = _encoded(source, options)
    return decode(data, name, options, shrink_to=None)[0]


def load(source: _Encoded, *, shrink_to: int | None = None,
         options: ImageOptions = _DEFAULTS) -> LoadedImage:
    """Pixels, metadata and digest of an image file (a path, bytes or a binary file object), which is read
    once.

    shrink_to: the longest side that is needed, in pixels. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
    size where its longest side stays at least that (the scaled DCT of libjpeg: faster, and less memory);
    other formats come whole. A point of `pixels` becomes one of the original by the ratio of `size` to the
    size of `pixels`, half-pixel centres kept; since a side that 8 does not divide is rounded up, that is off
    by less than a pixel of `pixels`. Raises `ImageError`, and `OptionError` for a `shrink_to` below 1.
    """
    data, name = _encoded(source, options)
    pixels, metadata = decode(data, name, options, shrink_to)
    return LoadedImage(pixels, metadata, hashlib.sha256(data).hexdigest(), len(data))


def load_ahead(sources: Iterable[tuple[_Key, Path]], *, threads: int, on_error: Callable[[ImageError], None],
               shrink_to: int | None = None) -> Iterator[tuple[_Key, LoadedImage]]:
    """`load` in threads, a few files ahead of the consumer and in their order.

    sources: pairs of anything, which comes back with the image, and a path. on_error: is told of what cannot be
    read, which is left out.
    """
    waiting: deque[tuple[_Key, Future[LoadedImage]]] = deque()

    def result(key: _Key, future: Future[LoadedImage]) -> Iterator[tuple[_Key, LoadedImage]]:
        try:
            yield key, future.result()
        except ImageError as error:
            on_error(error)

    with ThreadPoolExecutor(threads, thread_name_prefix="delf-decode") as pool:
        for key, path in sources:
            waiting.append((key, pool.submit(load, path, shrink_to=shrink_to)))
            if len(waiting) > threads:
                yield from result(*waiting.popleft())
        for item in waiting:
            yield from result(*item)


def read_metadata(source: _Encoded, *, options: ImageOptions = _DEFAULTS) -> ImageMetadata:
    """Size, time and place of an image file, without decoding its pixels (PNG apart). Raises `ImageError`."""
    data, name = _encoded(source, options)
    return decode_metadata(data, name, options)


def _encoded(source: Any, options: ImageOptions) -> tuple[bytes, str]:
    """The bytes of an image file, and what to call it in a message."""
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        return read_file(path, options.max_bytes), display_path(path)
    if isinstance(source, bytes | bytearray | memoryview):
        if memoryview(source).nbytes > options.max_bytes:
            raise ImageError(f"The given image has more than {options.max_bytes} bytes: make it smaller, "
                             "or raise max_bytes.")
        return bytes(source), "The given image"
    if hasattr(source, "read"):
        return read_stream(source, "The given file object", options.max_bytes), "The given file object"
    raise ImageError(f"An image cannot be read from {type(source).__name__!r}: give a path, bytes or a "
                     "binary file.")


def _from_pillow(image: Image.Image, options: ImageOptions) -> ImageArray:
    name = "The given Pillow image"
    check_size(image.size, name, options)
    with failures_as_image_error(name, image.format or image.mode):
        image.load()  # before the orientation is asked for, which a TIFF loses on loading
        return upright_rgb(image, pillow_orientation(image))


def _from_array(array: NDArray[Any], options: ImageOptions) -> ImageArray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"An array of shape {array.shape} is not an image: give (H, W), (H, W, 3) or "
                         "(H, W, 4).")
    check_size((array.shape[1], array.shape[0]), "The given array", options)
    if array.dtype not in (np.uint8, np.uint16, np.bool_) and array.dtype.kind != "f":
        raise ImageError(f"An array of {array.dtype} is not an image: give uint8, uint16, bool, or floats "
                         "from 0 to 1.")
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        raise ImageError("An image of floats must lie between 0 and 1: divide it by its white, or convert it "
                         "to uint8.")
    samples = eight_bit(array)
    if samples.ndim == 2 or samples.shape[2] == 1:
        return np.repeat(samples.reshape(*samples.shape[:2], 1), 3, axis=2)
    if samples.shape[2] == 4:
        return upright_rgb(Image.fromarray(np.ascontiguousarray(samples)), 1)
    return np.ascontiguousarray(samples)
