"""ONNX files as trunks: what is found of them, what a model of one holds, and which files are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch
from own_trunks import Efficient, Patches, strided
from torch import Tensor, nn

from delf.errors import ModelError
from delf.features import Delf
from delf.images import read_image
from delf.models import PCA, ModelConfig
from delf.network.export import export_onnx
from delf.network.exports import export_torchscript
from delf.network.foreign import read_foreign
from delf.network.graph import OnnxTrunk, onnx_trunk
from delf.network.model import DelfModel
from delf.network.own import TrunkOptions, configured
from delf.network.quantise import quantise_onnx
from delf.network.tracing import traced

PICTURES, MAP = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 2: "rows", 3: "columns"}
TOKENS = TrunkOptions(stride=14, map_layout="tokens", tokens=1)


class Turned(nn.Module):
    """A network whose pictures and map have their channels last, as TensorFlow's have."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def network(kind: str) -> tuple[Any, TrunkOptions]:
    """The ONNX model of a kind of network, and what is to be said of it."""
    torch.manual_seed(0)
    if kind == "squeezed":
        made = traced(Efficient().eval(), (torch.zeros(1, 3, 64, 48),),
                      {"pixels": PICTURES, "fine": MAP, "coarse": MAP}, ["fine", "coarse"])
        return made, TrunkOptions(output="coarse", stride=8, channels=40, name="mine")
    if kind == "tokens":
        return traced(Patches(), (torch.zeros(1, 3, 28, 42),), {"pixels": PICTURES, "map": {0: "batch", 1: "tokens"}},
                      ["map"]), TOKENS
    if kind == "last":
        axes = {0: "batch", 1: "rows", 2: "columns"}
        return traced(Turned(strided("end")), (torch.zeros(1, 64, 48, 3),), {"pixels": axes, "map": axes}, ["map"],
                      opset=11), TrunkOptions(input_layout="nhwc", map_layout="nhwc")
    return traced(strided(), (torch.zeros(1, 3, 64, 48),), {"pixels": PICTURES, "map": MAP}, ["map"],
                  opset={"plain": 17, "newest": 22}[kind]), TrunkOptions()


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the network of a kind, changed by a function, into a folder of its own."""
    folder = tmp_path / "given"
    folder.mkdir()

    def write(kind: str = "plain", change: Callable[[Any], None] = lambda model: None) -> Path:
        model = network(kind)[0]
        change(model)
        onnx.save(model, folder / "net.onnx")
        return folder / "net.onnx"

    return write


def model_of(trunk: OnnxTrunk) -> DelfModel:
    torch.manual_seed(0)
    model = DelfModel(configured(trunk, ModelConfig("m", attention=True, attention_hidden=8, extraction={
        "scales": [0.5, 1.0], "dimensions": 16, "max_features": 100})))
    model.trunk.load_state_dict(trunk.state_dict())
    channels = model.config.channels
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(channels, 16)))[0].T
    model.pca = PCA(np.zeros(channels, np.float32), np.ascontiguousarray(rows, np.float32), np.ones(16, np.float32))
    return model.eval()


@pytest.mark.parametrize(("kind", "found"), [
    ("plain", (34, 8, 15, 0)), ("newest", (34, 8, 15, 0)), ("squeezed", (40, 8, 24, 0)), ("tokens", (36, 14, 42, 7)),
    ("last", (34, 8, 15, 7))])
def test_both_files_of_a_model_hold_all_of_it(kind: str, found: tuple[int, ...], file: Callable[..., Path],
                                              photos: Path, tmp_path: Path) -> None:
    given = file(kind)
    trunk = onnx_trunk(given, network(kind)[1])
    layout = trunk.layout
    assert (layout.channels, layout.stride, layout.size, layout.shift) == found
    digest = hashlib.sha256(given.read_bytes()).hexdigest()
    given.unlink()
    path, image = tmp_path / "own.safetensors", read_image(photos / "coffee.jpg")
    model_of(trunk).save_pretrained(path)
    model = DelfModel.from_pretrained(path)
    assert model.config.source == {"net.onnx": digest}
    export_onnx(model, path.with_suffix(".onnx"))
    features = [Delf.load(path, runtime=runtime, threads=2).extract(image) for runtime in ("torch", "onnx")]
    assert len(features[0]) == len(features[1]) == 100
    np.testing.assert_allclose(features[0].scores, features[1].scores, rtol=1e-4)
    with torch.no_grad():
        sides = trunk(torch.zeros(2, 3, 31, 45)).shape[2:]
    assert tuple(sides) == (-(-31 // layout.stride), -(-45 // layout.stride))
    fingerprints = {Delf.load(path, runtime=runtime, threads=1).identity["model"]["fingerprint"]
                    for runtime in ("torch", "onnx")}
    assert len(fingerprints) == 1
    with pytest.raises(ModelError, match="8 bits are for those alone"):
        quantise_onnx(path.with_suffix(".onnx"), [photos / "coffee.jpg"], tmp_path / "own-int8.onnx")
    with pytest.raises(ModelError, match="TorchScript cannot hold"):
        export_torchscript(model, tmp_path / "own.pt")


def test_openvino_reads_it(file: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path, image = tmp_path / "own.onnx", read_image(photos / "coffee.jpg")
    export_onnx(model_of(onnx_trunk(file("squeezed"), network("squeezed")[1])), path)
    found = [Delf.load(path, runtime=runtime, threads=1).extract(image) for runtime in ("onnx", "openvino")]
    np.testing.assert_allclose(found[0].scores, found[1].scores, rtol=1e-3)


def test_weights_beside_the_file_go_into_the_model(file: Callable[..., Path]) -> None:
    path = file()
    images = torch.randn(1, 3, 40, 40)
    expected = onnx_trunk(path)(images)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert path.with_name("weights.bin").stat().st_size > path.stat().st_size
    assert torch.equal(onnx_trunk(path)(images), expected)
    path.with_name("weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"weights beside .* cannot be read"):
        onnx_trunk(path)
    path.with_name("weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'weights.bin' beside it, which is not there"):
        onnx_trunk(path)


@pytest.mark.parametrize("place", ["../secret.bin", "{folder}/secret.bin", "link/secret.bin", "no\0name"])
def test_weights_elsewhere_are_not_read(file: Callable[..., Path], place: str, tmp_path: Path) -> None:
    path = file()
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    (path.parent / "link").symlink_to(tmp_path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, place.format(folder=tmp_path))
    tensor.ClearField("raw_data")
    onnx.save(model, path)
    with pytest.raises(ModelError, match="outside of its folder, and is not read"):
        onnx_trunk(path)


def of_one_size(model: Any) -> None:
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (224, 224), strict=True):
        axis.dim_value = size


def of_one_picture(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def with_own_operator(model: Any) -> None:
    model.graph.node[0].domain = "com.somebody"
    model.opset_import.append(onnx.helper.make_opsetid("com.somebody", 1))


def with_loop(model: Any) -> None:
    """A loop that never ends over what the network gives."""
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["going"], ["goes on"]), onnx.helper.make_node("Neg", ["state"], ["next"])],
        "body", [value("turn", onnx.TensorProto.INT64, []), value("going", onnx.TensorProto.BOOL, []),
                 value("state", onnx.TensorProto.FLOAT, None)],
        [value("goes on", onnx.TensorProto.BOOL, []), value("next", onnx.TensorProto.FLOAT, None)])
    last = model.graph.output[0].name
    model.graph.node[-1].output[0] = "before the loop"
    model.graph.node.append(onnx.helper.make_node("Loop", ["", "", "before the loop"], [last], body=body))


def of_whole_numbers(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    cast = onnx.helper.make_node("Cast", ["pixels"], ["real"], to=onnx.TensorProto.FLOAT)
    model.graph.node[0].input[0] = "real"
    model.graph.node.insert(0, cast)


def of_old_opset(model: Any) -> None:
    model.opset_import[0].version = 9


@pytest.mark.parametrize(("change", "words"), [
    (of_one_size, r"pictures of one size only \(any x 3 x 224 x 224\)"), (of_one_picture, r"\(1 x 3 x any x any\)"),
    (with_own_operator, "'com.somebody', which is none of the usual"), (with_loop, "computes in a loop"),
    (of_whole_numbers, "that are not float32 pictures"), (of_old_opset, "is of opset 9, and 11 is the oldest")])
def test_what_is_not_computed_is_refused(change: Callable[[Any], None], words: str, file: Callable[..., Path]) -> None:
    path = file("plain", change)
    with pytest.raises(ModelError, match=words) as error:
        onnx_trunk(path)
    assert str(error.value).startswith(str(path))


def test_the_graph_of_a_strangers_model_is_looked_through(file: Callable[..., Path], tmp_path: Path) -> None:
    trunk = onnx_trunk(file())
    model = model_of(trunk)
    hostile = onnx.load_model_from_string(trunk.graph.numpy().tobytes())
    with_loop(hostile)
    data = torch.frombuffer(bytearray(hostile.SerializeToString()), dtype=torch.uint8)
    model.config = configured(trunk, model.config)
    model.config.layout["graph"] = len(data)  # type: ignore[index]
    model.trunk.graph = data
    path = tmp_path / "own.safetensors"
    model.save_pretrained(path)
    with pytest.raises(ModelError, match="computes in a loop"):
        Delf.load(path, runtime="torch", threads=1).extract(np.zeros((64, 64, 3), np.uint8))


def test_a_damaged_file_is_a_sentence(file: Callable[..., Path]) -> None:
    path = file()
    whole = path.read_bytes()
    for data in (b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"damaged|no input|inputs|cannot be|of opset 0"):
            onnx_trunk(path)
    with pytest.raises(ModelError, match="cannot be read"):
        onnx_trunk(path.with_name("no.onnx"))


def test_of_several_outputs_one_is_named(file: Callable[..., Path]) -> None:
    path = file("squeezed")
    with pytest.raises(ModelError, match=r"has 2 outputs; say in \[trunk\] which .*, output = one of 'fine', 'coarse'"):
        read_foreign(path)
    with pytest.raises(ModelError, match="has no output 'last'; say"):
        read_foreign(path, taken="last")
    with pytest.raises(ModelError, match=r"has no input 'images'; say .* one of 'pixels'"):
        read_foreign(path, given="images", taken="fine")


def test_a_size_that_was_baked_in_is_a_sentence(file: Callable[..., Path]) -> None:
    class Baked(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(images, 8) * torch.ones(1, 1, 8, 6)

    path = file()
    onnx.save(traced(Baked(), (torch.zeros(1, 3, 64, 48),), {"pixels": PICTURES, "map": MAP}, ["map"]), path)
    with pytest.raises(ModelError, match=r"net.onnx fails for pictures of 448 x 224 pixels"):
        onnx_trunk(path)


def test_a_file_that_is_too_large_is_not_read(file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = file()
    monkeypatch.setattr("delf.network.foreign.LARGEST", 1000)
    with pytest.raises(ModelError, match="1,000 is the most"):
        onnx_trunk(path)
