"""Every kind of picture becomes upright 8-bit RGB."""

import io
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from delf.errors import ImageError, OptionError
from delf.images import ImageOptions, limit_size, load, read_image, read_metadata


def close(image, expected, tolerance):
    """Same shape and, on average, the same values: for lossy formats."""
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    assert image.shape == expected.shape
    return np.abs(image.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 3),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {}, 4),
        ("JPEG", {"quality": 95}, 2),
        ("JPEG", {"quality": 95, "progressive": True}, 2),
        ("GIF", {}, 8),
        ("AVIF", {"quality": 95}, 3),
    ],
)
def test_formats(scene, encoded, kind, options, tolerance):
    image = read_image(encoded(Image.fromarray(scene), kind, **options))
    assert close(image, scene, tolerance)


def test_heic(scene, heic, heic_turned):
    pytest.importorskip("pi_heif")
    assert close(read_image(heic), scene, 5)
    assert close(read_image(heic_turned), np.rot90(scene, -1), 5)
    assert (read_metadata(heic_turned).width, read_metadata(heic_turned).height) == (64, 96)


@pytest.mark.parametrize(("box", "shown"), [
    (b"irot\0", lambda scene: scene), (b"irot\1", lambda scene: np.rot90(scene, 1)),
    (b"irot\2", lambda scene: np.rot90(scene, 2)), (b"irot\3", lambda scene: np.rot90(scene, 3)),
    (b"imir\0", lambda scene: scene[::-1]), (b"imir\1", lambda scene: scene[:, ::-1]),
])
def test_heic_is_turned_by_its_container_alone(scene, heic_turned, box, shown):
    """EXIF says something else in most of these files."""
    pytest.importorskip("pi_heif")
    data = heic_turned.replace(b"irot\3", box)
    assert close(read_image(data), shown(scene), 5)
    assert load(data).size == shown(scene).shape[1::-1]


def test_heic_without_its_package_says_what_to_install(heic, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match="pip install pi-heif"):
        read_image(heic)


def test_heic_with_an_item_that_has_no_name(heic_turned):
    """The type of the item "Exif" is not text: this would end the process inside pi-heif."""
    with pytest.raises(ImageError, match="damaged HEIF"):
        read_image(heic_turned.replace(b"Exif", b"\xc5xif", 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(scene, encoded, kind, orientation):
    """The file is stored turned the other way, with the tag that turns it back."""
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.swapaxes(0, 1),
        6: np.rot90(scene, 1),
        7: scene[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {} if kind in ("PNG", "TIFF") else {"quality": 95}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    loaded = load(data)
    assert close(loaded.pixels, scene, 3 if kind in ("JPEG", "AVIF") else 0)
    assert loaded.size == (96, 64)
    metadata = read_metadata(data)
    assert (metadata.width, metadata.height) == (96, 64)
    assert close(read_image(Image.open(io.BytesIO(data))), scene, 3 if kind in ("JPEG", "AVIF") else 0)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_upright(scene, encoded, value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(read_image(encoded(Image.fromarray(scene), "PNG", exif=exif)), scene)


def test_cmyk_jpeg(scene, encoded):
    data = encoded(Image.fromarray(scene).convert("CMYK"), "JPEG", quality=95)
    assert close(read_image(data), scene, 3)


def test_ycck_jpeg(scene, encoded):
    """A CMYK file whose first three channels are told to be the Y, Cb, Cr of the inks (Adobe transform 2)."""
    inks = Image.fromarray(255 - scene).convert("YCbCr").split()
    no_black = Image.new("L", (96, 64), 0)
    stored = Image.merge("CMYK", [ink.point(lambda value: 255 - value) for ink in inks] + [no_black])
    data = encoded(stored, "JPEG", quality=95)
    start = data.index(b"Adobe")
    assert data[start + 11] == 0
    assert close(read_image(data[: start + 11] + b"\x02" + data[start + 12 :]), scene, 3)


def test_grey_palette_and_one_bit(scene, encoded):
    grey = Image.fromarray(scene).convert("L")
    three = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    assert np.array_equal(read_image(encoded(grey, "PNG")), three)
    assert close(read_image(encoded(grey, "JPEG", quality=95)), three, 2)
    palette = Image.fromarray(scene).quantize(64)
    assert np.array_equal(read_image(encoded(palette, "PNG")), np.array(palette.convert("RGB")))
    bits = Image.fromarray(three[:, :, 0] > 100)
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(
            read_image(encoded(bits, kind))[:, :, 1], np.where(three[:, :, 0] > 100, 255, 0)
        )


def test_transparency_is_laid_over_white(encoded):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[:, :, 3] = [0, 128, 255]
    expected = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
    for source in (
        encoded(Image.fromarray(rgba), "PNG"),
        encoded(Image.fromarray(rgba), "TIFF"),
        encoded(Image.fromarray(rgba), "WEBP", lossless=True, exact=True),
        Image.fromarray(rgba),
        rgba,
    ):
        assert np.abs(read_image(source)[0].astype(int) - expected).max() <= 1


def test_transparent_palettes_and_keys(encoded):
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    for transparency, clear, solid in (
        (0, (255,) * 3, (200, 100, 50)),
        (b"\xff\x00", (10, 20, 30), (255,) * 3),
    ):
        image = read_image(encoded(palette, "PNG", transparency=transparency))
        assert tuple(image[0, 0]) == clear and tuple(image[0, 1]) == solid
    assert tuple(read_image(encoded(palette, "GIF", transparency=0))[0, 0]) == (255,) * 3
    colour_key = encoded(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert read_image(colour_key).min() == 255
    grey_alpha = Image.merge("LA", [Image.new("L", (2, 2), 40), Image.new("L", (2, 2), 0)])
    assert read_image(encoded(grey_alpha, "PNG")).min() == 255


def png_of_16_bits(samples):
    """A PNG file of (H, W, 3) uint16 samples, which Pillow cannot write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(samples, *, photometric=1, bits=None, sample_format=1):
    """An uncompressed little-endian TIFF of one strip, for the kinds that Pillow cannot write."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    bits = bits or samples.dtype.itemsize * 8
    body = samples.tobytes()
    extra = struct.pack(f"<{channels}H", *[bits] * channels)
    offset = 8 + len(body)
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits if channels == 1 else offset),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(body)),
        (339, 3, 1, sample_format),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", offset + len(extra)) + body + extra + directory + bytes(4)


def test_16_bits_are_scaled_not_clipped(encoded):
    wide = (np.arange(64 * 96).reshape(64, 96) * 10).astype(np.uint16)
    expected = np.repeat((wide >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    colour = np.repeat(wide[:, :, None], 3, axis=2)
    for source in (
        encoded(Image.fromarray(wide), "PNG"),
        encoded(Image.fromarray(wide), "TIFF"),
        tiff(wide),
        wide,
        png_of_16_bits(colour),
        tiff(colour, photometric=2),
        colour,
        Image.fromarray(wide),
    ):
        assert np.array_equal(read_image(source), expected)
    assert np.array_equal(read_image(tiff(wide, photometric=0)), 255 - expected)


def test_12_bits_are_scaled_by_12_bits():
    """Two samples of 12 bits are three bytes; the largest sample is white."""
    packed = np.frombuffer(bytes.fromhex("000fff800400"), np.uint8).reshape(1, 6)
    data = bytearray(tiff(packed, bits=12))
    data[data.index(struct.pack("<HHII", 256, 4, 1, 6)) + 8] = 4  # six bytes are four samples
    assert read_image(bytes(data))[0, :, 0].tolist() == [0x00, 0xFF, 0x80, 0x40]


def test_float_and_32_bit_tiff(encoded):
    unit = np.linspace(0, 1, 96 * 64, dtype=np.float32).reshape(64, 96)
    expected = np.rint(unit * 255)
    assert np.array_equal(read_image(encoded(Image.fromarray(unit), "TIFF"))[:, :, 0], expected)
    half = read_image(encoded(Image.fromarray(unit / 2), "TIFF"))
    assert 127 <= half.max() <= 128  # between 0 and 1 nothing is stretched
    assert (
        np.abs(read_image(encoded(Image.fromarray(unit * 4000 - 500), "TIFF"))[:, :, 0] - expected).max() <= 1
    )
    broken = unit * 9
    broken[0, :3] = np.nan, np.inf, -np.inf
    assert read_image(encoded(Image.fromarray(broken), "TIFF"))[0, :3, 0].tolist() == [0, 255, 0]
    for constant in (np.nan, -np.inf, -3e38, 0):
        assert read_image(encoded(Image.fromarray(np.full((2, 2), constant, np.float32)), "TIFF")).max() == 0
    whole = np.array([[-100000, 0, 100000]], np.int32)
    assert read_image(encoded(Image.fromarray(whole), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


def test_lab_tiff(scene, encoded):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(scene), srgb, lab, outputMode="LAB")
    assert close(read_image(encoded(image, "TIFF")), scene, 4)


def test_colour_profiles_are_ignored(scene, encoded):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for icc in (profile, b"nonsense"):
        assert np.array_equal(read_image(encoded(Image.fromarray(scene), "PNG", icc_profile=icc)), scene)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_many(encoded, kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    image = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert image.shape == (10, 20, 3)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 8


def test_a_jpeg_with_several_pictures(scene, encoded):
    """Phones append depth maps and previews in the multi-picture format."""
    second = Image.new("RGB", (10, 10))
    data = encoded(Image.fromarray(scene), "MPO", save_all=True, append_images=[second], quality=95)
    assert close(read_image(data), scene, 2)


# Limits


def claiming_size(width, height):
    """A PNG header that claims a size, with next to nothing behind it."""
    data = bytearray(png_of_16_bits(np.zeros((1, 1, 3), np.uint16)))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_decompression_bomb_is_refused_by_its_header():
    before = Image.MAX_IMAGE_PIXELS
    for read in (read_image, load, read_metadata):
        with pytest.raises(ImageError, match="50000 x 40000 pixels, over the limit"):
            read(claiming_size(50000, 40000))
    with pytest.raises(
        ImageError, match="cannot be decoded"
    ):  # within our limit, over Pillow's: tried, and damaged
        read_image(claiming_size(19000, 10000), options=ImageOptions(max_pixels=190_000_000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_jpeg_of_endless_scans_is_refused(scene, encoded):
    """Repeating the last scan of a progressive file costs 50 bytes, and a pass over the whole picture."""
    data = encoded(Image.fromarray(scene), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    assert read_image(data[:-2] + last * 20 + b"\xff\xd9").shape == scene.shape
    with pytest.raises(ImageError, match="scans"):
        read_image(data[:-2] + last * 100 + b"\xff\xd9")
    assert read_image(data + last * 100).shape == scene.shape  # behind the end: a film, as some phones append


def test_limits_on_pixels_and_sides(scene, encoded):
    for source in (encoded(Image.fromarray(scene), "PNG"), Image.fromarray(scene), scene):
        assert read_image(source, options=ImageOptions(max_pixels=96 * 64, min_side=64)).shape == scene.shape
        with pytest.raises(ImageError, match="max_pixels"):
            read_image(source, options=ImageOptions(max_pixels=96 * 64 - 1))
        with pytest.raises(ImageError, match="shorter side"):
            read_image(source, options=ImageOptions(min_side=65))


# Shrinking while decoding


def test_a_large_jpeg_is_decoded_at_a_fraction_instead_of_being_refused(encoded):
    options = ImageOptions(max_pixels=100_000, max_scaled_pixels=1_000_000)
    picture = Image.new("RGB", (1000, 800), "red")
    loaded = load(encoded(picture, "JPEG"), shrink_to=240, options=options)
    assert (loaded.size, loaded.pixels.shape) == ((1000, 800), (200, 250, 3))
    assert read_metadata(encoded(picture, "JPEG"), options=options).width == 1000
    for source, shrink_to in ((encoded(picture, "JPEG"), None), (encoded(picture, "JPEG"), 900),
                              (encoded(picture, "PNG"), 240), (encoded(picture, "JPEG", progressive=True), 240),
                              (encoded(picture.resize((2000, 800)), "JPEG"), 240)):
        with pytest.raises(ImageError, match="over the limit"):
            load(source, shrink_to=shrink_to, options=options)


@pytest.mark.parametrize("size", [(640, 480), (641, 483), (479, 1001), (1000, 9)])
@pytest.mark.parametrize("shrink_to", [1, 60, 100, 159, 160, 161, 300, 2000])
def test_shrinking_is_never_below_what_is_needed(encoded, size, shrink_to):
    loaded = load(encoded(Image.new("RGB", size), "JPEG"), shrink_to=shrink_to)
    needed = limit_size(*size, shrink_to)
    height, width = loaded.pixels.shape[:2]
    assert width >= needed[0] and height >= needed[1]
    assert loaded.size == size
    assert max(width, height) < max(2 * shrink_to + 2, max(size) / 8 + 1) or min(needed) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_points_of_a_shrunk_picture(encoded, orientation):
    """A bright square far from the centre is found where the original has it, to a pixel of `pixels`."""
    upright = np.zeros((483, 645, 3), np.uint8)
    upright[400:448, 560:608] = 255  # its centre is (583.5, 423.5)
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright, 1), 8: np.rot90(upright, -1)}[
        orientation
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=95, exif=exif)
    loaded = load(data, shrink_to=80)
    height, width = loaded.pixels.shape[:2]
    assert max(width, height) == 81 and loaded.size == (645, 483)
    rows, columns = np.nonzero(loaded.pixels[:, :, 0] > 128)
    x, y = ((columns.mean() + 0.5) * 645 / width - 0.5, (rows.mean() + 0.5) * 483 / height - 0.5)
    assert abs(x - 583.5) < 8 and abs(y - 423.5) < 8


def test_other_formats_are_not_shrunk(scene, encoded):
    loaded = load(encoded(Image.fromarray(scene), "PNG"), shrink_to=10)
    assert np.array_equal(loaded.pixels, scene)
    with pytest.raises(OptionError):
        load(encoded(Image.fromarray(scene), "PNG"), shrink_to=0)


# Arrays and Pillow images


def test_arrays(scene):
    assert read_image(scene) is scene
    assert np.array_equal(read_image(np.asfortranarray(scene)), scene)
    assert read_image(scene[::2, ::2]).flags.c_contiguous
    grey = scene[:, :, 0]
    for source in (grey, grey[:, :, None]):
        assert np.array_equal(read_image(source), np.repeat(grey[:, :, None], 3, axis=2))
    assert np.array_equal(read_image(scene.astype(np.float32) / 255), scene)
    assert np.array_equal(read_image(scene.astype(np.float64) / 255), scene)
    assert np.array_equal(read_image(scene > 99), np.where(scene > 99, 255, 0))
    for order in "<>":
        assert np.array_equal(read_image((scene.astype(np.uint16) * 257).astype(f"{order}u2")), scene)
        assert np.array_equal(read_image((scene / 255).astype(f"{order}f4")), scene)
    assert np.array_equal(read_image(grey.view(np.matrix)), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4), object),
        np.zeros((4, 4), complex),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.full((4, 4), 2.0),
        np.full((4, 4), -0.1),
        np.full((4, 4), np.nan),
    ],
)
def test_arrays_that_are_not_images(array):
    with pytest.raises(ImageError):
        read_image(array)


def test_a_pillow_image_is_not_changed(scene):
    image = Image.fromarray(scene)
    image.getexif()[0x0112] = 6
    assert np.array_equal(read_image(image), np.rot90(scene, -1))
    assert image.size == (96, 64) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "P",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "F",
        "LA",
        "PA",
        "RGBX",
        "RGBa",
        "La",
        "I;16",
        "I;16B",
    ],
)
def test_every_mode_of_pillow(mode):
    assert read_image(Image.new(mode, (5, 4))).shape == (4, 5, 3)


# Warnings and threads


def warning_file(scene, encoded):
    """A JPEG whose EXIF makes Pillow warn: its first directory announces more entries than there are."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 40
    data = encoded(Image.fromarray(scene), "JPEG", exif=exif, quality=95)
    start = data.index(b"Exif\0\0") + 6
    return data[: start + 8] + b"\xff\xff" + data[start + 10 :]


def test_no_warning_escapes(scene, encoded):
    data = warning_file(scene, encoded)
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(data)).getexif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert close(load(data).pixels, scene, 2)
        with pytest.raises(UserWarning):  # other people's warnings are as they were
            Image.open(io.BytesIO(data)).getexif()


def test_many_threads(scene, encoded, heic):
    pytest.importorskip("pi_heif")
    files = [
        warning_file(scene, encoded),
        encoded(Image.fromarray(scene), "PNG"),
        heic,
        encoded(Image.fromarray(scene), "WEBP"),
        encoded(Image.fromarray(scene), "AVIF"),
        b"\xff\xd8\xff\xe0 no",
    ]
    start = threading.Barrier(8)

    def read(worker):
        start.wait()
        answers = []
        for turn in range(24):
            try:
                answers.append(close(load(files[(worker + turn) % len(files)]).pixels, scene, 8))
            except ImageError:
                answers.append(None)
        return answers

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answers in pool.map(read, range(8)) for answer in answers]
    assert answers.count(True) == 8 * 20 and answers.count(None) == 8 * 4


def test_load_reads_once_and_digests(tmp_path, scene, encoded):
    import hashlib

    data = encoded(Image.fromarray(scene), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    loaded = load(tmp_path / "a.png")
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    assert loaded.file_size == len(data)
    assert np.array_equal(loaded.pixels, scene)
