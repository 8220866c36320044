"""Trunks that are no ResNets: their geometry is that of ResNets, and all that a model goes through takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from delf.errors import ModelError
from delf.features import Delf
from delf.images import read_image
from delf.models import TRUNKS, ModelConfig, TrunkLayout
from delf.models.receptive_field import receptive_field
from delf.network.export import export_onnx
from delf.network.model import DelfModel
from delf.network.patches import in_whole_patches
from delf.network.quantise import quantise_onnx
from delf.network.resnet import fold_batch_norm, unfold_batch_norm
from delf.network.trunk import Trunk
from delf.network.trunks import KINDS, trunk_of

OTHERS = [name for name, layout in TRUNKS.items() if not isinstance(layout, TrunkLayout)]
SMALL = ("convnext-atto", "deit-tiny")


def test_every_kind_is_looked_at() -> None:
    assert {type(TRUNKS[name]) for name in SMALL} == set(KINDS)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 47), (1, 17), (14, 15), (99, 7)])
def test_a_map_has_a_cell_for_each_begun_stride(name: str, height: int, width: int) -> None:
    layout = TRUNKS[name]
    [stride] = layout.strides
    with torch.device("meta"):
        feature_map = trunk_of(name).eval()(torch.zeros(2, 3, height, width))
    assert feature_map.shape == (2, layout.channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", SMALL)
def test_a_cell_sees_what_lies_around_stride_times_its_number(name: str) -> None:
    """By the gradient; of a transformer without its blocks, in which every token sees every other one."""
    torch.manual_seed(0)
    trunk, field = trunk_of(name).double().eval(), receptive_field(name)
    size, first = field.size, field.padding
    if name == "deit-tiny":
        trunk.blocks = torch.nn.Sequential()
        size, first = field.stride, field.stride // 2  # its own patch
    row, side = 26, 52 * field.stride - 5
    image = torch.randn(1, 3, 40, side, dtype=torch.float64).requires_grad_()
    trunk(image)[0, :, 1, row].square().sum().backward()
    assert image.grad is not None
    seen = np.flatnonzero(image.grad.abs().sum(dim=(0, 1, 2)).numpy())
    assert (seen[0], seen[-1]) == (row * field.stride - first, row * field.stride - first + size - 1)


@pytest.mark.parametrize("name", SMALL)
def test_published_weights_load_by_their_names(name: str) -> None:
    torch.manual_seed(0)
    one, other = trunk_of(name).eval(), trunk_of(name).eval()
    state = {**one.state_dict(), "head.weight": torch.zeros(1000, 3), "mask_token": torch.zeros(1, 3)}
    other.load_published(state)
    image = torch.rand(1, 3, 50, 70)
    assert torch.equal(one(image), other(image))
    names = {"convnext-atto": ("downsample_layers.0.0.weight", "stages.2.5.dwconv.weight", "stages.0.1.gamma"),
             "deit-tiny": ("patch_embed.proj.weight", "blocks.11.attn.qkv.weight", "pos_embed", "norm.bias")}[name]
    assert set(names) <= set(state)
    del state[names[0]]
    with pytest.raises(ModelError, match=rf"1 tensors are missing.*'{names[0]}'"):
        other.load_published(state)


def test_dinov2_has_the_parameters_of_its_files() -> None:
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in trunk_of("dinov2-small").state_dict().items()}
    assert shapes["pos_embed"] == (1, 1370, 384)
    assert shapes["blocks.0.ls1.gamma"] == (384,)
    assert shapes["patch_embed.proj.weight"] == (384, 3, 14, 14)
    assert sum(np.prod(shape) for shape in shapes.values()) == pytest.approx(22.06e6, rel=0.001)  # as published, 22 M


@pytest.mark.parametrize("name", SMALL)
def test_there_is_nothing_to_fold(name: str) -> None:
    trunk = trunk_of(name).eval()
    folded = fold_batch_norm(trunk)
    assert folded is not trunk
    assert unfold_batch_norm(folded).keys() == trunk.state_dict().keys()


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_saved_exported_and_extracts(name: str, make_model: Callable[..., Any], photos: Path,
                                                tmp_path: Path) -> None:
    model = make_model(trunk=name, stride=TRUNKS[name].strides[0], attention=True, attention_hidden=8,
                       extraction={"scales": [0.5, 1.0], "dimensions": 16, "max_features": 200})
    path = tmp_path / "own.safetensors"
    model.save_pretrained(path)
    single = "trunk.norm.bias" if name == "deit-tiny" else "trunk.stages.0.0.gamma"
    assert load_file(path)[single].dtype == torch.float32
    loaded = DelfModel.from_pretrained(path)
    export_onnx(loaded, path.with_suffix(".onnx"))
    with pytest.raises(ModelError, match="8 bits are for those alone"):
        quantise_onnx(path.with_suffix(".onnx"), [photos / "coffee.jpg"], tmp_path / "own-int8.onnx")
    image = read_image(photos / "coffee.jpg")
    found = [Delf.load(path, runtime=runtime, threads=1).extract(image) for runtime in ("torch", "onnx")]
    assert len(found[0]) == len(found[1]) == 200
    np.testing.assert_allclose(found[0].scores, found[1].scores, rtol=1e-3)
    same = (found[0].keypoints[:, None] == found[1].keypoints[None]).all(axis=2)
    assert same.any(axis=1).mean() > 0.95  # but for ties
    rows, columns = np.nonzero(same)
    cosines = np.einsum("nd,nd->n", found[0].descriptors[rows], found[1].descriptors[columns])
    assert np.median(cosines) > 0.999


def test_what_only_resnets_have_is_refused() -> None:
    for config in ({"conv5": True}, {"padding": "tensorflow"}):
        with pytest.raises(ModelError, match="both are of ResNets"):
            ModelConfig("m", trunk="deit-tiny", **config)
    with pytest.raises(ModelError, match="the stride of a dinov2-small is 14, not 16"):
        ModelConfig("m", trunk="dinov2-small")
    with pytest.raises(ModelError, match="only ResNets have a stage conv5"):
        trunk_of("deit-tiny").forward_conv5(torch.zeros(1))


@dataclass(frozen=True)
class OwnLayout:
    """Of a network of someone's own."""

    channels: int = 24
    strides: tuple[int, ...] = (8,)
    layers: tuple[tuple[int, int, int], ...] = ((8, 8, 0), (3, 1, 1))


class OwnTrunk(Trunk):
    def __init__(self, layout: OwnLayout) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, layout.channels, 8, stride=8)
        self.mixed = torch.nn.Conv2d(layout.channels, layout.channels, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mixed(torch.relu(self.patches(in_whole_patches(images, 8))))


def test_a_trunk_of_ones_own_becomes_a_model_for_everybody(make_model: Callable[..., Any], photos: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.safetensors"
    with pytest.raises(ModelError, match="unknown trunk 'own'"):
        ModelConfig("m", trunk="own", stride=8)
    with monkeypatch.context() as patch:
        patch.setitem(TRUNKS, "own", OwnLayout())
        patch.setitem(KINDS, OwnLayout, OwnTrunk)
        model = make_model(trunk="own", stride=8, extraction={"scales": [0.5], "dimensions": 16, "max_features": 50})
        model.save_pretrained(path)
        export_onnx(DelfModel.from_pretrained(path), path.with_suffix(".onnx"))
        image = read_image(photos / "cat.jpg")
        expected = Delf.load(path, runtime="torch", threads=1)
        before = expected.extract(image), expected.patch_size
    found = Delf.load(path, runtime="onnx", threads=1)  # where nobody knows the network
    assert found.patch_size == before[1] == 24
    np.testing.assert_allclose(found.extract(image).scores, before[0].scores, rtol=1e-3)
    with pytest.raises(ModelError, match="the trunk 'own' does not come with the package: use the ONNX file"):
        Delf.load(path, runtime="torch")


@pytest.mark.parametrize("layout", [{}, {"channels": 3}, {"channels": 3, "size": 9, "padding": 0},
                                    {"channels": 10**9, "size": 9, "padding": 4},
                                    {"channels": 3, "size": 9, "padding": 1.5},
                                    {"channels": 3, "size": 9, "padding": 4, "more": 1}])
def test_a_stranger_describes_a_trunk_within_bounds(layout: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        ModelConfig("m", trunk="own", stride=8, layout=layout)
