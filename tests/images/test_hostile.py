"""Whatever bytes arrive: pixels or an ImageError, nothing else, and nothing on the terminal."""

import functools
import struct
import tracemalloc
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from delf.errors import ImageError
from delf.images import ImageOptions, load, read_metadata

KINDS = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff": ("TIFF", {}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "avif": ("AVIF", {}),
}
# A mutated header may claim any size; what would be a long decoding is refused here, as it is in a service.
SMALL = ImageOptions(max_pixels=4_000_000)


@pytest.fixture
def original(encoded, heic_turned, scene):
    @functools.cache
    def of(kind):
        if kind == "heic":
            pytest.importorskip("pi_heif")
            return heic_turned
        exif = Image.Exif()
        exif[0x0112] = 6
        exif.get_ifd(0x8769)[0x9003] = "2019:07:14 21:05:09"
        name, options = KINDS[kind]
        return encoded(
            Image.fromarray(scene), name, **options, **({} if name in ("GIF", "BMP") else {"exif": exif})
        )

    return of


def survives(data):
    """Whether it was an image, having checked that it was that or an `ImageError`."""
    try:
        loaded = load(data, shrink_to=40, options=SMALL)
    except ImageError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        loaded = None
    try:
        read_metadata(data, options=SMALL)
    except ImageError:
        assert loaded is None
    if loaded is not None:
        assert loaded.pixels.dtype == np.uint8 and loaded.pixels.ndim == 3 and loaded.pixels.shape[2] == 3
    return loaded is not None


def assert_silent(capfd, kind):
    out, err = capfd.readouterr()
    assert out == ""
    # libtiff, the AV1 decoder of older Pillows and the HEVC decoder of older pi-heifs write to the process's stderr by
    # themselves.
    assert err == "" or kind in ("lzw", "tiff-jpeg", "avif") or (kind == "heic" and version("pi_heif").startswith("0."))


@pytest.mark.parametrize("kind", [*KINDS, "heic"])
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    end=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(original, capfd, kind, edits, end):
    data = bytearray(original(kind))
    for place, new in edits:
        start = int(
            place**2 * (len(data) - 1)
        )  # squared: more edits near the beginning, where the headers are
        data[start : start + len(new)] = new
    survives(bytes(data[: int(end * len(data))]))
    assert_silent(capfd, kind)


@pytest.mark.parametrize("kind", [*KINDS, "heic"])
def test_files_cut_short(original, capfd, kind):
    data = original(kind)
    assert survives(data)
    assert not survives(data[: len(data) // 2])
    for length in range(0, min(len(data), 400), 7):
        survives(data[:length])
    assert_silent(capfd, kind)


@given(
    st.sampled_from(
        [
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\x20\0\0\0WEBPVP8 ",
            b"II*\0\x08\0\0\0",
            b"MM\0+",
            b"GIF89a",
            b"BM",
            b"\0\0\0\x18ftypheic",
            b"\0\0\0\x18ftypavif",
        ]
    ),
    st.binary(max_size=200),
)
@settings(max_examples=300, deadline=5000)
def test_random_bytes_behind_a_signature(signature, noise):
    survives(signature + noise)


def test_a_tiff_whose_tags_all_point_to_the_whole_file():
    """Directories are small; what they could make of it is not."""
    pages, size = 60, 4_000_000
    data = bytearray(b"II*\0\x08\0\0\0")
    for _ in range(pages):
        entries = b"".join(struct.pack("<HHII", tag, kind, size, 8) for tag, kind in
                           [(254, 1), *((tag, kind) for tag in range(256, 350) for kind in (1, 7))])
        data += struct.pack("<H", len(entries) // 12) + entries + struct.pack("<I", len(data) + 6 + len(entries))
    data += b"\1" * size
    tracemalloc.start()
    try:
        assert not survives(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
