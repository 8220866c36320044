import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from delf.images import load, read_metadata

Rational = TiffImagePlugin.IFDRational


def exif_of(*, taken=None, gps=None):
    exif = Image.Exif()
    exif[0x8769] = taken or {}
    exif[0x8825] = gps or {}
    written = Image.Exif()
    written.load(exif.tobytes())  # the form that every writer of Pillow takes
    return written


PARIS = {
    1: "N",
    2: (Rational(48), Rational(51), Rational(2968, 100)),
    3: "W",
    4: (Rational(2), Rational(177, 10), Rational(0)),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_time_and_place(encoded, kind):
    exif = exif_of(taken={0x9003: "2019:07:14 21:05:09", 0x9011: "+02:00"}, gps=PARIS)
    data = encoded(Image.new("RGB", (30, 20)), kind, exif=exif)
    for metadata in (read_metadata(data), load(data).metadata):
        assert (metadata.width, metadata.height) == (30, 20)
        assert metadata.captured_at == "2019-07-14T21:05:09+02:00"
        assert metadata.latitude == pytest.approx(48.858244, abs=1e-5)
        assert metadata.longitude == pytest.approx(-2.295, abs=1e-5)


def test_a_picture_without_exif(encoded):
    metadata = read_metadata(encoded(Image.new("RGB", (30, 20)), "PNG"))
    assert (metadata.captured_at, metadata.latitude, metadata.longitude) == (None, None, None)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({0x9003: "2020:01:02 03:04:05"}, "2020-01-02T03:04:05"),
        ({0x9004: "2020:01:02 03:04:05", 0x9012: "-08:00"}, "2020-01-02T03:04:05-08:00"),
        ({0x9003: "2020:01:02 03:04:05", 0x9011: "soon"}, "2020-01-02T03:04:05"),
        ({0x9003: "2020:01:02 03:04:05", 0x9011: "+99:00"}, "2020-01-02T03:04:05"),
        ({0x9003: "0000:00:00 00:00:00", 0x9004: "2020:01:02 03:04:05"}, "2020-01-02T03:04:05"),
        ({0x9003: "2020:13:02 03:04:05"}, None),
        ({0x9003: "2020:01:02 25:04:05"}, None),
        ({0x9003: "yesterday"}, None),
        ({0x9003: ""}, None),
    ],
)
def test_capture_times(encoded, tags, expected):
    assert (
        read_metadata(encoded(Image.new("L", (9, 9)), "JPEG", exif=exif_of(taken=tags))).captured_at
        == expected
    )


@pytest.mark.parametrize(
    "change",
    [
        {2: (Rational(48), Rational(51), Rational(1, 0))},
        {2: (Rational(0, 0),) * 3},
        {2: (Rational(91), 0, 0)},
        {2: (Rational(48),)},
        {2: Rational(48)},
        {1: "X"},
        {1: ""},
        {1: "NS"},
        {4: (Rational(4_000_000_000), Rational(0), Rational(0))},
        {2: (Rational(0),) * 3, 4: (Rational(0),) * 3},
    ],
)
def test_positions_that_make_no_sense_are_none(encoded, change):
    data = encoded(Image.new("L", (9, 9)), "JPEG", exif=exif_of(gps=PARIS | change))
    metadata = read_metadata(data)
    assert (metadata.latitude, metadata.longitude) == (None, None)


def test_negative_angles_are_none(encoded):
    """Signed rationals: 60 degrees and -720 minutes would add up to something that looks right."""
    gps = PARIS | {2: (Rational(60), Rational(2**32 - 720), Rational(0))}
    data = encoded(Image.new("L", (9, 9)), "JPEG", exif=exif_of(gps=gps))
    unsigned, signed = (struct.pack(">HHI", 2, kind, 3) for kind in (5, 10))
    assert data.count(unsigned) == 1
    assert read_metadata(data.replace(unsigned, signed)).latitude is None


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_half_a_position_is_none(encoded, missing):
    gps = {tag: value for tag, value in PARIS.items() if tag != missing}
    assert read_metadata(encoded(Image.new("L", (9, 9)), "JPEG", exif=exif_of(gps=gps))).latitude is None


def directory(entries):
    return (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
        + bytes(4)
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x8769, 0x8825, 0x9003, 0x9011, 1, 2, 3, 4]),
            st.integers(0, 14),
            st.sampled_from([0, 1, 2, 3, 19, 70000, 0xFFFFFFFF]),
            st.sampled_from([bytes(4), b"N\0\0\0", b"\x08\0\0\0", b"\x1a\0\0\0", b"\xff" * 4]),
        ),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_hostile_exif_never_harms_the_picture(encode_jpeg, entries):
    """Directories that point at themselves, at nothing, with any type and count."""
    data = encode_jpeg(b"Exif\0\0II*\0\x08\0\0\0" + directory(entries))
    loaded = load(data)
    assert {loaded.size, loaded.pixels.shape[1::-1]} <= {(12, 9), (9, 12)}
    assert (loaded.metadata.latitude is None) == (loaded.metadata.longitude is None)


@pytest.fixture(scope="module")
def encode_jpeg():
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (12, 9)).save(buffer, "JPEG")
    plain = buffer.getvalue()
    return lambda exif: plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
