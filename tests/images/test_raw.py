"""RAW files of cameras: the preview in them, or the mosaic where there is none."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from raw_files import dng

from delf.errors import ImageError
from delf.images import ImageOptions, load, read_image, read_metadata
from delf.types import ImageArray

pytest.importorskip("rawpy")


def encoded(pixels: ImageArray, exif: Image.Exif | None = None) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, exif=exif or Image.Exif())
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo() -> ImageArray:
    """Dark, with a bright upper left quarter: it says which way up it is."""
    pixels = np.full((480, 720, 3), 40, np.uint8)
    pixels[:240, :360] = 220
    return pixels


def test_the_preview_is_read(photo: ImageArray) -> None:
    assert np.abs(read_image(dng(encoded(photo), (720, 480))).astype(int) - photo).max() < 30


@pytest.mark.parametrize("orientation, bright", [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)),
                                                 (6, (0, 1)), (7, (1, 1)), (8, (1, 0))])
def test_it_is_upright(photo: ImageArray, orientation: int, bright: tuple[int, int]) -> None:
    developed = load(dng(None, sensor=(320, 240), orientation=orientation))
    assert developed.size == developed.pixels.shape[1::-1] == ((160, 120) if orientation < 5 else (120, 160))
    found = read_image(dng(encoded(photo), (720, 480), sensor=(72, 48), orientation=orientation))
    assert found.shape == ((480, 720, 3) if orientation < 5 else (720, 480, 3))
    height, width = found.shape[:2]
    quarters = [[found[:height // 2, :width // 2].mean(), found[:height // 2, width // 2:].mean()],
                [found[height // 2:, :width // 2].mean(), found[height // 2:, width // 2:].mean()]]
    assert np.unravel_index(np.argmax(quarters), (2, 2)) == bright


def test_a_preview_that_is_upright_already_stays_so(photo: ImageArray) -> None:
    lying = np.ascontiguousarray(np.rot90(photo))
    assert read_image(dng(encoded(lying), (480, 720), sensor=(720, 480), orientation=6)).shape == (720, 480, 3)


def test_it_has_the_camera_and_is_known_by_the_whole_file(photo: ImageArray) -> None:
    first, second = (load(dng(encoded(photo), (720, 480), model=model)) for model in ("Testcam One", "Testcam Two"))
    assert first.metadata.camera == "Testcam One" and first.size == (720, 480)
    assert first.sha256 != second.sha256
    assert read_metadata(dng(encoded(photo), (720, 480), orientation=6, sensor=(720, 480))).width == 480


def test_large_previews_are_decoded_at_a_fraction(photo: ImageArray) -> None:
    found = load(dng(encoded(photo), (720, 480)), shrink_to=200)
    assert found.pixels.shape == (240, 360, 3) and found.size == (720, 480)


@pytest.mark.parametrize("preview", [None, (16, 24)])
def test_without_a_preview_worth_looking_at_the_mosaic_is_developed(preview: tuple[int, int] | None) -> None:
    small = None if preview is None else encoded(np.full((*preview, 3), 9, np.uint8))
    found = load(dng(small, (24, 16), sensor=(320, 240), orientation=6))
    assert found.size == (120, 160) and found.pixels.shape == (160, 120, 3) and found.pixels.std() > 5


def test_a_preview_that_is_no_jpeg_is_not_taken(photo: ImageArray) -> None:
    found = load(dng(photo.tobytes(), (720, 480), sensor=(800, 600), bitmap=True))
    assert found.size == (400, 300)
    odd = load(dng(b"no picture at all" * 200, (720, 480), sensor=(800, 600)))
    assert odd.size == (400, 300)


@pytest.mark.parametrize("length", [9, 200, 4000, -500, -2000])
def test_a_file_that_is_cut_short_is_told(photo: ImageArray, tmp_path, length: int) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(encoded(photo), (720, 480), sensor=(72, 48))[:length])
    with pytest.raises(ImageError, match=r"a\.dng"):
        read_image(path)


@pytest.mark.parametrize("kept", [0.95, 0.5, 0.1])
def test_a_mosaic_that_is_cut_short_is_not_developed(tmp_path, kept: float) -> None:
    """LibRaw would make what is missing black, without a word."""
    size, path = (320, 240), tmp_path / "a.dng"
    whole = dng(None, sensor=size)
    missing = int((1 - kept) * 2 * size[0] * size[1])  # the directory is behind the mosaic: its end is shifted out
    path.write_bytes(whole.replace(np.uint32(2 * size[0] * size[1]).tobytes(),
                                   np.uint32(2 * size[0] * size[1] + missing + 999).tobytes()))
    with pytest.raises(ImageError, match=r"a\.dng is a RAW file of a camera that cannot be read \(it ends too early\)"):
        read_image(path)
    path.write_bytes(whole)
    assert read_image(path).shape == (120, 160, 3)


def test_a_camera_is_named_up_to_a_zero(photo: ImageArray) -> None:
    assert load(dng(encoded(photo), (720, 480), model="Testcam One\0\x01rest\0")).metadata.camera == "Testcam One"


def test_hostile_bytes_end_in_a_sentence(photo: ImageArray) -> None:
    whole = dng(encoded(photo), (720, 480), sensor=(72, 48))
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[len(damaged) - 600 + rng.integers(0, 600, 8)] = rng.integers(0, 256, 8)  # where the directories are
        with suppress(ImageError):
            assert read_image(damaged.tobytes()).dtype == np.uint8


def test_sizes_are_looked_up_before(photo: ImageArray) -> None:
    with pytest.raises(ImageError, match="over the limit"):
        read_image(dng(encoded(photo), (720, 480)), options=ImageOptions(max_pixels=1000))
    with pytest.raises(ImageError, match="over the limit"):
        read_image(dng(None, sensor=(320, 240)), options=ImageOptions(max_pixels=1000))


def test_they_can_be_refused(photo: ImageArray) -> None:
    with pytest.raises(ImageError, match="not read here: develop it"):
        read_image(dng(encoded(photo), (720, 480)), options=ImageOptions(raw=False))


def test_without_the_extra_it_is_named(photo: ImageArray, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"pip install 'delf-retrieval\[raw\]'"):
        read_image(dng(encoded(photo), (720, 480)))


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypcrx ", b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0",
                                  b"\0MRM\0\0", b"FOVb\0\0", b"II\x1a\0\0\0HEAPCCDR"])
def test_other_makers_files_are_known_by_their_first_bytes(head: bytes) -> None:
    with pytest.raises(ImageError, match="RAW file of a camera that cannot be read"):
        read_image(head + bytes(300))
