"""PNG, JPEG, GIF, WebP, AVIF and HEIC, with all that may be written beside the picture.

Pixels are those that were written, or those of OpenCV where a format loses some; or the file is refused with a
sentence.
"""

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from delf.errors import ImageError
from delf.images import load, read_image, read_metadata

HEIGHT, WIDTH = 19, 37
NOISE = np.random.default_rng(0).bytes
XMP = '<x tiff:Orientation="6"/>'


def exif_of(orientation, kind=3):
    """EXIF with nothing but an orientation."""
    return b"II*\0\x08\0\0\0\1\0\x12\1" + struct.pack("<HIHHI", kind, 1, orientation, 0, 0)


def three(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def over_white(colours, alpha):
    share = alpha[:, :, None] / 255
    return np.rint(colours * share + 255 * (1 - share))


def assert_as_opencv(data, pixels=None, tolerance=2):
    """That OpenCV decodes a file to the same pixels. (Version 4 reads neither GIF nor animations.)"""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        assert int(cv2.__version__.split(".")[0]) < 5
        return
    pixels = read_image(data) if pixels is None else pixels
    assert decoded.shape == pixels.shape
    assert np.abs(decoded[:, :, ::-1] - pixels.astype(float)).max() <= tolerance


def refused(data):
    try:
        read_image(data)
    except ImageError as error:
        return str(error).startswith("The given image") and str(error).endswith(".")
    return False


# PNG

GREY, COLOUR, INDEXED, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def chunk(name, body=b"", *, damaged=False):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ damaged)


def rows_of(samples, bits):
    values = samples.reshape(len(samples), -1)
    if bits < 8:
        values = np.packbits(((values[:, :, None] >> np.arange(bits)[::-1]) & 1).reshape(len(values), -1), axis=1)
    return b"".join(b"\0" + row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in values)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(samples, bits=8, colour=COLOUR, *, interlaced=False, before=b"", after=b"", end=None, cut=0,
        split=lambda data: chunk(b"IDAT", data)):
    """A PNG file of samples (height, width, channels), with chunks before and after them."""
    height, width = samples.shape[:2]
    parts = [samples[y::down, x::across] for x, y, across, down in PASSES] if interlaced else [samples]
    data = zlib.compress(b"".join(rows_of(part, bits) for part in parts if part.size))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before
            + split(data[:len(data) - cut]) + after + (chunk(b"IEND") if end is None else end))


def samples_of(bits, channels):
    return np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_grey_and_palette(bits, interlaced):
    samples = samples_of(bits, 1)
    index = samples[:, :, 0]
    grey = three(index * 255 // ((1 << bits) - 1) if bits <= 8 else index >> 8)
    assert np.array_equal(read_image(png(samples, bits, GREY, interlaced=interlaced)), grey)
    clear = struct.pack(">H", index[0, 0])
    keyed = png(samples, bits, GREY, interlaced=interlaced, before=chunk(b"tRNS", clear))
    assert np.array_equal(read_image(keyed), np.where((samples == index[0, 0]), 255, grey))
    if bits == 16:
        return
    palette = np.random.default_rng(0).integers(0, 256, (1 << bits, 3))
    alpha = np.full(1 << bits, 255)
    alpha[:1 << (bits - 1)] = np.random.default_rng(1).integers(0, 256, 1 << (bits - 1))
    stored = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    assert np.array_equal(read_image(png(samples, bits, INDEXED, interlaced=interlaced, before=stored)), palette[index])
    stored += chunk(b"tRNS", alpha[:1 << (bits - 1)].astype(np.uint8).tobytes())
    clear = read_image(png(samples, bits, INDEXED, interlaced=interlaced, before=stored))
    assert np.abs(clear - over_white(palette[index], alpha[index])).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_of_colours(bits, interlaced):
    samples = samples_of(bits, 4)
    high = samples >> (bits - 8)
    colours = samples[:, :, :3]
    assert np.array_equal(read_image(png(colours, bits, COLOUR, interlaced=interlaced)), high[:, :, :3])
    for given, colour, shown in ((samples, COLOUR_ALPHA, high[:, :, :3]),
                                 (samples[:, :, 2:], GREY_ALPHA, three(high[:, :, 2]))):
        pixels = read_image(png(given, bits, colour, interlaced=interlaced))
        assert np.abs(pixels - over_white(shown, high[:, :, 3])).max() <= 1
    clear = colours[3, 5]
    keyed = png(colours, bits, COLOUR, interlaced=interlaced, before=chunk(b"tRNS", struct.pack(">3H", *clear)))
    if bits == 16:
        assert refused(keyed)
    else:
        expected = np.where((colours == clear).all(axis=2)[:, :, None], 255, colours)
        assert np.array_equal(read_image(keyed), expected)


def beside_a_png():
    """Metadata of all kinds: large, damaged, empty, of odd form."""
    named = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD", b"hIST", b"tIME",
             b"sPLT", b"acTL", b"fcTL", b"eXIf", b"cICP", b"mDCV", b"caNv", b"prIv"]
    for name, body in itertools.product(named, (b"", b"\0", b"a\0\0", b"a\0\0" + zlib.compress(bytes(9_000_000)),
                                                b"Raw profile type exif\0" + bytes(40), NOISE(70_000))):
        yield chunk(name, body)
        yield chunk(name, body, damaged=True)
    yield chunk(b"tEXt", b"a\0" + bytes(1_500_000)) * 50
    yield chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode())
    hexed = (b"Exif\0\0" + exif_of(6)).hex().encode()
    yield chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      34\n" + hexed)
    yield chunk(b"eXIf", exif_of(6), damaged=True)
    yield chunk(b"tRNS", bytes(6), damaged=True)


def test_png_with_anything_beside_the_picture():
    samples = samples_of(8, 3)
    for extra in beside_a_png():
        for data in (png(samples, before=extra), png(samples, after=extra), png(samples, before=extra, end=extra)):
            assert np.array_equal(read_image(data), samples), extra[:40]
            assert read_metadata(data).width == WIDTH


def test_png_with_texts_and_profiles_of_pillow(encoded):
    samples = samples_of(8, 3).astype(np.uint8)
    texts = PngImagePlugin.PngInfo()
    for number in range(40):
        texts.add_text(f"key {number}", "x" * 2_000_000, zip=number == 0)
    texts.add_itxt("XML:com.adobe.xmp", XMP * 100_000, zip=True)
    data = encoded(Image.fromarray(samples), "PNG", pnginfo=texts, icc_profile=NOISE(2_000_000))
    assert np.array_equal(read_image(data), samples)


def test_png_that_ends_early_or_late():
    samples = samples_of(8, 3)
    halves = {"split": lambda data: b"".join(chunk(b"IDAT", data[at:at + 99]) for at in range(0, len(data), 99))}
    broken = {"split": lambda data: chunk(b"IDAT", data[:50]) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", data[50:])}
    for options in ({"end": b""}, {"end": b"\xff" * 99}, {"end": chunk(b"IEND") + bytes(99)}, halves, broken,
                    {"end": chunk(b"tEXt", bytes(99))[:40]}, {"cut": 4}, {"after": chunk(b"tRNS", bytes(6))}):
        assert np.array_equal(read_image(png(samples, **options)), samples), options
    for cut in (5, 9, 50):
        assert refused(png(samples, cut=cut))
    assert refused(png(samples, before=chunk(b"CgBI", bytes(4))))  # of Apple, and not a PNG that others can decode
    header = png(samples)
    assert refused(header[:29] + bytes(4) + header[33:])  # its checksum is wrong


# JPEG


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1", None])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3},
                                     {"restart_marker_rows": 1, "progressive": True}, {"keep_rgb": True}])
def test_jpeg_as_opencv_decodes_it(scene, encoded, subsampling, options):
    pictures = [Image.fromarray(scene)] if options.get("keep_rgb") else [
        Image.fromarray(scene), Image.fromarray(scene).convert("L"), Image.fromarray(scene).convert("CMYK")]
    for picture in pictures:
        chosen = subsampling and picture.mode == "RGB" and "keep_rgb" not in options
        more = {"subsampling": subsampling} if chosen else {}
        data = encoded(picture, "JPEG", quality=80, **options, **more)
        assert_as_opencv(data)
        if picture.mode == "CMYK":
            start = data.index(b"Adobe")
            for changed in (data[:start + 11] + b"\2" + data[start + 12:], data[:start - 4] + data[start + 12:]):
                assert_as_opencv(changed)


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def test_jpeg_with_anything_beside_the_picture(scene, encoded):
    plain = encoded(Image.fromarray(scene), "JPEG", quality=90)
    expected = read_image(plain)
    assert_as_opencv(plain)
    bodies = (b"", b"\0", b"JFIF\0", b"JFXX\0\x10", b"Exif\0\0", b"Exif\0\0zzzz", b"Exif\0\0" + b"II*\0" + b"\xff" * 9,
              b"ICC_PROFILE\0\1", b"Photoshop 3.0\x008BIM\4", b"Adobe", b"MPF\0II*\0", b"FPXR\0", NOISE(60_000),
              b"http://ns.adobe.com/xap/1.0/\0" + XMP.encode(), b"Exif\0\0" + exif_of(9))
    for marker, body in itertools.product([*range(0xE0, 0xF0), 0xFE], bodies):
        data = plain[:2] + segment(marker, body) * 3 + plain[2:]
        assert np.array_equal(read_image(data), expected), (marker, body[:20])
    for extra in (segment(0xE2, bytes(65_000)) * 200, b"\xff\xff\xff"):
        assert np.array_equal(read_image(plain[:2] + extra + plain[2:]), expected)
    for tail in (b"x" * 999, plain, bytes(9)):
        assert np.array_equal(read_image(plain + tail), expected)
    for cut in (1, 2, 3, 9, 99):  # OpenCV refuses them, too
        assert refused(plain[:-cut])


# Orientation: of EXIF alone, for XMP is often left over from another version of the picture


def with_exif(kind, data, exif, xmp):
    """A file with EXIF, or with none, and with XMP that says something else."""
    if kind == "PNG":
        chunks = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode()) if xmp else b""
        return data[:33] + chunks + (chunk(b"eXIf", exif) if exif else b"") + data[33:]
    segments = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP.encode()) if xmp else b""
    return data[:2] + (segment(0xE1, b"Exif\0\0" + exif) if exif else b"") + segments + data[2:]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_orientation_is_that_of_exif(scene, encoded, kind):
    plain = encoded(Image.fromarray(scene), kind)
    thumbnail = b"II*\0\x08\0\0\0\0\0\x0e\0\0\0" + exif_of(6)[8:]  # only its directory has an orientation
    for exif in (b"", exif_of(1), exif_of(3), exif_of(6), exif_of(6, kind=1), exif_of(0), exif_of(9), thumbnail):
        for xmp in (False, True):
            data = with_exif(kind, plain, exif, xmp)
            turns = {exif_of(3): 2, exif_of(6): -1}.get(exif, 0)
            expected = np.rot90(read_image(plain), turns)
            assert np.array_equal(read_image(data), expected)
            assert load(data).size == expected.shape[1::-1]
            assert np.array_equal(read_image(Image.open(io.BytesIO(data))), expected)
            if exif not in (exif_of(6, kind=1), exif_of(9)):  # of which OpenCV does not see that they are wrong
                assert_as_opencv(data, expected)
    two = with_exif(kind, with_exif(kind, plain, exif_of(6), False), exif_of(3), False)
    assert np.array_equal(read_image(two), np.rot90(read_image(plain), 2))  # the first counts


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "TIFF"])
def test_xmp_turns_nothing(scene, encoded, kind):
    if kind == "TIFF":
        info = {"tiffinfo": {700: XMP.encode()}}
    else:
        info = {"xmp": XMP.encode()} if kind != "GIF" else {}
    data = encoded(Image.fromarray(scene), kind, **info)
    if kind == "GIF":
        place = data.index(b",\0\0\0\0")
        data = (data[:place] + b"!\xff\x0bXMP DataXMP" + XMP.encode() + b"\1" + bytes(range(255, -1, -1)) + b"\0\0"
                + data[place:])
    assert XMP.encode() in data
    assert read_image(data).shape == scene.shape
    if kind != "TIFF":  # which Pillow turns by itself
        assert read_image(Image.open(io.BytesIO(data))).shape == scene.shape


def test_exif_turns_no_picture_whose_container_does(scene, encoded, heic):
    """Of AVIF and HEIF the container counts; EXIF that disagrees is left over."""
    exif = Image.Exif()
    exif[0x0115] = 6
    data = encoded(Image.fromarray(scene), "AVIF", exif=exif)
    place = data.index(struct.pack("<HHI", 0x0115, 3, 1)) if b"II*\0" in data else data.index(
        struct.pack(">HHI", 0x0115, 3, 1))
    entry = b"\x12\x01" if data[place:place + 1] == b"\x15" else b"\x01\x12"
    assert read_image(data[:place] + entry + data[place + 2:]).shape == scene.shape
    pytest.importorskip("pi_heif")
    assert read_image(heic).shape == scene.shape


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "HEIF"])
def test_damaged_exif_does_no_harm(scene, encoded, heic_turned, kind):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:14 21:05:09"
    if kind == "HEIF":
        pytest.importorskip("pi_heif")
        data, start = heic_turned, heic_turned.index(b"MM\0*")
    else:
        data = encoded(Image.fromarray(scene), kind, exif=exif)
        start = data.index(exif.tobytes()[6:16])
    expected = read_image(data)
    for at, byte in itertools.product(range(start, start + 30), (0, 1, 0xFF)):
        damaged = data[:at] + bytes([byte]) + data[at + 1:]
        assert np.array_equal(read_image(damaged), expected), (at - start, byte)
        assert read_metadata(damaged).width == expected.shape[1]


def test_avif_that_shows_a_part_of_itself_is_refused(scene, encoded):
    data = encoded(Image.fromarray(scene), "AVIF")
    with pytest.raises(ImageError, match="clap"):
        read_image(data[:32] + b"\0\0\0\x28clap" + bytes(32) + data[32:])


# GIF and WebP


def test_gif(scene, encoded):
    picture = Image.fromarray(scene).quantize(64)
    colours = np.asarray(picture.convert("RGB"))
    for options in ({"interlace": 0}, {"interlace": 1}, {"save_all": True, "append_images": [picture.rotate(180)]}):
        data = encoded(picture, "GIF", **options)
        assert np.array_equal(read_image(data), colours)
        assert_as_opencv(data)
    clear = read_image(encoded(picture, "GIF", transparency=5))
    assert np.array_equal(clear, np.where(np.asarray(picture)[:, :, None] == 5, 255, colours))
    data = encoded(picture, "GIF")
    place = data.index(b",\0\0\0\0")
    for whole in (data[:-1], data[:place] + b"!\xfe\x05hello\0" + data[place:], data + b"junk"):
        assert np.array_equal(read_image(whole), colours)
    assert refused(data[:-40])
    larger = data[:6] + struct.pack("<HH", 120, 80) + data[10:]  # what is around the frame differs by program
    assert refused(larger)
    assert refused(larger[:place + 1] + struct.pack("<HH", 7, 3) + larger[place + 5:])


def test_webp(scene, encoded):
    picture = Image.fromarray(scene)
    frames = {"save_all": True, "append_images": [picture.rotate(180)]}
    for options in ({}, {"lossless": True}, {"lossless": True, **frames},
                    {"lossless": True, "exif": b"Exif\0\0zzzz"}, {"icc_profile": NOISE(99_000)}):
        data = encoded(picture, "WEBP", **options)
        assert_as_opencv(data)
    alpha = np.ascontiguousarray(scene[:, :, 0])
    picture.putalpha(Image.fromarray(alpha))
    data = encoded(picture, "WEBP", lossless=True, exact=True)
    assert np.abs(read_image(data) - over_white(scene, alpha)).max() <= 1
    assert np.array_equal(read_image(data + b"junk"), read_image(data))
    for cut in (1, 9, 99):
        assert refused(data[:-cut])
