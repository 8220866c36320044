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
COUNT = 4  # of photos


@pytest.fixture(scope="module")
def quantised(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("int8") / "m.onnx"
    _quantise(photos, target)
    return target


def _quantise(photos: Path, target: Path) -> list[str]:
    """The packaged model, by a few photos and before them a file that is none; what was reported."""
    from delf.network.quantise import quantise_onnx

    told: list[str] = []
    files = sorted(photos.glob("*.jpg"))
    files[int(np.random.default_rng(0).permutation(len(files))[0])] = photos / "no.jpg"  # the first that is drawn
    quantise_onnx(find_model().require("onnx"), files, target, count=COUNT, report=told.append)
    return told


def test_the_file_is_small_and_the_same_model(quantised: Path) -> None:
    assert [path.name for path in quantised.parent.iterdir()] == ["m.onnx"]
    assert quantised.stat().st_size < 0.65 * find_model().require("onnx").stat().st_size
    convolutions = [node for node in onnx.load(quantised).graph.node if node.op_type == "Conv"]
    trunk = [node for node in convolutions if node.name.startswith("/trunk/")]
    assert len(trunk) == len(convolutions) - 2, "the attention has two of its own"
    assert all(name.endswith("DequantizeLinear_Output") for node in trunk for name in node.input[:2])
    assert Delf.load(quantised).identity == Delf.load().identity


PACKAGED = [name for name in packaged_models() if name.endswith("-int8")]


@pytest.mark.parametrize("name", [*PACKAGED, None])
def test_no_processor_cuts_off_a_sum(name: str | None, quantised: Path) -> None:
    """Without VNNI two products of an activation from 0 to 255 and a weight are added in 16 bits, any two that meet."""
    graph = onnx.load(quantised if name is None else find_model(name).require("onnx")).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.name.startswith("/trunk/")]
    weights = [stored[made_by[node.input[1]].input[0]] for node in convolutions
               if node.input[1] in made_by]
    of_single_channels = 1 if name == "delf-lite-int8" else 0  # see below
    assert len(weights) == len(convolutions) - of_single_channels >= 15
    for one in weights:
        assert one.dtype == np.int8
        largest = np.sort(np.abs(one.reshape(len(one), -1).astype(np.int64)), axis=1)[:, -2:]
        assert 255 * largest.sum(axis=1).max() <= np.iinfo(np.int16).max
        assert largest.max() > 60, "all of the range is used"


@pytest.mark.parametrize("name", PACKAGED)
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
    """On every processor, as whole numbers are added up alike on all (`test_no_processor_cuts_off_a_sum`)."""
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
    """Photos that cannot be read are passed over, and told of."""
    told = _quantise(photos, tmp_path / "m.onnx")
    assert len(told) == 1
    assert "no.jpg" in told[0]
    assert (tmp_path / "m.onnx").read_bytes() == quantised.read_bytes()
    assert capfd.readouterr() == ("", "")


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


def test_convolutions_of_single_channels_stay_as_they_are(photos: Path, tmp_path: Path) -> None:
    """They are the one kind in a joined trunk whose weights are not rounded."""
    from delf.models import PCA, ModelConfig
    from delf.network.export import export_onnx
    from delf.network.model import DelfModel
    from delf.network.quantise import quantise_onnx

    pca = PCA(np.zeros(256, np.float32), np.eye(256, dtype=np.float32)[:8], np.ones(8, np.float32))
    export_onnx(DelfModel(ModelConfig("thin", trunk="lowrank18", stride=8), pca).eval(), tmp_path / "thin.onnx")
    quantise_onnx(tmp_path / "thin.onnx", sorted(photos.glob("*.jpg")), tmp_path / "int8.onnx", count=1)
    whole = {node.name for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "Conv"
             and node.name.startswith("/trunk/") and not node.input[1].endswith("DequantizeLinear_Output")}
    assert whole == {"/trunk/conv_join/Conv"}
