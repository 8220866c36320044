"""TIFF files of every kind come out as they were written, or are refused with a sentence; never with other pixels.

The files are written here, sample by sample, so that the right pixels are known; tifffile checks the writer.
"""

import io
import itertools
import lzma
import struct
import zlib
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

from delf.errors import ImageError
from delf.images import load, read_image, read_metadata

HEIGHT, WIDTH = 19, 37
RAW, LZW, JPEG, DEFLATE, PACKBITS, LZMA = 1, 5, 7, 8, 32773, 34925
WHITE_IS_ZERO, GREY, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
UNSIGNED, SIGNED, FLOAT, VOID = 1, 2, 3, 4
EXACT = {RAW, LZW, DEFLATE, PACKBITS, LZMA}
KINDS = [(1, UNSIGNED), (2, UNSIGNED), (4, UNSIGNED), (6, UNSIGNED), (8, UNSIGNED), (8, SIGNED), (10, UNSIGNED),
         (12, UNSIGNED), (16, UNSIGNED), (16, SIGNED), (16, FLOAT), (32, UNSIGNED), (32, SIGNED), (32, FLOAT),
         (64, FLOAT), (8, VOID)]


@dataclass(frozen=True)
class Tiff:
    """A TIFF file to be written. samples: (height, width, channels). tags: further ones, by number: (type, values)."""

    samples: np.ndarray
    bits: int = 8
    form: int = UNSIGNED
    photometric: int | None = GREY
    order: str = "<"
    big: bool = False
    compression: int = RAW
    predictor: int = 1
    planar: bool = False
    tile: tuple[int, int] | None = None
    rows: int = HEIGHT
    extra: tuple[int, ...] = ()
    fill: int = 1
    tags: dict = field(default_factory=dict)

    def file(self) -> bytes:
        return tiff_file([self])


def lzw(data: bytes) -> bytes:
    """LZW with nothing but the codes of single bytes, each of nine bits."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start:start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(part) - 1]) + part for part in
                    (data[start:start + 128] for start in range(0, len(data), 128)))


ENCODERS = {RAW: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits, LZMA: lzma.compress}


def jpeg(tiff: Tiff, samples: np.ndarray) -> bytes:
    """A JPEG file whose channels are the samples as they are, with the subsampling of the tag 530."""
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(samples, 2, 0)]
    options = {}
    if len(bands) == 1:
        picture = bands[0]
    elif len(bands) == 4:
        picture = Image.merge("CMYK", [band.point(lambda value: 255 - value) for band in bands])  # as Pillow writes it
    elif tiff.photometric == RGB:
        picture, options = Image.merge("RGB", bands), {"keep_rgb": True}
    else:
        across, down = tiff.tags[530][1]
        picture, options = Image.merge("YCbCr", bands), {"subsampling": across + down - 2}
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def part_of(tiff: Tiff, samples: np.ndarray) -> bytes:
    """The bytes of a strip or tile (rows, columns, channels)."""
    rows, columns, channels = samples.shape
    if tiff.compression == JPEG:
        return jpeg(tiff, samples)
    if tiff.bits % 8:
        values = samples.reshape(rows, -1)
        bits = (values[:, :, None] >> np.arange(tiff.bits)[::-1]) & 1
        packed = np.packbits(bits.reshape(rows, -1).astype(np.uint8), axis=1)
        if tiff.fill == 2:
            packed = np.packbits(np.unpackbits(packed, axis=1, bitorder="little"), axis=1)
        return ENCODERS[tiff.compression](packed.tobytes())
    size = tiff.bits // 8
    if tiff.predictor == 2:
        words = samples.view(f"u{size}")
        words = np.concatenate([words[:, :1], np.diff(words, axis=1)], axis=1)
        data = words.astype(f"{tiff.order}u{size}").tobytes()
    elif tiff.predictor == 3:
        planes = samples.astype(f">f{size}").reshape(rows, columns * channels).view(np.uint8)
        planes = planes.reshape(rows, columns * channels, size).transpose(0, 2, 1).reshape(rows, -1, channels)
        data = np.concatenate([planes[:, :1], np.diff(planes, axis=1)], axis=1).tobytes()
    else:
        data = samples.astype(samples.dtype.newbyteorder(tiff.order)).tobytes()
    return ENCODERS[tiff.compression](data)


def parts_of(tiff: Tiff) -> list[bytes]:
    planes = np.split(tiff.samples, tiff.samples.shape[2], axis=2) if tiff.planar else [tiff.samples]
    height, width = tiff.samples.shape[:2]
    columns, rows = tiff.tile or (width, tiff.rows)
    parts = []
    for plane, top, left in itertools.product(planes, range(0, height, rows), range(0, width, columns)):
        part = plane[top:top + rows, left:left + columns]
        if tiff.tile:
            part = np.pad(part, ((0, rows - part.shape[0]), (0, columns - part.shape[1]), (0, 0)), "edge")
        parts.append(part_of(tiff, np.ascontiguousarray(part)))
    return parts


TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "I", 7: "B", 13: "I", 16: "Q"}


def tiff_file(pages: list[Tiff]) -> bytes:
    order, big = pages[0].order, pages[0].big
    word = "Q" if big else "I"
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
                     + (struct.pack(order + "HH", 8, 0) if big else b"") + struct.pack(order + word, 0))
    link = len(data) - struct.calcsize(word)
    for page in pages:
        height, width, channels = page.samples.shape
        parts = parts_of(page)
        offsets = []
        for part in parts:
            data += bytes(len(data) % 2)
            offsets.append(len(data))
            data += part
        long = 16 if big else 4
        places = {324: (long, offsets), 325: (4, [len(part) for part in parts])} if page.tile else {
            273: (long, offsets), 279: (4, [len(part) for part in parts]), 278: (4, [page.rows])}
        tags = {256: (3, [width]), 257: (4, [height]), 258: (3, [page.bits] * channels), 259: (3, [page.compression]),
                277: (3, [channels]), 284: (3, [2 if page.planar else 1]),
                339: (3, [page.form] * channels), **places}
        if page.photometric is not None:
            tags[262] = (3, [page.photometric])
        if page.tile:
            tags |= {322: (3, [page.tile[0]]), 323: (3, [page.tile[1]])}
        if page.predictor != 1:
            tags[317] = (3, [page.predictor])
        if page.extra:
            tags[338] = (3, page.extra)
        if page.fill != 1:
            tags[266] = (3, [page.fill])
        tags |= page.tags
        tags = {tag: value for tag, value in tags.items() if value is not None}
        data += bytes(len(data) % 2)
        data[link:link + struct.calcsize(word)] = struct.pack(order + word, len(data))
        outside = len(data) + (8 if big else 2) + len(tags) * (20 if big else 12) + struct.calcsize(word)
        entries, values = b"", b""
        for tag, (kind, content) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(content)}{TYPES[kind]}", *content)
            count = len(content) // (2 if kind == 5 else 1)
            entries += struct.pack(order + "HH" + word, tag, kind, count)
            if len(packed) <= struct.calcsize(word):
                entries += packed.ljust(struct.calcsize(word), b"\0")
            else:
                entries += struct.pack(order + word, outside + len(values))
                values += packed + bytes(len(packed) % 2)
        data += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        link = len(data)
        data += bytes(struct.calcsize(word)) + values
    return bytes(data)


def samples_of(bits: int, form: int, channels: int) -> np.ndarray:
    """Samples of the whole range of a type, in no order."""
    rng = np.random.default_rng(bits + form + channels)
    shape = (HEIGHT, WIDTH, channels)
    if form == FLOAT:
        return (rng.random(shape) * 7 - 2).astype(f"f{bits // 8}")
    if form == SIGNED:
        return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(f"i{bits // 8}")
    whole = 8 * (1 if bits <= 8 else 2 if bits <= 16 else 4)
    return rng.integers(0, 1 << bits, shape).astype(f"u{whole // 8}")


def grey_of(samples: np.ndarray, bits: int, form: int) -> np.ndarray:
    """What samples look like in 8 bits, by the words of `delf.images.pixels`."""
    if form in (UNSIGNED, VOID) and bits <= 8:
        return (samples.astype(int) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    if form == UNSIGNED and bits <= 16:
        return (samples >> (bits - 8)).astype(np.uint8)
    low, high = float(samples.min()), float(samples.max())
    return np.rint((samples.astype(float) - low) * (255 / (high - low))).astype(np.uint8)


def outcome(file: bytes) -> np.ndarray | None:
    """The pixels; None where the file was refused with a sentence."""
    try:
        return read_image(file)
    except ImageError as error:
        assert str(error).startswith("The given image") and str(error).endswith(".")
        return None


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def layouts(bits: int, form: int):
    """Byte orders, classic and big, strips and tiles, and the compressions with and without prediction."""
    for order, big, tile, compression in itertools.product("<>", (False, True), (None, (16, 32)), ENCODERS):
        for predictor in (1, 2, 3):
            if predictor == 1 or (bits in (8, 16, 32, 64) and (predictor == 2 or (form == FLOAT and bits >= 16))):
                yield {"order": order, "big": big, "tile": tile, "compression": compression, "predictor": predictor,
                       "rows": 7 if big else HEIGHT}


def is_read(tiff: Tiff) -> bool:
    """What must not be refused."""
    if (tiff.bits, tiff.form) in ((6, UNSIGNED), (10, UNSIGNED), (16, FLOAT), (64, FLOAT), (8, VOID)):
        return False
    return tiff.predictor == 1 or (tiff.compression in (LZW, DEFLATE, LZMA)
                                   and (tiff.predictor == 3 or tiff.bits < 32 or tiff.order == "<"))


@pytest.mark.parametrize(("bits", "form"), KINDS)
def test_single_channels(bits, form):
    samples = samples_of(bits, form, 1)
    grey = grey_of(samples[:, :, 0], bits, form)
    for layout, photometric in itertools.product(layouts(bits, form), (WHITE_IS_ZERO, GREY)):
        tiff = Tiff(samples, bits, form, photometric, **layout)
        pixels = outcome(tiff.file())
        assert pixels is not None or not is_read(tiff), replace(tiff, samples=None)
        expected = three(255 - grey if photometric == WHITE_IS_ZERO else grey)
        assert pixels is None or np.array_equal(pixels, expected), replace(tiff, samples=None)


def test_the_writer_is_right():
    """What tifffile reads of these files is what was to be written."""
    for bits, form in KINDS:
        if bits % 8 or form == VOID:
            continue
        samples = samples_of(bits, form, 3)
        for order, big, tile, compression, planar in itertools.product(
                "<>", (False, True), (None, (16, 32)), (RAW, DEFLATE), (False, True)):
            tiff = Tiff(samples, bits, form, RGB, order, big, compression, planar=planar, tile=tile, rows=7)
            read = tifffile.imread(io.BytesIO(tiff.file()))
            assert np.array_equal(np.moveaxis(read, 0, 2) if planar else read, samples), replace(tiff, samples=None)


def over_white(colours: np.ndarray, alpha: np.ndarray, associated: bool) -> np.ndarray:
    share = alpha[:, :, None] / 255
    return np.clip(np.rint(colours * (1 if associated else share) + (1 - share) * 255), 0, 255)


def joined(bits: int):
    """Samples in several channels: (samples, photometric, extra samples, what they look like, must be read)."""
    samples = samples_of(bits, UNSIGNED, 6)
    bytes_of = samples >> (bits - 8)
    colours, alpha = bytes_of[:, :, :3], bytes_of[:, :, 3]
    share = samples[:, :, 3:4].astype(np.uint64)
    associated = (samples[:, :, :3] * share // ((1 << bits) - 1)).astype(samples.dtype)
    grey = three(bytes_of[:, :, 2])
    inks = bytes_of[:, :, :4].astype(float)
    inked = np.rint((255 - inks[:, :, :3]) * (255 - inks[:, :, 3:]) / 255)
    pale = np.concatenate([associated, samples[:, :, 3:]], axis=2)
    pale_grey = three(associated[:, :, 2] >> (bits - 8))
    return [
        (samples[:, :, :3], RGB, (), colours, True),
        *((samples[:, :, :3 + more], RGB, (0,) * more, colours, bits == 8 or more == 1) for more in (1, 2, 3)),
        (samples[:, :, :4], RGB, (2,), over_white(colours, alpha, False), True),
        (samples[:, :, :5], RGB, (2, 0), over_white(colours, alpha, False), bits == 8),
        (pale[:, :, :4], RGB, (1,), over_white(associated >> (bits - 8), alpha, True), True),
        (samples[:, :, :4], RGB, (), colours, False),  # a channel of which nothing is said
        (samples[:, :, :5], RGB, (0, 2), colours, False),
        (samples[:, :, 2:4], GREY, (2,), over_white(grey, alpha, False), bits == 8),
        (pale[:, :, 2:4], GREY, (1,), over_white(pale_grey, alpha, True), False),  # not before Pillow 12
        (samples[:, :, 2:4], GREY, (0,), grey, False),  # likewise
        (samples[:, :, 2:4], WHITE_IS_ZERO, (0,), 255 - grey, False),
        (samples[:, :, :4], CMYK, (), inked, True),
        (samples[:, :, :5], CMYK, (0,), inked, bits == 8),
    ]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_joined_channels(bits, planar):
    for samples, photometric, extra, expected, must in joined(bits):
        for layout in layouts(8, UNSIGNED):
            predicted = layout["predictor"] > 1
            if predicted != (layout["compression"] in (LZW, DEFLATE)) or layout["big"] != bool(layout["tile"]):
                continue
            tiff = Tiff(np.ascontiguousarray(samples), bits, UNSIGNED, photometric, planar=planar, extra=extra,
                        **layout)
            pixels = outcome(tiff.file())
            what = replace(tiff, samples=None)
            assert pixels is not None or not must, what
            assert pixels is None or np.abs(pixels - expected.astype(float)).max() <= (2 if extra else 1), what


@pytest.mark.parametrize(("bits", "form"), KINDS)
def test_other_types_in_several_channels(bits, form):
    """Planes are read as single channels are, with one scale for all three; pixel by pixel most types are refused."""
    samples = samples_of(bits, form, 3)
    expected = grey_of(samples, bits, form)
    for order, big, planar in itertools.product("<>", (False, True), (False, True)):
        tiff = Tiff(samples, bits, form, RGB, order, big, planar=planar)
        pixels = outcome(tiff.file())
        assert pixels is not None or not (planar and is_read(tiff)), replace(tiff, samples=None)
        assert pixels is None or np.array_equal(pixels, expected), replace(tiff, samples=None)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(bits):
    samples = samples_of(bits, UNSIGNED, 1)
    palette = np.random.default_rng(1).integers(0, 65536, (3, 1 << bits))
    palette[0, 0] = 65535
    for order, compression, tile, fill in itertools.product("<>", ENCODERS, (None, (16, 32)), (1, 2)):
        for scale in (0, 8):  # some writers give eight bits for sixteen
            tiff = Tiff(samples, bits, UNSIGNED, PALETTE, order, compression=compression, tile=tile,
                        fill=fill if bits < 8 else 1, tags={320: (3, (palette >> scale).ravel().tolist())})
            pixels = outcome(tiff.file())
            assert pixels is not None or fill == 2, replace(tiff, samples=None)
            assert pixels is None or np.array_equal(pixels, (palette >> 8).T[samples[:, :, 0]])


def test_palettes_that_do_not_fit():
    for bits, size in ((8, 3 * 255), (4, 3 * 256), (16, 3 << 16), (8, 0)):
        tags = {320: (3, [65535] * size)} if size else {}
        assert outcome(Tiff(samples_of(bits, UNSIGNED, 1), bits, UNSIGNED, PALETTE, tags=tags).file()) is None


@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, GREY])
def test_bits_from_the_right(photometric):
    samples = samples_of(1, UNSIGNED, 1)
    expected = three(samples * 255 if photometric == GREY else 255 - samples * 255)
    for order, compression in itertools.product("<>", ENCODERS):
        pixels = outcome(Tiff(samples, 1, UNSIGNED, photometric, order, compression=compression, fill=2).file())
        assert (pixels is None) == (compression != RAW)
        assert pixels is None or np.array_equal(pixels, expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("mode", ["1", "inverted"])
def test_fax(encoded, compression, mode):
    samples = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 7 > 3
    data = encoded(Image.fromarray(samples), "TIFF", compression=compression)
    if mode == "inverted":
        entry = data.index(struct.pack("<HHII", 262, 3, 1, GREY))
        data = data[:entry] + struct.pack("<HHII", 262, 3, 1, WHITE_IS_ZERO) + data[entry + 12:]
    assert np.array_equal(read_image(data), three(np.where(samples == (mode == "1"), 255, 0)))


@pytest.mark.parametrize("compression", ["packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"])
def test_what_libtiff_writes(encoded, compression):
    # Pillow 11 comes without Zstandard, and when it is asked to write it, it writes into memory that it has freed.
    if compression == "zstd" and int(PIL.__version__.partition(".")[0]) < 12:
        pytest.skip("Pillow writes Zstandard from version 12 on")
    samples = samples_of(8, UNSIGNED, 3)
    for picture in (Image.fromarray(samples), Image.fromarray(samples[:, :, 0])):
        data = encoded(picture, "TIFF", compression=compression)
        assert np.array_equal(read_image(data), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_jpeg_in_tiff(scene, tile, order):
    inks = np.concatenate([scene, scene[:, ::-1, :1]], axis=2)
    inked = (255 - inks[:, :, :3].astype(float)) * (255 - inks[:, :, 3:]) / 255
    luma = np.asarray(Image.fromarray(scene).convert("YCbCr"))
    for samples, photometric, planar, sub, expected in (
            (luma, YCBCR, False, (1, 1), scene), (luma, YCBCR, False, (2, 1), scene),
            (luma, YCBCR, False, (2, 2), scene), (scene, RGB, False, None, scene), (scene, RGB, True, None, scene),
            (scene[:, :, :1], GREY, False, None, three(scene[:, :, 0])), (inks, CMYK, False, None, inked),
            (scene[:, :, :1], WHITE_IS_ZERO, False, None, 255 - three(scene[:, :, 0]))):
        tags = {530: (3, list(sub))} if sub else {}
        tiff = Tiff(samples, 8, UNSIGNED, photometric, order, compression=JPEG, planar=planar, tile=tile, rows=16,
                    tags=tags)
        assert np.abs(read_image(tiff.file()) - expected.astype(float)).max() <= 8, replace(tiff, samples=None)
    planes = Tiff(luma, 8, UNSIGNED, YCBCR, compression=JPEG, planar=True, tags={530: (3, [1, 1])})
    assert outcome(planes.file()) is None


def test_lab(scene):
    lab = cv2.cvtColor(scene.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) * (2.55, 1, 1)
    samples = np.rint(lab).astype(int).astype(np.uint8)  # a and b have signs
    for planar, (compression, predictor) in itertools.product((False, True), ((RAW, 1), (LZW, 2))):
        tiff = Tiff(samples, 8, UNSIGNED, LAB, compression=compression, predictor=predictor, planar=planar, rows=64)
        assert np.abs(read_image(tiff.file()) - scene.astype(float)).mean() < 4  # D50 here, and D65 in OpenCV


@pytest.mark.parametrize(("changes", "words"), [
    ({"photometric": YCBCR}, "rare"),  # without JPEG
    ({"photometric": MASK}, "photometric interpretation 4"),
    ({"photometric": 9}, "photometric interpretation 9"),
    ({"photometric": None}, "does not say what its samples mean"),
    ({"photometric": 32803}, "RAW file of a camera"),
    ({"tags": {50706: (1, [1, 4, 0, 0])}}, "RAW file of a camera"),
    ({"tags": {254: (4, [1]), 330: (4, [8, 8])}}, "RAW file of a camera"),
    ({"tags": {258: (3, [8, 8, 16])}}, "samples of a rare kind"),
    ({"tags": {339: (3, [1, 2, 1])}}, "samples of a rare kind"),
    ({"tags": {32997: (3, [2])}}, "samples of a rare kind"),
    ({"tags": {259: (3, [6])}}, "compressed in a rare way"),
    ({"tags": {259: (3, [34712])}}, "compressed in a rare way"),
    ({"tags": {317: (3, [2])}}, "predicts"),  # OpenCV ignores it and tifffile does not
    ({"tags": {266: (3, [2])}}, "rare order"),
    ({"tags": {256: (2, [b"9", b"\0"])}}, "how large"),
    ({"tags": {278: (3, [0])}}, "how large"),
    ({"tags": {273: (4, [])}}, "where its samples are"),
    ({"tags": {279: (4, [99])}}, "cut short"),
    ({"tags": {338: (3, [999])}, "samples": 4}, "transparency"),  # of Corel Draw
    ({"tags": {338: (3, [999])}, "samples": 4, "planar": True}, "transparency"),
    ({"tags": {338: (3, [2]), 259: (3, [JPEG])}, "samples": 4}, "rare for them"),
    ({"photometric": LAB, "tags": {259: (3, [JPEG])}}, "rare for them"),
    ({"tags": {322: (3, [60000]), 323: (3, [60000]), 324: (4, [8]), 325: (4, [8])}}, "tiles that are much larger"),
    ({"photometric": CMYK, "tags": {332: (3, [2])}}, "channels"),
])
def test_refusals_say_why(changes, words):
    channels = changes.get("samples", 3)
    tiff = Tiff(**{"photometric": RGB, **changes, "samples": samples_of(8, UNSIGNED, channels)})
    for read in (read_image, load, read_metadata):
        with pytest.raises(ImageError, match=words) as caught:
            read(tiff.file())
        assert str(caught.value).endswith(".") and "JPEG" in str(caught.value)


def test_what_is_written_beside_the_picture():
    """Tags that say nothing of the pixels, or that may be left out, change nothing, however odd they are."""
    samples = samples_of(8, UNSIGNED, 3)
    xmp = list(b"<x tiff:Orientation='6' tiff:Orientation=\"6\"/>")
    for tags in ({279: None}, {278: None}, {278: (4, [2**32 - 1])}, {284: None}, {339: None}, {258: (3, [8])},
                 {282: (2, [b"x", b"\0"])}, {282: (5, [1, 0])}, {34675: (7, list(bytes(1000)))},
                 {305: (2, [b"\xff"] * 9)}, {274: (3, [9])}, {274: (3, [0])}, {700: (1, xmp)},
                 {34665: (4, [2**32 - 9])}, {34853: (4, [8])}, {40000: (3, [1])}, {254: (4, [2])}):
        assert np.array_equal(read_image(Tiff(samples, photometric=RGB, tags=tags).file()), samples), tags


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_the_page(orientation):
    samples = samples_of(8, UNSIGNED, 3)
    upright = {1: samples, 2: samples[:, ::-1], 3: samples[::-1, ::-1], 4: samples[::-1], 5: samples.swapaxes(0, 1),
               6: np.rot90(samples, -1), 7: samples[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(samples)}[orientation]
    for order, big, planar, compression in itertools.product("<>", (False, True), (False, True), (RAW, DEFLATE)):
        page = Tiff(samples, 8, UNSIGNED, RGB, order, big, compression, planar=planar, tags={274: (3, [orientation])})
        small = replace(page, samples=samples[:4, :4], tags={254: (4, [1]), 274: (3, [orientation % 8 + 1])})
        for file in (page.file(), tiff_file([small, page]), tiff_file([page, small])):
            loaded = load(file)
            assert np.array_equal(loaded.pixels, upright) and loaded.size == upright.shape[1::-1]
            if not planar:  # which OpenCV does not read
                second = cv2.imdecode(np.frombuffer(page.file(), np.uint8), cv2.IMREAD_COLOR)
                assert np.array_equal(second[:, :, ::-1], upright)


def test_the_first_page_that_is_no_thumbnail():
    pages = [Tiff(samples_of(8, UNSIGNED, 3)[shift:], photometric=RGB, rows=HEIGHT) for shift in range(3)]
    reduced, mask = ({"tags": {254: (4, [kind])}} for kind in (1, 4))
    old = {"tags": {255: (3, [2])}}
    for first in (reduced, mask, old):
        small = replace(pages[0], samples=pages[0].samples[:5, :5], **first)
        assert np.array_equal(read_image(tiff_file([small, pages[1], pages[2]])), pages[1].samples)
        assert np.array_equal(read_image(tiff_file([small, small])), small.samples)  # nothing else is there
    assert np.array_equal(read_image(tiff_file([pages[2], pages[1]])), pages[2].samples)
