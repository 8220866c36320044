"""Images in: safe decoding, EXIF, crops, the one resize, and the walk over folders.

    find_images([folder]) -> load(path) -> pixels, metadata, sha-256
                             read_image(anything) -> pixels
                             image_bytes(anything) -> the bytes of a file
                             crop(pixels, box) -> pixels, offset

Whatever bytes arrive, the only error that comes out is an `ImageError` with a sentence that names the file.
Every function may be called from many threads at once, and no global setting of Pillow is changed.
"""

from delf.images.decoding import ImageOptions
from delf.images.geometry import as_stored, crop, limit_size, parse_box, resize
from delf.images.metadata import ImageMetadata
from delf.images.passing import PassedOver, has_extra, is_video
from delf.images.paths import (
    IMAGE_EXTENSIONS,
    display_path,
    find_images,
    is_walked,
    named_paths,
    photo_extensions,
    printable,
)
from delf.images.reading import (
    ImageSource,
    LoadedImage,
    image_bytes,
    in_memory,
    is_rgb,
    load,
    load_ahead,
    load_scenes,
    preview,
    read_image,
    read_metadata,
    read_reduced,
    source_name,
)
from delf.images.video import VideoOptions, clock

__all__ = [
    "IMAGE_EXTENSIONS",
    "ImageMetadata",
    "ImageOptions",
    "ImageSource",
    "LoadedImage",
    "PassedOver",
    "VideoOptions",
    "as_stored",
    "clock",
    "crop",
    "display_path",
    "find_images",
    "has_extra",
    "image_bytes",
    "in_memory",
    "is_rgb",
    "is_video",
    "is_walked",
    "limit_size",
    "load",
    "load_ahead",
    "load_scenes",
    "named_paths",
    "parse_box",
    "photo_extensions",
    "preview",
    "printable",
    "read_image",
    "read_metadata",
    "read_reduced",
    "resize",
    "source_name",
]
