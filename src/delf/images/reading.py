"""The ways in: pixels, pixels with metadata, or metadata alone, from whatever holds an image."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, TypeVar

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
from delf.images.frames import frame_key, frame_of
from delf.images.geometry import limit_size, resize
from delf.images.metadata import ImageMetadata, as_preview, metadata_of, pillow_orientation
from delf.images.paths import display_path
from delf.images.pixels import eight_bit, upright_rgb
from delf.images.sources import explanation, read_file, read_stream
from delf.images.video import Frame, VideoOptions, read_frame, scene_frames
from delf.types import ImageArray

_Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
ImageSource = _Encoded | Image.Image | NDArray[Any]
"""What an image is read from: a path, the bytes of a file, a binary file object, a Pillow image, or an array.

A path may name a frame of a video by its second: `holiday.mp4#t=12.48`.
"""


_DEFAULTS = ImageOptions()
_PREVIEW_QUALITY = 85
_Key = TypeVar("_Key")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """All that indexing needs of an image, which was read once.

    pixels: (H, W, 3) uint8 RGB, upright; smaller than `size` where `shrink_to` allowed it, and for a preview.
    metadata: size of the upright original, time and place.
    sha256: hexadecimal digest of the file's bytes; where there is no file, of the size and the pixels; of a frame, as
        `delf.images.frames.frame_key` says. file_size: the number of those bytes.
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
    if (frame := _frame(source, None, options)) is not None:
        return resize(frame.pixels, (frame.metadata.width, frame.metadata.height))
    data, name = _encoded(source, options)
    pixels, metadata = decode(data, name, options, shrink_to=None)
    return resize(pixels, (metadata.width, metadata.height))  # which only a preview has not got already


def is_rgb(image: object) -> TypeGuard[ImageArray]:
    """Whether something is an (H, W, 3) uint8 array, as `read_image` returns it."""
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def read_reduced(source: ImageSource, *, shrink_to: int | None = None,
                 options: ImageOptions = _DEFAULTS) -> tuple[ImageArray, tuple[int, int]]:
    """As `load`, without digest and metadata: the pixels, and the (width, height) of the original."""
    if isinstance(source, np.ndarray | Image.Image):
        pixels = read_image(source, options=options)
        return pixels, (pixels.shape[1], pixels.shape[0])
    if (frame := _frame(source, shrink_to, options)) is not None:
        return frame.pixels, (frame.metadata.width, frame.metadata.height)
    data, name = _encoded(source, options)
    pixels, metadata = decode(data, name, options, shrink_to)
    return pixels, (metadata.width, metadata.height)


def load(source: ImageSource, *, shrink_to: int | None = None,
         options: ImageOptions = _DEFAULTS) -> LoadedImage:
    """Pixels, metadata and digest of an image, from whatever holds it (as for `read_image`), which is read once.

    shrink_to: the longest side that is needed, in pixels. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
    size where its longest side stays at least that (the scaled DCT of libjpeg: faster, and less memory);
    other formats come whole. A point of `pixels` becomes one of the original by the ratio of `size` to the
    size of `pixels`, half-pixel centres kept; since a side that 8 does not divide is rounded up, that is off
    by less than a pixel of `pixels`. A preview (`delf.images.preview`) comes as small as it is, with the size of its
    original. Raises `ImageError`, and `OptionError` for a `shrink_to` below 1.
    """
    if isinstance(source, np.ndarray | Image.Image):
        return _without_file(source, options)
    if (named := _named_frame(source)) is not None:
        return _loaded(named[0], read_frame(*named, shrink_to=shrink_to, images=options))
    data, name = _encoded(source, options)
    pixels, metadata = decode(data, name, options, shrink_to)
    return LoadedImage(pixels, metadata, hashlib.sha256(data).hexdigest(), len(data))


def load_scenes(path: str, options: VideoOptions, *, known: tuple[float, ...] = (), shrink_to: int | None = None,
                images: ImageOptions = _DEFAULTS) -> Iterator[tuple[float, LoadedImage]]:
    """The frames of a video that are taken, each with its second, as `load` gives them one by one. Arguments and errors
    as for `delf.images.video.scene_frames`.
    """
    for frame in scene_frames(path, options, known=known, shrink_to=shrink_to, images=images):
        yield frame.second, _loaded(path, frame)


def preview(pixels: ImageArray, size: tuple[int, int], side: int) -> bytes:
    """A reduced copy of a picture as a JPEG file, which says of what size its original is.

    To `read_image` it has the size of the original, so that points that were found there lie where they belong.

    Args:
        pixels: (H, W, 3) uint8 RGB. size: (width, height) of the original. side: the longest of the copy, in pixels.
    """
    small = resize(pixels, limit_size(pixels.shape[1], pixels.shape[0], side))
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "JPEG", quality=_PREVIEW_QUALITY, exif=as_preview(size))
    return stream.getvalue()


def image_bytes(source: ImageSource, *, options: ImageOptions = _DEFAULTS) -> bytes:
    """An image as the bytes of a file: those that there are, or else a PNG of the pixels. Raises `ImageError`."""
    if not isinstance(source, np.ndarray | Image.Image) and _named_frame(source) is None:
        return _encoded(source, options)[0]
    stream = io.BytesIO()
    Image.fromarray(read_image(source, options=options)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def in_memory(source: object) -> bool:
    """Whether an image is given by its content, and not by a path."""
    return isinstance(source, np.ndarray | Image.Image | bytes | bytearray | memoryview) or hasattr(source, "read")


def source_name(source: ImageSource) -> str:
    """What to call an image where results are shown: its path, or nothing."""
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else ""


def load_ahead(sources: Iterable[tuple[_Key, ImageSource | LoadedImage]], *, threads: int,
               on_error: Callable[[ImageError], None],
               shrink_to: int | None = None) -> Iterator[tuple[_Key, LoadedImage]]:
    """`load` in threads, a few files ahead of the consumer and in their order.

    sources: pairs of anything, which comes back with the image, and where that is, or the image, where it is loaded
    already. on_error: is told of what cannot be read, which is left out.
    """
    waiting: deque[tuple[_Key, Future[LoadedImage]]] = deque()

    def result(key: _Key, future: Future[LoadedImage]) -> Iterator[tuple[_Key, LoadedImage]]:
        try:
            yield key, future.result()
        except ImageError as error:
            on_error(error)

    with ThreadPoolExecutor(threads, thread_name_prefix="delf-decode") as pool:
        for key, source in sources:
            if isinstance(source, LoadedImage):
                ready: Future[LoadedImage] = Future()
                ready.set_result(source)
                waiting.append((key, ready))
            else:
                waiting.append((key, pool.submit(load, source, shrink_to=shrink_to)))
            if len(waiting) > threads:
                yield from result(*waiting.popleft())
        for item in waiting:
            yield from result(*item)


def read_metadata(source: _Encoded, *, options: ImageOptions = _DEFAULTS) -> ImageMetadata:
    """Size, time and place of an image file, without decoding its pixels (PNG apart). Raises `ImageError`."""
    if (frame := _frame(source, 1, options)) is not None:
        return frame.metadata
    data, name = _encoded(source, options)
    return decode_metadata(data, name, options)


def _named_frame(source: Any) -> tuple[str, float] | None:
    """The path of the video, and the second, where a source names a frame."""
    return frame_of(source) if isinstance(source, str | os.PathLike) else None


def _frame(source: Any, shrink_to: int | None, options: ImageOptions) -> Frame | None:
    """The frame that a source names; None for other sources."""
    named = _named_frame(source)
    return None if named is None else read_frame(*named, shrink_to=shrink_to, images=options)


def _loaded(video: str, frame: Frame) -> LoadedImage:
    key = frame_key(video, frame.second)
    try:
        size = Path(video).stat().st_size
    except OSError as error:
        raise ImageError(explanation(video, error)) from error
    return LoadedImage(frame.pixels, frame.metadata, key, size)


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


def _without_file(source: Image.Image | NDArray[Any], options: ImageOptions) -> LoadedImage:
    pixels = read_image(source, options=options)
    height, width = pixels.shape[:2]
    metadata = ImageMetadata(width, height)
    if isinstance(source, Image.Image):
        with suppress(Exception):  # damaged EXIF fails in as many ways as there are types
            metadata = metadata_of((width, height), 1, source.getexif())
    digest = hashlib.sha256(f"{width}x{height} RGB\n".encode() + pixels.tobytes())
    return LoadedImage(pixels, metadata, digest.hexdigest(), pixels.nbytes)


def _from_pillow(image: Image.Image, options: ImageOptions) -> ImageArray:
    name = "The given Pillow image"
    check_size(image.size, name, options)
    with failures_as_image_error(name, image.format or image.mode):
        image.load()  # before the orientation is asked for, which a TIFF loses on loading
        return upright_rgb(image, pillow_orientation(image))


def _from_array(array: NDArray[Any], options: ImageOptions) -> ImageArray:
    array = np.asarray(array)  # a matrix, whose parts are never less than two-dimensional, is one as well
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # as files have them
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
