"""A model in 8 bits gives nearly the features of the exact one, and counts as the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.errors import ModelError
from delf.features import Delf
from delf.images import read_image
from delf.models import find_model, packaged_models
from delf.search import SearchEngine

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def quantised(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from delf.network.quantise import quantise_onnx

    target = tmp_path_factory.mktemp("int8") / "m.onnx"
    quantise_onnx(find_model().require("onnx"), sorted(photos.glob("*.jpg")), target, count=6)
    return target


def test_the_file_is_small_and_the_same_model(quantised: Path) -> None:
    assert [path.name for path in quantised.parent.iterdir()] == ["m.onnx"]
    assert quantised.stat().st_size < 0.65 * find_model().require("onnx").stat().st_size
    convolutions = [node for node in onnx.load(quantised).graph.node if node.op_type == "Conv"]
    trunk = [node for node in convolutions if node.name.startswith("/trunk/")]
    assert len(trunk) == len(convolutions) - 2, "the attention has two of its own"
    assert all(name.endswith("DequantizeLinear_Output") for node in trunk for name in node.input[:2])
    assert Delf.load(quantised).identity == Delf.load().identity


@pytest.mark.parametrize("name", [name for name in packaged_models() if name.endswith("-int8")])
def test_packaged_files_in_8_bits(name: str, photos: Path, queries: Any, tmp_path: Path) -> None:
    """They are of the model without the suffix, whose collections they search."""
    exact, quantised = Delf.load(name.removesuffix("-int8")), Delf.load(name)
    assert quantised.identity == exact.identity
    with Collection.create(tmp_path / "places.delf", exact) as collection:
        collection.add([photos])
        engine = SearchEngine(collection, quantised)
        for query in queries.values():
            answer = engine.search(query.path, top=1)
            assert answer.match
            assert answer.results[0].image in query.transforms


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_features_are_nearly_those_of_the_exact_model(quantised: Path, photos: Path, runtime: str) -> None:
    image = read_image(photos / "astronaut.jpg")
    expected = Delf.load(runtime="onnx").extract(image)
    found = Delf.load(quantised, runtime=runtime).extract(image)
    rows = [{tuple(place): row for row, place in enumerate(np.column_stack([one.keypoints, one.scales]).tolist())}
            for one in (expected, found)]
    common = [*set(rows[0]) & set(rows[1])]
    assert len(common) > 0.9 * len(expected)
    cosines = [expected.descriptors[rows[0][place]] @ found.descriptors[rows[1][place]] for place in common]
    assert np.mean(cosines) > 0.99
    assert np.mean(cosines) < 0.99999, "it does compute in 8 bits"


def test_the_same_photos_give_the_same_file(quantised: Path, photos: Path, tmp_path: Path,
                                            capfd: pytest.CaptureFixture[str]) -> None:
    from delf.network.quantise import quantise_onnx

    quantise_onnx(find_model().require("onnx"), sorted(photos.glob("*.jpg")), tmp_path / "m.onnx", count=6)
    assert (tmp_path / "m.onnx").read_bytes() == quantised.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_photos_that_cannot_be_read_are_passed_over(quantised: Path, photos: Path, tmp_path: Path) -> None:
    from delf.network.quantise import quantise_onnx

    (tmp_path / "no.jpg").write_bytes(b"no image")
    told: list[str] = []
    quantise_onnx(find_model().require("onnx"), [tmp_path / "no.jpg", photos / "cat.jpg"], tmp_path / "m.onnx",
                  report=told.append)
    assert len(told) == 1
    assert "no.jpg" in told[0]
    assert len(Delf.load(tmp_path / "m.onnx").extract(read_image(photos / "cat.jpg"))) > 50


@pytest.mark.parametrize("refused", ["twice", "no photos", "no image"])
def test_what_is_refused(quantised: Path, photos: Path, tmp_path: Path, refused: str) -> None:
    from delf.errors import DelfError
    from delf.network.quantise import quantise_onnx

    (tmp_path / "no.jpg").write_bytes(b"no image")
    model, images, words = {
        "twice": (quantised, [photos / "cat.jpg"], "in 8 bits already"),
        "no photos": (find_model().require("onnx"), [], "no photo that can be read"),
        "no image": (find_model().require("onnx"), [tmp_path / "no.jpg"], "no photo that can be read")}[refused]
    with pytest.raises(DelfError, match=words):
        quantise_onnx(model, images, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    from delf.network.quantise import quantise_onnx

    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"m\.onnx cannot be read"):
        quantise_onnx(tmp_path / "m.onnx", [tmp_path / "x.jpg"], tmp_path / "n.onnx")
    identity = onnx.helper.make_node("Identity", ["images"], ["out"], name="identity")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([identity], "g", [], [])), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx has no trunk"):
        quantise_onnx(tmp_path / "m.onnx", [tmp_path / "x.jpg"], tmp_path / "n.onnx")
