"""RAW files of cameras: the preview that the camera has put into them, or else the mosaic at half its size.

LibRaw reads them (by rawpy, the extra `raw`). Previews are JPEG files, mostly as large as the photo, and look as the
camera meant it; they are decoded as any other JPEG is. Only where there is none, or a small one, is the mosaic
developed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from delf.errors import ImageError
from delf.images.paths import printable
from delf.images.tiff_directory import HEADS, is_cut_short
from delf.types import ImageArray

SMALL = 640  # pixels: a preview with a shorter longest side is for the display of the camera
_PIXELS_A_BYTE = 50  # of a mosaic, at most: what is compressed most has about eight
_SIGNATURES = re.compile(
    rb"....ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|\0MRM|FOVb|II\x1a\0\0\0HEAPCCDR", re.DOTALL)
_ORIENTATIONS = (1, 2, 4, 3, 5, 8, 6, 7)  # in EXIF, by LibRaw's flip, whose bit 4 says that the sides change places


@dataclass(frozen=True, eq=False)
class RawPicture:
    """The picture in a RAW file: its preview, or the developed photo.

    jpeg: the preview, or nothing where the mosaic is to be developed. size: (width, height) of that, upright.
    orientation: of the preview, as in EXIF, where it does not say so itself.
    """

    jpeg: bytes
    size: tuple[int, int]
    orientation: int


def is_raw(data: bytes) -> bool:
    """Whether bytes begin as RAW files do that are no TIFF files; of these, `delf.images.tiff` knows."""
    return bool(_SIGNATURES.match(data))


def open_raw(data: bytes, name: str) -> RawPicture:
    """The preview in a RAW file, or the size of what can be developed. Raises `ImageError` without the extra."""
    with _opened(data, name) as raw:
        sizes = raw.sizes
        jpeg = _preview(raw)
        width, height = (sizes.width + 1) // 2, (sizes.height + 1) // 2
        size = (height, width) if sizes.flip & 4 else (width, height)
        return RawPicture(jpeg, size, _ORIENTATIONS[sizes.flip & 7])


def develop(data: bytes, name: str) -> ImageArray:
    """(H, W, 3) uint8 RGB, upright: the mosaic at half its size, with the white balance of the camera.

    Raises:
        ImageError: it cannot be read; or parts of it are missing, which LibRaw develops as black.
    """
    with _opened(data, name) as raw:
        if len(data) * _PIXELS_A_BYTE < raw.sizes.raw_width * raw.sizes.raw_height or (
                data[:4] in HEADS and is_cut_short(data)):
            raise EOFError("it ends too early")
        pixels: ImageArray = raw.postprocess(half_size=True, use_camera_wb=True)
        return pixels


def missing(name: str) -> ImageError:
    """The error for a RAW file that is not read because the package is missing."""
    return ImageError(f"{name} is a RAW file of a camera, which the extra raw reads: pip install "
                      "'delf-retrieval[raw]', or develop it to JPEG or TIFF.")


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError as error:
        raise missing(name) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            yield raw
    except Exception as error:  # hostile bytes make decoders fail in every way that Python knows
        first = next(iter(error.args), "")
        detail = printable(first.decode("ascii", "replace") if isinstance(first, bytes) else str(first))
        raise ImageError(f"{name} is a RAW file of a camera that cannot be read ({detail or type(error).__name__}): it "
                         "is damaged, or of a camera that LibRaw does not know. Copy it again from where it came from, "
                         "or develop it to JPEG or TIFF.") from error


def _preview(raw: Any) -> bytes:
    """The preview as a JPEG file; nothing where there is none that is worth looking at."""
    import rawpy
    from PIL import JpegImagePlugin

    try:
        found = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return b""
    if found.format != rawpy.ThumbFormat.JPEG:
        return b""
    with JpegImagePlugin.JpegImageFile(io.BytesIO(found.data), "") as image:
        small = max(image.size) < min(SMALL, max(raw.sizes.width, raw.sizes.height) // 2)
    return b"" if small else bytes(found.data)
