"""The thin trunk: its shapes, folding, and a start that takes channels of a wide one."""

from __future__ import annotations

import pytest
import torch

from delf.errors import ModelError
from delf.models import TRUNKS, ModelConfig
from delf.network.joined import JoinedTrunk, take_channels
from delf.network.resnet import BasicBlock, ResNetTrunk, fold_batch_norm, unfold_batch_norm
from delf.network.trunks import trunk_of


@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 47), (1, 17), (33, 16), (9, 8)])
def test_shapes(height: int, width: int) -> None:
    with torch.device("meta"):
        feature_map = trunk_of("thin18").eval()(torch.zeros(2, 3, height, width))
    assert feature_map.shape == (2, TRUNKS["thin18"].channels, -(-height // 8), -(-width // 8))


def test_only_joined_layouts_have_a_joined_trunk() -> None:
    with torch.device("meta"):
        assert {name for name in TRUNKS if isinstance(trunk_of(name), JoinedTrunk)} == {"thin18"}


def test_its_stride_is_8() -> None:
    assert ModelConfig("thin", trunk="thin18", stride=8).channels == 256
    with pytest.raises(ModelError, match="the stride of a thin18 is 8, not 16"):
        ModelConfig("thin", trunk="thin18", stride=16)


def test_folding_leaves_the_function() -> None:
    torch.manual_seed(0)
    trunk = trunk_of("thin18").double().train()
    for _ in range(3):
        trunk(torch.randn(2, 3, 64, 64, dtype=torch.float64))  # batch norms with statistics of their own
    trunk.eval()
    images = torch.randn(1, 3, 57, 72, dtype=torch.float64)
    with torch.inference_mode():
        expected, folded = trunk(images), fold_batch_norm(trunk)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)
        unfolded = trunk_of("thin18").eval().double()
        unfolded.load_state_dict(unfold_batch_norm(folded), strict=False)
        torch.testing.assert_close(unfolded(images), expected, rtol=1e-9, atol=1e-9)


def test_the_largest_channels_are_taken_and_fit_each_other() -> None:
    """Of a wide trunk that uses half of its channels, the thin one computes the very output."""
    torch.manual_seed(0)
    wide, thin = ResNetTrunk("resnet18").eval(), trunk_of("thin18").eval()
    used = {64: torch.randperm(64)[:32].sort().values, 128: torch.randperm(128)[:64].sort().values,
            256: torch.randperm(256)[:128].sort().values}
    with torch.no_grad():
        for module in wide.modules():
            if isinstance(module, torch.nn.Conv2d):
                kept = torch.zeros(module.out_channels, 1, 1, 1)
                kept[used[module.out_channels]] = 1
                module.weight.mul_(kept)
        take_channels(thin, wide)
        images = torch.randn(1, 3, 48, 64)
        expected = wide(images)[:, used[256]]
        x = thin.maxpool(thin.relu(thin.bn1(thin.conv1(images))))
        found = thin.get_submodule("layer3")(thin.get_submodule("layer2")(thin.get_submodule("layer1")(x)))
    assert expected.abs().max() > 0.01
    # The batch norms of the wide one are folded, which divides by the root of 1 + epsilon.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert isinstance(thin.get_submodule("layer1.0"), BasicBlock)
