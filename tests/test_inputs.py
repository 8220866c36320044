"""One kind of input everywhere: a path, bytes, a file object, a Pillow image, an array; and what is public is seen."""

from __future__ import annotations

import io
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import delf
from delf import Client, Collection, Delf, SearchEngine, match
from delf.errors import ImageError
from delf.features.rootsift import RootSiftExtractor
from delf.images import image_bytes, load, preview, read_image, read_reduced

KINDS = ("path", "text", "bytes", "file", "pillow", "array", "alpha")


def pillow_image(path: Path) -> Image.Image:
    """As opened from a file, which can be closed."""
    return Image.open(io.BytesIO(path.read_bytes()))


def given(kind: str, path: Path) -> Any:
    """The same photo, in the hands of a caller."""
    return {"path": lambda: path, "text": lambda: str(path), "bytes": path.read_bytes,
            "file": lambda: io.BytesIO(path.read_bytes()), "pillow": lambda: pillow_image(path),
            "array": lambda: read_image(path), "alpha": lambda: np.dstack([
                read_image(path), np.full(read_image(path).shape[:2], 255, np.uint8)])}[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_features(kind: str, photos: Path) -> None:
    sift = RootSiftExtractor(max_features=50, threads=1)
    wanted = sift.extract(read_image(photos / "camera.jpg"))
    found = sift.extract(given(kind, photos / "camera.jpg"))
    np.testing.assert_array_equal(found.descriptors, wanted.descriptors)
    assert found.image_size == wanted.image_size


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_matched_and_searched_with(kind: str, photos: Path, collection: Collection,
                                                 extractor: Delf) -> None:
    photo = given(kind, photos / "coffee.jpg")
    answer = SearchEngine(collection, extractor).search(photo, top=1)
    assert [Path(one.image).name for one in answer.results] == ["coffee.jpg"]
    assert answer.query == (str(photos / "coffee.jpg") if kind in ("path", "text") else "")
    found = match(given(kind, photos / "coffee.jpg"), photos / "coffee.jpg", extractor)
    assert found.inliers > 20
    assert (found.images is None) == (kind not in ("path", "text"))
    features = extractor.extract(given(kind, photos / "coffee.jpg"))
    assert features.image_size == read_reduced(photos / "coffee.jpg")[1]


def test_a_photo_with_an_orientation_is_turned_alike(tmp_path: Path, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(photos / "rocket.jpg") as photo:
        photo.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shapes = {kind: load(given(kind, tmp_path / "turned.jpg")).pixels.shape for kind in KINDS}
    assert len(set(shapes.values())) == 1
    assert shapes["pillow"][0] != read_image(photos / "rocket.jpg").shape[0]


def test_what_has_no_file_has_a_digest_of_its_pixels(photos: Path) -> None:
    pixels = read_image(photos / "cat.jpg")
    digests = {load(source).sha256 for source in (pixels, Image.fromarray(pixels), pixels.copy())}
    assert len(digests) == 1
    assert load(pixels[::-1]).sha256 not in digests
    assert load(pixels.reshape(pixels.shape[1], pixels.shape[0], 3)).sha256 not in digests


def test_bytes_to_send_are_those_of_the_file_or_have_the_very_pixels(photos: Path) -> None:
    path = photos / "coins.jpg"
    assert image_bytes(path) == image_bytes(io.BytesIO(path.read_bytes())) == path.read_bytes()
    pixels = read_image(path)
    np.testing.assert_array_equal(read_image(image_bytes(pixels)), pixels)


@pytest.mark.parametrize("wrong", [42, None, io.StringIO("text"), b"no picture", np.zeros((3, 30, 30), np.uint8),
                                   np.full((30, 30, 3), 2.0), np.zeros((1, 30, 30, 3), np.uint8),
                                   np.zeros((30, 30), np.int16)])
def test_what_is_no_image_is_refused_in_a_sentence(wrong: Any, extractor: Delf) -> None:
    with pytest.raises(ImageError, match=r"cannot be read|is not an image|does not give bytes|between 0 and 1"):
        extractor.extract(wrong)
    with pytest.raises(ImageError):
        match(wrong, wrong, extractor)


def test_a_preview_has_the_size_of_its_original(photos: Path) -> None:
    pixels = read_image(photos / "astronaut.jpg")
    height, width = pixels.shape[:2]
    small = preview(pixels, (3 * width, 3 * height), 64)
    assert max(load(small).pixels.shape) == 64
    assert load(small).size == (3 * width, 3 * height)
    assert read_image(small).shape == (3 * height, 3 * width, 3)
    with pytest.raises(ImageError, match="over the limit"):
        read_image(preview(pixels, (999_999, 999_999), 64))


def test_what_is_public_is_seen() -> None:
    assert {name for name in dir(delf) if not name.startswith("__")} == set(delf.__all__)
    code = "import delf, sys; dir(delf); sys.exit(any(name in sys.modules for name in ('cv2', 'torch', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    text = pydoc.plain(pydoc.render_doc(delf))
    for name in ("class Collection", "class SearchEngine", "class Delf", "match(image0"):
        assert name in text, f"help(delf) does not show {name}"


def test_objects_say_what_they_are(collection: Collection, extractor: Delf) -> None:
    assert repr(collection).startswith("Collection('") and "12 images" in repr(collection)
    assert repr(collection.snapshot).startswith("Snapshot('") and "model 'delf-r18'" in repr(collection.snapshot)
    assert repr(SearchEngine(collection, extractor)).endswith("method 'delf-asmk', 12 images, model 'delf-r18')")
    assert repr(extractor).startswith("Delf('delf-r18', runtime 'onnx")
    assert repr(Client("http://127.0.0.1:8000/")) == "Client('http://127.0.0.1:8000')"
