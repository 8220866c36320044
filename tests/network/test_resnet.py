"""Trunks: torchvision's names and numbers, shapes, folding, and other people's weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from delf.errors import ModelError
from delf.models import TRUNKS, TrunkLayout
from delf.network.resnet import ResNetTrunk, SamePool, fold_batch_norm, unfold_batch_norm

# Parameters of torchvision's models, without the classifier (512 or 2048 inputs, 1000 classes).
PARAMETERS = {"resnet18": 11_689_512 - 513_000, "resnet34": 21_797_672 - 513_000,
              "resnet50": 25_557_032 - 2_049_000, "resnet101": 44_549_160 - 2_049_000,
              "slim50": 25_557_032 - 2_049_000, "slim101": 44_549_160 - 2_049_000, "keras50": 25_557_032 - 2_049_000,
              "keras101": 44_549_160 - 2_049_000, "resnet18-conv5": 11_689_512 - 513_000}
LAYOUTS = {name: layout for name, layout in TRUNKS.items() if isinstance(layout, TrunkLayout) and not layout.joined}
RESNETS = list(LAYOUTS)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names(layout: TrunkLayout, stages: int) -> Iterator[str]:
    """The keys of a torchvision ResNet's state dict, without the classifier, from its naming scheme."""
    yield "conv1.weight"
    yield from (f"bn1.{name}" for name in NORM)
    for stage, units in enumerate(layout.units[:stages], start=1):
        for unit in range(units):
            prefix = f"layer{stage}.{unit}"
            for number in (1, 2, 3) if layout.bottleneck else (1, 2):
                yield f"{prefix}.conv{number}.weight"
                yield from (f"{prefix}.bn{number}.{name}" for name in NORM)
            if unit == 0 and (stage > 1 or layout.bottleneck):
                yield f"{prefix}.downsample.0.weight"
                yield from (f"{prefix}.downsample.1.{name}" for name in NORM)


@pytest.mark.parametrize("name", RESNETS)
def test_names_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        layout = LAYOUTS[name]
        assert list(ResNetTrunk(name).state_dict()) == list(torchvision_names(layout, layout.stages))
        whole = ResNetTrunk(name, conv5=layout.stages == 3)
    assert list(whole.state_dict()) == list(torchvision_names(layout, 4))
    assert sum(parameter.numel() for parameter in whole.parameters()) == PARAMETERS[name]


def test_the_imagenet_file_fits(shared: Path) -> None:
    state = load_file(shared / "weights" / "resnet18_imagenet_to_layer3.safetensors")
    trunk = ResNetTrunk("resnet18")
    assert set(state) == set(trunk.state_dict())
    trunk.load_torchvision(state)
    for key, tensor in trunk.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, state[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 47), (1, 17), (33, 16)])
def test_shapes(name: str, height: int, width: int) -> None:
    layout = LAYOUTS[name]
    with torch.device("meta"):
        trunk = ResNetTrunk(name, conv5=layout.stages == 3).eval()
        feature_map = trunk(torch.zeros(2, 3, height, width))
    rows, columns = -(-height // layout.strides[0]), -(-width // layout.strides[0])
    assert feature_map.shape == (2, layout.channels, rows, columns)
    if layout.stages == 4:  # it is of conv5 itself
        return
    with torch.device("meta"):
        conv5 = trunk.forward_conv5(feature_map)
    halved = 1 if layout.strided_last else 2
    assert conv5.shape == (2, 2 * layout.channels, -(-rows // halved), -(-columns // halved))


def test_the_stride_of_a_bottleneck_is_in_its_3x3_convolution() -> None:
    with torch.device("meta"):
        unit = ResNetTrunk("resnet50").get_submodule("layer2.0")
    assert [unit.get_submodule(f"conv{i}").stride for i in (1, 2, 3)] == [(1, 1), (2, 2), (1, 1)]


def test_the_stride_of_slim_is_in_the_last_unit() -> None:
    with torch.device("meta"):
        trunk = ResNetTrunk("slim50", conv5=True)
    strided = [name for name, module in trunk.named_modules() if name.endswith("conv2") and module.stride == (2, 2)]
    assert strided == ["layer1.2.conv2", "layer2.3.conv2", "layer3.5.conv2"]
    values = torch.arange(35.0).reshape(1, 1, 5, 7)
    assert torch.equal(trunk.get_submodule("layer1.2.downsample")(values), values[:, :, ::2, ::2])


@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 8), (6, 9), (7, 9), (1, 2)])
def test_the_maximum_is_padded_as_tensorflow_does(height: int, width: int) -> None:
    """Where a side is even, windows begin at its first cell; where it is odd, one in front of it."""
    values = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(0))
    pooled = SamePool()(values)
    assert pooled.shape == (1, 2, -(-height // 2), -(-width // 2))
    for row in range(pooled.shape[2]):
        for column in range(pooled.shape[3]):
            top, left = 2 * row - height % 2, 2 * column - width % 2
            window = values[:, :, max(0, top) : top + 3, max(0, left) : left + 3]
            assert torch.equal(pooled[:, :, row, column], window.amax(dim=(2, 3)))


def test_conv5_needs_to_be_asked_for() -> None:
    with torch.device("meta"):
        trunk, whole = ResNetTrunk("resnet18"), ResNetTrunk("resnet18", conv5=True)
    assert (trunk.has_conv5, whole.has_conv5) == (False, True)
    with pytest.raises(AttributeError, match="layer4"):
        trunk.forward_conv5(torch.zeros(1, 256, 2, 2, device="meta"))


@pytest.mark.parametrize("trunk", ["resnet18", "resnet50"])
def test_folding_leaves_the_function(make_model: Any, pictures: Any, trunk: str) -> None:
    original = make_model(trunk=trunk).trunk.double()
    before = copy.deepcopy(original.state_dict())
    folded = fold_batch_norm(original)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    images = pictures.double() / 100
    with torch.inference_mode():
        expected = original(images)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)
        unfolded = ResNetTrunk(trunk).eval().double()
        unfolded.load_state_dict(unfold_batch_norm(folded), strict=False)
        torch.testing.assert_close(unfolded(images), expected, rtol=1e-9, atol=1e-9)
    for key, tensor in original.state_dict().items():  # the given trunk is as it was
        assert torch.equal(tensor, before[key])


def test_unfolded_names_are_all_but_the_counters(small: Any) -> None:
    names = {key for key in small.trunk.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(unfold_batch_norm(fold_batch_norm(small.trunk))) == names


def test_classifier_and_conv5_are_left_aside(make_model: Any) -> None:
    torch.manual_seed(1)
    state = {**ResNetTrunk("resnet18", conv5=True).state_dict(), "fc.weight": torch.zeros(1000, 512),
             "fc.bias": torch.zeros(1000)}
    trunk = ResNetTrunk("resnet18")
    trunk.load_torchvision(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in trunk.state_dict().items())


def test_old_files_without_counters_load(small: Any) -> None:
    state = {key: tensor for key, tensor in small.trunk.state_dict().items() if not key.endswith("num_batches_tracked")}
    trunk = ResNetTrunk("resnet18")
    trunk.load_torchvision(state)
    assert torch.equal(trunk.bn1.running_var, state["bn1.running_var"])


def test_foreign_weights_are_a_sentence_and_change_nothing(small: Any) -> None:
    state = small.trunk.state_dict()
    missing = {key: tensor for key, tensor in state.items() if key != "layer2.0.downsample.0.weight"}
    reshaped = {**state, "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
    prefixed = {f"module.{key}": tensor for key, tensor in state.items()}
    trunk = ResNetTrunk("resnet18")
    before = copy.deepcopy(trunk.state_dict())
    for weights, sentence in ((missing, r"1 tensors .*'layer2\.0\.downsample\.0\.weight'"), ({}, "'conv1.weight'"),
                              (reshaped, r"'layer1\.0\.conv1\.weight'"), (prefixed, "check the name of the architec")):
        with pytest.raises(ModelError, match=sentence):
            trunk.load_torchvision(weights)
    with pytest.raises(ModelError, match="check the name of the architecture"):
        ResNetTrunk("resnet34").load_torchvision(state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in trunk.state_dict().items())
