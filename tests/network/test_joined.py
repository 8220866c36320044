"""The joined trunk of low rank: its shapes, folding, and where it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from delf.errors import ModelError
from delf.images import read_image
from delf.models import TRUNKS, ModelConfig
from delf.network.joined import JoinedTrunk
from delf.network.lowrank import begin_from
from delf.network.model import DelfModel
from delf.network.resnet import LowRankConvolution, ResNetTrunk, fold_batch_norm, unfold_batch_norm
from delf.network.trunks import trunk_of
from delf.training.photos import centre_square


@pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 47), (1, 17), (33, 16), (9, 8)])
def test_shapes(height: int, width: int) -> None:
    with torch.device("meta"):
        feature_map = trunk_of("lowrank18").eval()(torch.zeros(2, 3, height, width))
    assert feature_map.shape == (2, TRUNKS["lowrank18"].channels, -(-height // 8), -(-width // 8))


def test_only_joined_layouts_have_a_joined_trunk() -> None:
    with torch.device("meta"):
        assert {name for name in TRUNKS if isinstance(trunk_of(name), JoinedTrunk)} == {"lowrank18"}


def test_its_stride_is_8() -> None:
    assert ModelConfig("thin", trunk="lowrank18", stride=8).channels == 256
    with pytest.raises(ModelError, match="the stride of a lowrank18 is 8, not 16"):
        ModelConfig("thin", trunk="lowrank18", stride=16)


def test_folding_leaves_the_function() -> None:
    torch.manual_seed(0)
    trunk = trunk_of("lowrank18").double().train()
    for _ in range(3):
        trunk(torch.randn(2, 3, 64, 64, dtype=torch.float64))  # batch norms with statistics of their own
    trunk.eval()
    images = torch.randn(1, 3, 57, 72, dtype=torch.float64)
    with torch.inference_mode():
        expected, folded = trunk(images), fold_batch_norm(trunk)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(images), expected, rtol=1e-9, atol=1e-9)
        unfolded = trunk_of("lowrank18").eval().double()
        state = unfold_batch_norm(folded)
        assert {name for name, _ in unfolded.named_parameters()} <= set(state)
        unfolded.load_state_dict(state, strict=False)
        torch.testing.assert_close(unfolded(images), expected, rtol=1e-9, atol=1e-9)


def test_responses_of_low_rank_are_kept_exactly() -> None:
    """A whole trunk whose convolutions have no more rank than its small form is computed as it is, up to conv4."""
    torch.manual_seed(0)
    whole, small = ResNetTrunk("resnet18").eval(), trunk_of("lowrank18")
    low = dict(small.named_modules())
    with torch.no_grad():
        for name, module in whole.named_modules():
            convolution = low.get(name)
            if isinstance(module, torch.nn.Conv2d) and isinstance(convolution, LowRankConvolution):
                rank, rows = convolution.reduce.out_channels, module.weight.flatten(1)
                mixing = torch.randn(len(rows), rank) / rank**0.5
                module.weight.copy_((mixing @ rows[:rank]).view_as(module.weight))
        pictures = [torch.randn(2, 3, 96, 96), torch.randn(2, 3, 64, 64)]
        begin_from(small, whole, pictures)
        expected = whole(pictures[0])
        x = small.maxpool(small.relu(small.bn1(small.conv1(pictures[0]))))
        found = torch.nn.Sequential(*(small.get_submodule(f"layer{stage}") for stage in (1, 2, 3)))(x)
    assert expected.std() > 0.01
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.fixture(scope="module")
def teacher() -> ResNetTrunk:
    trunk = DelfModel.from_pretrained("delf-r18").trunk
    assert isinstance(trunk, ResNetTrunk)
    return trunk


def test_it_begins_near_the_teacher(teacher: ResNetTrunk, photos: Path) -> None:
    """Every second cell is what the teacher says there of the same picture, those in between are means of two."""
    squares = [centre_square(read_image(path), side) for side in (224, 128)
               for path in sorted(photos.iterdir())[:6]]
    images = [torch.from_numpy(square.transpose(2, 0, 1).copy()).float().sub(118).div(57) for square in squares]
    small = trunk_of("lowrank18")
    begin_from(small, teacher, [torch.stack(images[:6]), torch.stack(images[6:])])
    pictures = torch.stack(images[:2])
    with torch.inference_mode():
        found, expected = (F.pad(trunk(pictures), (-1, -1, -1, -1)) for trunk in (small, teacher))
        found = found[:, :, 1:-1, 1:-1]  # as many cells at the border as the teacher's
    on, between = found[:, :, ::2, ::2], found[:, :, ::2, 1::2]
    assert F.cosine_similarity(on, expected[:, :, : on.shape[2], : on.shape[3]]).mean() > 0.85
    nearest = [F.cosine_similarity(between[:, :, :, :-1], (expected + expected.roll(shift, 3))[
        :, :, : between.shape[2], : between.shape[3] - 1]).mean() for shift in (-1, 1)]
    assert nearest[0] > 0.85
    assert nearest[0] > nearest[1]


def test_who_cannot_begin_so(teacher: ResNetTrunk) -> None:
    with pytest.raises(ModelError, match="begins with the weights of a ResNet-18"):
        begin_from(trunk_of("resnet18"), teacher, [])
