"""BMP files of every kind come out as they were written, or are refused with a sentence; OpenCV is asked, too."""

import itertools
import struct

import cv2
import numpy as np
import pytest

from delf.errors import ImageError
from delf.images import read_image, read_metadata

HEIGHT, WIDTH = 19, 37
RGB, RLE8, RLE4, MASKS, ALPHA_MASKS = 0, 1, 2, 3, 6


def bmp(rows, *, bits, compression=RGB, header=40, palette=(), colours=0, masks=(), top_down=False):
    """A BMP file; palette: (n, 3) RGB."""
    height = -HEIGHT if top_down else HEIGHT
    if header == 12:
        head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(rows), 0, 0, colours, 0)
    head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    entries = b"".join(bytes(colour[::-1]) + (b"" if header == 12 else b"\0") for colour in np.array(palette).tolist())
    offset = 14 + len(head) + len(entries)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + entries + rows


def rows_of(samples, bits, top_down=False):
    rows = b""
    for row in samples if top_down else samples[::-1]:
        if bits == 24:
            packed = row[:, ::-1].astype(np.uint8).tobytes()
        elif bits > 8:
            packed = row.astype(f"<u{bits // 8}").tobytes()
        else:
            packed = np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8)).tobytes()
        rows += packed.ljust(-(-len(packed) // 4) * 4, b"\0")
    return rows


def random(largest, *more):
    return np.random.default_rng(largest % 1000).integers(0, largest, (HEIGHT, WIDTH, *more))


def opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes(bits):
    count = 1 << bits
    ramp = np.arange(count)[:, None].repeat(3, axis=1)
    for colours, top_down, header in itertools.product(
            (np.random.default_rng(0).integers(0, 256, (count, 3)), ramp * 255 // (count - 1), ramp, ramp[::-1]),
            (False, True), (12, 40, 124)):
        if header == 12 and top_down:
            continue
        samples = random(count)
        data = bmp(rows_of(samples, bits, top_down), bits=bits, palette=colours, header=header, top_down=top_down)
        assert np.array_equal(read_image(data), colours[samples])
        assert np.array_equal(opencv(data), colours[samples])
    samples = random(count) % 2  # with fewer colours than there could be
    for colours in ([[0, 0, 0], [255, 255, 255]], [[255, 255, 255], [0, 0, 0]], [[9, 8, 7], [6, 5, 4]]):
        data = bmp(rows_of(samples, bits), bits=bits, palette=colours, colours=2)
        assert np.array_equal(read_image(data), np.array(colours)[samples])
    assert read_image(bmp(rows_of(random(count), bits), bits=bits, palette=[[9, 9, 9]], colours=1)).max() == 9


def scaled(words, mask):
    shift = (mask & -mask).bit_length() - 1
    return np.rint(((words & mask) >> shift) * 255 / (mask >> shift))


@pytest.mark.parametrize(("bits", "header", "masks"), [
    (16, 40, ()), (16, 40, (0xF800, 0x7E0, 0x1F)), (16, 40, (0x7C00, 0x3E0, 0x1F)), (16, 40, (0xF00, 0xF0, 0xF)),
    (16, 40, (0x1F, 0x7E0, 0xF800)), (16, 56, (0x7C00, 0x3E0, 0x1F, 0x8000)), (16, 56, (0xF00, 0xF0, 0xF, 0xF000)),
    (32, 40, ()), (32, 124, ()), (32, 40, (0xFF0000, 0xFF00, 0xFF)), (32, 40, (0xFF, 0xFF00, 0xFF0000)),
    (32, 40, (0x3FF00000, 0xFFC00, 0x3FF)), (32, 52, (0xFF000000, 0xFF0000, 0xFF00)),
    (32, 56, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), (32, 108, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    (32, 124, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)), (32, 124, (0xFF0000, 0xFF00, 0xFF, 0)),
])
def test_direct_colours(bits, header, masks):
    words = random(1 << bits)
    for top_down in (False, True):
        data = bmp(rows_of(words, bits, top_down), bits=bits, header=header, masks=masks, top_down=top_down,
                   compression=MASKS if masks else RGB)
        used = masks or {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}[bits]
        expected = np.stack([scaled(words, mask) for mask in used[:3]], axis=2)
        if len(used) == 4 and used[3]:
            alpha = scaled(words, used[3])[:, :, None] / 255
            expected = expected * alpha + 255 * (1 - alpha)
        assert np.abs(read_image(data) - expected).max() <= 1
    if len(masks) == 4 and masks[3]:  # programs that know no alpha leave it at zero
        clear = words & ~masks[3]
        expected = np.stack([scaled(clear, mask) for mask in masks[:3]], axis=2)
        data = bmp(rows_of(clear, bits), bits=bits, header=header, masks=masks, compression=MASKS)
        assert np.array_equal(read_image(data), expected)


def test_24_bits():
    samples = random(256, 3)
    for header, top_down in ((12, False), (40, False), (40, True), (124, False)):
        data = bmp(rows_of(samples, 24, top_down), bits=24, header=header, top_down=top_down)
        assert np.array_equal(read_image(data), samples) and np.array_equal(opencv(data), samples)


def encoded_runs(samples, bits):
    """Encoded and literal runs in turn."""
    encoded = b""
    for row in samples[::-1].tolist():
        at = 0
        while at < WIDTH:
            count = min(4 + at % 3, WIDTH - at)
            part = row[at:at + count]
            if len(set(part)) == 1:
                encoded += bytes([count, part[0] * 17 if bits == 4 else part[0]])
            elif count >= 3:
                stored = part if bits == 8 else [high << 4 | low for high, low in
                                                 itertools.zip_longest(part[::2], part[1::2], fillvalue=0)]
                encoded += bytes([0, count, *stored]) + bytes(len(stored) % 2)
            else:
                encoded += b"".join(bytes([1, index << 4 if bits == 4 else index]) for index in part)
            at += count
        encoded += b"\0\0"
    return encoded + b"\0\1"


@pytest.mark.parametrize(("bits", "compression"), [(8, RLE8), (4, RLE4)])
def test_runs(bits, compression):
    colours = np.random.default_rng(0).integers(0, 256, (1 << bits, 3))
    samples = random(3) * (np.arange(WIDTH) % 11 > 4)
    runs = encoded_runs(samples, bits)

    def file(rows):
        return bmp(rows, bits=bits, compression=compression, palette=colours)

    assert np.array_equal(read_image(file(runs)), colours[samples])
    assert np.array_equal(opencv(file(runs)), colours[samples])
    assert np.array_equal(read_image(file(runs[:-4])), colours[samples])  # neither end of line nor of picture
    for length in range(0, len(runs) - 4, 3):
        with pytest.raises(ImageError):
            read_image(file(runs[:length]))
    skipping = np.zeros((HEIGHT, WIDTH), int)
    skipping[-1, :5], skipping[-5, 8:14] = 1, 2
    one, two = (1, 2) if bits == 8 else (0x11, 0x22)
    assert np.array_equal(read_image(file(bytes([5, one, 0, 2, 3, 4, 6, two, 0, 1]))), colours[skipping])
    past_the_edge = bytes([250, one, 250, one]) + b"\0\2\xff\xff" + bytes([9, two]) + b"\0\1"
    assert read_image(file(past_the_edge)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("options", [
    {"bits": 2}, {"bits": 8, "compression": 4}, {"bits": 24, "compression": 5}, {"bits": 1, "compression": 3},
    {"bits": 24, "compression": 4, "header": 64}, {"bits": 8, "compression": 9}, {"bits": 32, "header": 41},
    {"bits": 8, "compression": RLE4}, {"bits": 8, "compression": RLE8, "top_down": True},
    {"bits": 32, "compression": MASKS, "masks": (0, 0, 0)}, {"bits": 32, "compression": MASKS, "masks": (5, 2, 8)},
    {"bits": 16, "compression": MASKS, "masks": (0xFF0000, 0xFF00, 0xFF)},
])
def test_rare_kinds_are_refused(options):
    with pytest.raises(ImageError, match="BMP file of a rare kind"):
        read_image(bmp(bytes(9999), **options))


def test_files_cut_short():
    data = bmp(rows_of(random(256, 3), 24), bits=24)
    assert read_metadata(data).width == WIDTH
    assert read_image(data[:-1]).shape == (HEIGHT, WIDTH, 3)  # a byte that only fills up the last row
    for length in range(0, len(data) - 1, 50):
        with pytest.raises(ImageError):
            read_image(data[:length])


def test_the_smallest_file():
    data = b"BM" + struct.pack("<IHHIIHHHH", 30, 0, 0, 26, 12, 1, 1, 1, 24) + b"\1\2\3"
    assert read_image(data).tolist() == [[[3, 2, 1]]]
