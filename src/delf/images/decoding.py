"""Bytes to upright 8-bit RGB, with Pillow kept on a short leash.

`Image.open` is not used: it tries every format that Pillow knows, among them some that start other programs,
and its limit on the number of pixels is a global variable. Here the first bytes choose one of a few decoders,
and the size in the header is compared with our own limit before anything is decoded.

Of a PNG or JPEG the decoder gets the picture alone, so that nothing written beside it can spoil it, and TIFF and BMP,
of which Pillow takes some kinds for others, are read by directories and headers of our own. Of animations the first
frame is read, of documents the first page that is no thumbnail, of RAW files of cameras the preview
(`delf.images.raw`). The orientation is that of EXIF (of a TIFF, of the page; of HEIF and AVIF, of the container);
`delf.images.pixels` says what becomes of the pixels.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import ExifTags, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from delf.errors import DelfError, ImageError, OptionError
from delf.images.bmp import Bmp
from delf.images.containers import jpeg_parts, png_parts
from delf.images.geometry import limit_size
from delf.images.metadata import ImageMetadata, metadata_of, orientation_of, parsed_exif, previewed
from delf.images.passing import VIDEO_EXTENSIONS
from delf.images.paths import printable
from delf.images.pixels import upright_rgb
from delf.images.raw import develop, is_raw, open_raw
from delf.images.tiff import TiffPage, is_camera_raw, tiff_exif
from delf.settings import Options
from delf.types import ImageArray

_Opener = Callable[[io.BytesIO, str], ImageFile.ImageFile]

_OPENERS: dict[str, _Opener] = {
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_SIGNATURES = {
    "BMP": rb"BM",
    "GIF": rb"GIF8[79]a",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WebP": rb"RIFF....WEBP",
    # Both are ISO media files; AVIF may also stand among the compatible brands of another major brand.
    "AVIF": rb"....ftyp(?:....){0,16}?avi[fs]",
    "HEIF": rb"....ftyp(?:he[iv][cmsx]|mif1|msf1)",
}
_CROP = b"\0\0\0\x28clap"  # the head of a box, which libheif minds and Pillow does not
_EXIF_ITEM = re.compile(rb"(infe[\2\3].{7,9})Exif", re.DOTALL)  # an entry in the list of what is in an ISO media file
_MAX_SCANS = 100  # the limit of libtiff, too; progressive files have about ten
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class ImageOptions(Options):
    """Which images are accepted.

    max_pixels: most pixels (width x height), checked in the header before decoding, since a small file can claim any
        size.
    max_scaled_pixels: most pixels of a JPEG that is decoded at a fraction of its size and then has at most max_pixels:
        memory depends on the fraction, and only time on the whole. Progressive files are excluded, because their
        decoder holds the whole picture.
    max_bytes: most bytes of the file.
    min_side: least number of pixels of the shorter side.
    raw: whether RAW files of cameras are accepted.
    """

    max_pixels: int = 200_000_000
    max_scaled_pixels: int = 500_000_000
    max_bytes: int = 1 << 29
    min_side: int = 1
    raw: bool = True

    def __post_init__(self) -> None:
        if min(self.max_pixels, self.max_scaled_pixels, self.max_bytes, self.min_side) < 0:
            raise OptionError("max_pixels, max_scaled_pixels, max_bytes and min_side must be 0 or more")


@dataclass(frozen=True)
class _Stored:
    """A picture whose header has been read.

    size: (width, height) as stored. read: decodes the picture as it is stored. image: what decodes it, where that is
    Pillow.
    """

    size: tuple[int, int]
    orientation: int
    exif: Image.Exif
    read: Callable[[], Image.Image]
    image: ImageFile.ImageFile | None = None


def decode(data: bytes, name: str, options: ImageOptions,
           shrink_to: int | None) -> tuple[ImageArray, ImageMetadata]:
    """Pixels (H, W, 3) and metadata of an encoded image; `name` stands in the error. Raises `ImageError`.

    With `shrink_to`, a JPEG may come out smaller than its metadata say, and a preview always does: see
    `delf.images.load`.
    """
    with _opened(data, name, options, shrink_to) as (stored, metadata, shrunk):
        pixels = upright_rgb(stored.read(), stored.orientation)
    height, width = pixels.shape[:2]
    if not shrunk:  # some decoders learn the size only while decoding
        metadata = replace(metadata, width=width, height=height)
    return pixels, metadata


def decode_metadata(data: bytes, name: str, options: ImageOptions) -> ImageMetadata:
    """The metadata alone, from the header wherever the format has them there. Raises `ImageError`."""
    with _opened(data, name, options, shrink_to=1) as (_, metadata, _):
        return metadata


@contextmanager
def _opened(data: bytes, name: str, options: ImageOptions,
            shrink_to: int | None) -> Iterator[tuple[_Stored, ImageMetadata, bool]]:
    """A picture whose header has been read and found acceptable, and whether it will be decoded at a fraction of the
    size in its metadata; every failure inside becomes an `ImageError`.
    """
    kind = _format_of(data, name)
    if kind == "JPEG" and _scans(data) > _MAX_SCANS:
        raise ImageError(f"{name} is a JPEG file of more than {_MAX_SCANS} scans, which is made to keep a decoder "
                         "busy: leave it out.")
    if kind == "HEIF" and not _item_names_are_text(data):
        raise ImageError(f"{name} is a damaged HEIF file: copy it again from where it came from.")
    if kind == "AVIF" and _CROP in data[:data.find(b"mdat")]:
        raise ImageError(f"{name} is an AVIF file that shows a part of its picture only (clap), which is not read: "
                         "save it as JPEG or PNG.")
    with failures_as_image_error(name, kind):
        stored = _stored_raw(data, name, options) if kind == "RAW" else _stored(kind, data, name)
        size, image = stored.size, stored.image
        bounded = replace(options, max_pixels=max(options.max_pixels, options.max_scaled_pixels))
        may_shrink = (shrink_to is not None and image and image.format == "JPEG"
                      and not image.info.get("progressive"))
        check_size(size, name, bounded if may_shrink else options)
        metadata = metadata_of(size, stored.orientation, stored.exif)
        original = previewed(stored.exif) if kind == "JPEG" else None
        if original is not None:
            check_size(original, name, options)
            metadata = replace(metadata, width=original[0], height=original[1])
        if shrink_to is not None and image:
            image.draft(None, limit_size(*size, shrink_to))  # does nothing to other formats
            check_size(image.size, name, replace(options, min_side=1))
        yield stored, metadata, original is not None or (image is not None and image.size != size)
        if image:
            image.close()


def _stored(kind: str, data: bytes, name: str) -> _Stored:
    """Reads the header of a picture."""
    if kind == "TIFF":
        page = TiffPage(data, name)
        return _Stored(page.size, page.orientation, page.exif, page.read)
    if kind == "BMP":
        bmp = Bmp(data, name)
        return _Stored(bmp.size, 1, Image.Exif(), bmp.read)
    exif = None
    if kind == "PNG":
        data, exif = png_parts(data, name)
    elif kind == "JPEG":
        data, exif = jpeg_parts(data)
    image = _opened_by_pillow(kind, data, name)
    parsed = parsed_exif(image.info.get("exif", b"") if exif is None else exif)
    # libheif has turned the picture already. (Of AVIF, Pillow puts what the container says into EXIF.)
    orientation = 1 if kind == "HEIF" else orientation_of(parsed)
    if kind == "GIF" and image.tile[0][1] != (0, 0, *image.size):
        raise ImageError(f"{name} is a GIF file whose first frame does not cover it, and programs differ in what they "
                         "show around it: save it as PNG or JPEG.")
    if kind == "PNG" and image.mode == "L" and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= 255 // ((1 << min(data[24], 8)) - 1)  # as Pillow scales the samples themselves
    return _Stored(image.size, orientation, parsed, lambda: image, image)


def _stored_raw(data: bytes, name: str, options: ImageOptions) -> _Stored:
    """Reads the header of a RAW file, and that of the preview in it."""
    if not options.raw:
        raise ImageError(f"{name} is a RAW file of a camera, which is not read here: develop it to JPEG or TIFF.")
    found = open_raw(data, name)
    exif = tiff_exif(data)
    if not found.jpeg:
        return _Stored(found.size, 1, exif or Image.Exif(), lambda: Image.fromarray(develop(data, name)))
    shown = _stored("JPEG", found.jpeg, name)
    orientation = shown.orientation if ExifTags.Base.Orientation in shown.exif else found.orientation
    if orientation >= 5 and (shown.size[0] < shown.size[1]) == (found.size[0] < found.size[1]):
        orientation = 1  # some cameras turn the preview, and not the mosaic
    return replace(shown, exif=exif or shown.exif, orientation=orientation)


def _opened_by_pillow(kind: str, data: bytes, name: str) -> ImageFile.ImageFile:
    opener = _opener(kind, name)
    try:
        return opener(io.BytesIO(data), "")
    except Exception:
        plain = _EXIF_ITEM.sub(rb"\1none", data) if kind == "AVIF" else data
        if plain == data:
            raise
        return opener(io.BytesIO(plain), "")  # libavif refuses the whole picture where its EXIF is damaged


def _format_of(data: bytes, name: str) -> str:
    if is_raw(data) or is_camera_raw(data):
        return "RAW"
    for kind, signature in _SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return kind
    if not data:
        raise ImageError(f"{name} is empty: copy it again from where it came from.")
    if Path(name).suffix.lower() in VIDEO_EXTENSIONS:
        raise ImageError(f"{name} is no picture: of a video, name a frame by its second, such as {name}#t=12.5")
    raise ImageError(f"{name} is not an image that can be read: convert it to JPEG or PNG "
                     f"(it can be {', '.join(sorted(_SIGNATURES))}).")


def _scans(jpeg: bytes) -> int:
    """The number of scans of the first picture in a JPEG file.

    Each scan goes over the whole picture, but may take as little as a hundred bytes, so that a file of a
    megabyte can keep a decoder busy for an hour: an attack known since 2016.
    """
    scans, position = 0, 2
    while marker := _MARKER.search(jpeg, position):  # what is not a marker here is compressed data
        end = marker.end()
        if jpeg[end - 1] == 0xD9:  # end of image
            break
        scans += jpeg[end - 1] == 0xDA  # start of scan
        position = end + int.from_bytes(jpeg[end:end + 2], "big")
    return scans


def _item_names_are_text(heif: bytes) -> bool:
    """Whether the items of a HEIF file have types and names in UTF-8; pi-heif 1.4 ends the process otherwise."""
    for entry in re.finditer(rb"(....)infe([\2\3])...", heif, re.DOTALL):  # box size, name, version, flags
        start = entry.end() + (4 if entry[2] == b"\2" else 6)  # after the item's number and protection
        try:
            heif[start:entry.start() + int.from_bytes(entry[1], "big")].decode()
        except UnicodeDecodeError:
            return False
    return True


def _opener(kind: str, name: str) -> _Opener:
    """The decoder of a format; those of AVIF and HEIF are loaded when the first such file comes."""
    try:
        if kind == "HEIF":
            import pi_heif

            pi_heif.register_heif_opener()
            return cast(_Opener, Image.OPEN["HEIF"][0])
        if kind == "AVIF":
            from PIL import AvifImagePlugin

            return AvifImagePlugin.AvifImageFile
    except ImportError as error:
        cure = "pip install pi-heif" if kind == "HEIF" else "pip install 'pillow>=11.3'"
        raise ImageError(f"{name} is in the format {kind}, for which a package is missing: {cure}, or "
                         "convert it to JPEG.") from error
    return _OPENERS[kind]


def check_size(size: tuple[int, int], name: str, options: ImageOptions) -> None:
    """Raises `ImageError` for a (width, height) that the options refuse."""
    width, height = size
    if width * height > options.max_pixels:
        raise ImageError(f"{name} has {width} x {height} pixels, over the limit of {options.max_pixels}: "
                         "make it smaller, or raise max_pixels.")
    if min(width, height) < max(options.min_side, 1):
        raise ImageError(f"{name} has {width} x {height} pixels, too few to look at: the shorter side "
                         f"must have at least {max(options.min_side, 1)}. Leave it out.")


@contextmanager
def failures_as_image_error(name: str, kind: str) -> Iterator[None]:
    """Around all work of a decoder: its warnings are dropped, its exceptions become an `ImageError`."""
    with _without_warnings():
        try:
            yield
        except DelfError:
            raise
        except Exception as error:  # hostile bytes make decoders fail in every way that Python knows
            detail = printable(str(error)) or type(error).__name__
            raise ImageError(f"{name} cannot be decoded as {kind} ({detail}): it is damaged or of a rare "
                             "kind. Copy it again from where it came from, or save it as JPEG or PNG in an "
                             "image editor.") from error


class _DecodingThreads(threading.local):
    """The module pattern of a warning filter that holds only in threads that are decoding.

    `warnings.catch_warnings` changes the filters of all threads and restores them in the wrong order when
    threads overlap; this filter is put in once and stays.
    """

    active = False

    def match(self, _module: str) -> bool:
        return self.active


_decoding_threads = _DecodingThreads()
_FILTER = ("ignore", None, Warning, _decoding_threads, 0)


@contextmanager
def _without_warnings() -> Iterator[None]:
    filters = cast(list[Any], warnings.filters)
    if filters[:1] != [_FILTER]:  # the first time, or since someone else changed the filters
        filters[:] = [_FILTER, *(each for each in filters if each is not _FILTER)]
    _decoding_threads.active = True
    try:
        yield
    finally:
        _decoding_threads.active = False
