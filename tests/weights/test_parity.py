"""Imported models beside the TensorFlow reference: the same features, up to the rounding of single precision.

The limits are those of the README beside the reference's files, several times what runs of TensorFlow differ by.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.features import Delf
from delf.images import read_image, resize
from delf.types import Features
from delf.weights import read_tensorflow

pytest.importorskip("torch")
pytest.importorskip("onnx")

MAP, SCORE, DESCRIPTOR, PIXEL = 2e-5, 3e-5, 5e-5, 1e-3
SMALL, ODD = "statue_200x301", "building_321x243"


@pytest.fixture(scope="module")
def extractors(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Delf]:
    """The extractor of a configuration, by its letter: "a" from its files, others with the network of those."""
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel

    path = tmp_path_factory.mktemp("imported") / "a.safetensors"

    @cache
    def made(letter: str) -> Delf:
        [config] = (parity / "configs").glob(f"{letter}_*.pbtxt")
        imported = read_tensorflow(parity / "model", config, letter)
        if letter == "a":
            DelfModel.from_arrays(imported.config, imported.arrays, imported.pca).save_pretrained(path)
            export_onnx(DelfModel.from_pretrained(path), path.with_suffix(".onnx"))
            return Delf.load(path.with_suffix(".onnx"), runtime="onnx", threads=1)
        runtime = copy.copy(made("a").runtime)
        runtime.config, runtime.pca = imported.config, imported.pca
        return Delf(runtime, threads=1)

    return made


def expected_of(parity: Path, photo: str) -> dict[str, Any]:
    with np.load(parity / "expected" / f"{photo}.npz", allow_pickle=False) as file:
        return dict(file)


def cells(keypoints: np.ndarray, scales: np.ndarray, factors: np.ndarray) -> list[tuple[float, ...]]:
    """What names a feature: its scale, and the column and row of its cell."""
    places = np.rint(keypoints * factors / scales[:, None] / 32).astype(int)
    return [(round(float(scale), 4), *place) for scale, place in zip(scales, places.tolist(), strict=True)]


def assert_equal(found: Features, expected: dict[str, Any], letter: str) -> None:
    factors = expected["d_scale_factors"][::-1] if letter == "d" else np.ones(2)
    keypoints, scales = expected[f"{letter}_locations"][:, ::-1], expected[f"{letter}_scales"]
    names = cells(keypoints, scales, factors)
    rows = {name: row for row, name in enumerate(cells(found.keypoints, found.scales, factors))}
    assert len(rows) == len(found) == len(names) and set(rows) == set(names)
    order = [rows[name] for name in names]  # scores that are all but equal may swap
    scores = expected[f"{letter}_scores"]
    np.testing.assert_allclose(found.keypoints[order], keypoints, rtol=0, atol=PIXEL)
    np.testing.assert_allclose(found.scales[order], scales, rtol=1e-6)
    np.testing.assert_allclose(found.scores[order], scores, rtol=0, atol=SCORE * scores.max())
    np.testing.assert_allclose(found.descriptors[order], expected[f"{letter}_descriptors"], rtol=0, atol=DESCRIPTOR)


@pytest.mark.parametrize("scale", ["1", "0.7071"])
@pytest.mark.parametrize("photo", [SMALL, ODD])
def test_maps(parity: Path, extractors: Callable[[str], Delf], photo: str, scale: str) -> None:
    expected, extractor = expected_of(parity, photo), extractors("a")
    image = read_image(parity / "images" / f"{photo}.png")
    height, width = (int(side) for side in expected[f"size_{scale}"])
    assert (width, height) in extractor.level_sizes(image)
    pixels = resize(image.astype(np.float32), (width, height), "tensorflow")
    if f"resized_{scale}" in expected:
        np.testing.assert_allclose((pixels - 128) / 128, expected[f"resized_{scale}"], rtol=0, atol=5e-7)
    output = extractor.runtime.run(pixels.transpose(2, 0, 1)[None])
    for given, wanted, limit in ((output.feature_map[0].transpose(1, 2, 0), expected[f"featmap_{scale}"], MAP),
                                 (output.attention[0], expected[f"attention_{scale}"], SCORE)):
        np.testing.assert_allclose(given, wanted, rtol=0, atol=limit * wanted.max())


@pytest.mark.parametrize(("letter", "photo"), [
    *((letter, SMALL) for letter in "abcde"), ("a", ODD), ("c", ODD), ("d", ODD), ("d", "tower_637x427"),
    ("e", "street_512x384")])
def test_features(parity: Path, extractors: Callable[[str], Delf], letter: str, photo: str) -> None:
    image = read_image(parity / "images" / f"{photo}.png")
    assert_equal(extractors(letter).extract(image), expected_of(parity, photo), letter)


def test_torch_finds_the_same(parity: Path, extractors: Callable[[str], Delf]) -> None:
    extractor = Delf.load(extractors("a").source, runtime="torch", threads=1)
    image = read_image(parity / "images" / f"{SMALL}.png")
    assert_equal(extractor.extract(image), expected_of(parity, SMALL), "a")


def test_what_is_reduced_first_is_reduced_as_there(parity: Path, extractors: Callable[[str], Delf]) -> None:
    expected = expected_of(parity, ODD)
    image = read_image(parity / "images" / f"{ODD}.png")
    height, width = (int(side) for side in expected["d_input_size"])
    assert np.array_equal(resize(image, (width, height), "pillow"), expected["d_input_uint8"])
    assert extractors("d").longest_side is None  # a photo is not decoded at a fraction of its size
    assert extractors("d").level_sizes(image)[0] == (width, height)
