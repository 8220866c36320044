"""A thin ResNet whose conv3 and conv4 are joined at a stride of 8 pixels: it gives as many features as a ResNet gives
of the photo at twice its size, for a fraction of the work.

Coarse features know what a place is, fine ones where it is: joining them is the idea of feature pyramids (Lin et al.,
CVPR 2017). Each cell of conv4 gives the four cells of stride 8 below it by a linear map of its own for each (the
sub-pixel convolution of Shi et al., CVPR 2016), and a 3x3 convolution makes one map of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import ModelError
from delf.models import resnet_layout
from delf.network.resnet import BasicBlock, ResNetTrunk, fold_batch_norm
from delf.network.trunk import Trunk


class JoinedTrunk(ResNetTrunk):
    """The convolutional part of a thin ResNet up to conv4, and the map of stride 8 that it is joined to.

    Args:
        name: a key of `delf.models.TRUNKS` whose layout is joined.
    """

    def __init__(self, name: str, *, padding: str = "torch") -> None:
        super().__init__(name, padding=padding)
        layout = resnet_layout(name)
        fine, coarse = 2 * layout.width, 4 * layout.width
        self.conv_fine = nn.Conv2d(fine, layout.joined, 1, bias=False)
        self.bn_fine = nn.BatchNorm2d(layout.joined)
        self.conv_coarse = nn.Conv2d(coarse, 4 * layout.joined, 1, bias=False)
        self.bn_coarse = nn.BatchNorm2d(4 * layout.joined)
        self.conv_join = nn.Conv2d(layout.joined, layout.joined, 3, padding=1, bias=False)
        self.bn_join = nn.BatchNorm2d(layout.joined)
        self.conv_out = nn.Conv2d(layout.joined, layout.channels, 1, bias=False)
        self.bn_out = nn.BatchNorm2d(layout.channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, ceil(H / 8), ceil(W / 8)) features."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        fine = self.get_submodule("layer2")(self.get_submodule("layer1")(x))
        coarse = self.bn_coarse(self.conv_coarse(self.get_submodule("layer3")(fine)))
        # conv4 has a cell more than half as many where their number is odd.
        spread = F.pixel_shuffle(coarse, 2)[:, :, : fine.shape[2], : fine.shape[3]]
        joined = self.relu(self.bn_fine(self.conv_fine(fine)) + spread)
        return self.relu(self.bn_out(self.conv_out(self.relu(self.bn_join(self.conv_join(joined))))))


def resnet_of(name: str, *, conv5: bool = False, padding: str = "torch") -> ResNetTrunk:
    """The ResNet of a name, with fresh weights."""
    if resnet_layout(name).joined:
        return JoinedTrunk(name, padding=padding)
    return ResNetTrunk(name, conv5=conv5, padding=padding)


@torch.no_grad()
def take_channels(thin: Trunk, wide: Trunk) -> None:
    """Let a thin trunk begin with those channels of a wide one that have the largest weights, up to conv4.

    A start that training soon leaves, but a better one than chance (channels are cut so by Li et al., ICLR 2017).
    """
    if not isinstance(thin, ResNetTrunk) or not isinstance(wide, ResNetTrunk):
        raise ModelError("only a ResNet can begin with the channels of another one")
    wide = fold_batch_norm(wide)
    taken = _largest([wide.conv1], thin.conv1)
    _take(thin.conv1, wide.conv1, taken)
    for stage in ("layer1", "layer2", "layer3"):
        units = list(zip(_units(thin, stage), _units(wide, stage), strict=True))
        before, (own, other) = taken, units[0]
        if isinstance(own.downsample, nn.Sequential) and isinstance(other.downsample, nn.Sequential):
            shortcuts = cast(nn.Conv2d, own.downsample[0]), cast(nn.Conv2d, other.downsample[0])
            # The units of a stage add to the same channels.
            taken = _largest([shortcuts[1], *(unit.conv2 for _, unit in units)], own.conv2)
            _take(*shortcuts, taken, before)
        for own, other in units:
            inner = _largest([other.conv1], own.conv1)
            _take(own.conv1, other.conv1, inner, before)
            _take(own.conv2, other.conv2, taken, inner)
            before = taken


def _units(trunk: ResNetTrunk, stage: str) -> list[BasicBlock]:
    return [unit for unit in trunk.get_submodule(stage).children() if isinstance(unit, BasicBlock)]


def _largest(convolutions: Sequence[nn.Conv2d], thin: nn.Conv2d) -> Tensor:
    """As many output channels of convolutions that are summed as a thin one has, those with the largest weights."""
    sizes = torch.stack([convolution.weight.square().sum(dim=(1, 2, 3)) for convolution in convolutions]).sum(dim=0)
    return torch.sort(torch.topk(sizes, thin.out_channels).indices).values


def _take(thin: nn.Conv2d, wide: nn.Conv2d, outputs: Tensor, inputs: Tensor | None = None) -> None:
    weight = wide.weight[outputs]
    thin.weight.copy_(weight if inputs is None else weight[:, inputs])
