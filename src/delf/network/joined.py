"""A ResNet whose conv3 and conv4 are joined at a stride of 8 pixels: it gives as many features as a ResNet gives of
the photo at twice its size, for a fraction of the work.

Coarse features know what a place is, fine ones where it is: joining them is the idea of feature pyramids (Lin et al.,
CVPR 2017). Each cell of conv4 gives the four cells of stride 8 below it by a linear map of its own for each (the
sub-pixel convolution of Shi et al., CVPR 2016); what conv3 says is added, and each channel is smoothed by itself. A
residual unit of the ResNet's own kind may follow, whose neighbours are 8 pixels apart, as those of the ResNet's conv4
are on the photo at twice its size.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from delf.models import resnet_layout
from delf.network.resnet import BasicBlock, ResNetTrunk


class JoinedTrunk(ResNetTrunk):
    """The convolutional part of a ResNet up to conv4, and the map of stride 8 that it is joined to.

    Args:
        name: a key of `delf.models.TRUNKS` whose layout is joined.
    """

    def __init__(self, name: str, *, padding: str = "torch") -> None:
        super().__init__(name, padding=padding)
        layout = resnet_layout(name)
        joined = layout.joined
        self.conv_fine = nn.Conv2d(2 * layout.width, joined, 1, bias=False)
        self.bn_fine = nn.BatchNorm2d(joined)
        self.conv_coarse = nn.Conv2d(4 * layout.width, 4 * joined, 1, bias=False)
        self.bn_coarse = nn.BatchNorm2d(4 * joined)
        self.conv_join = nn.Conv2d(joined, joined, 3, padding=1, groups=joined, bias=False)
        self.bn_join = nn.BatchNorm2d(joined)
        self.conv_out = nn.Conv2d(joined, layout.channels, 1, bias=False)
        self.bn_out = nn.BatchNorm2d(layout.channels)
        self.refine: nn.Module = nn.Identity()
        if layout.refined:
            self.refine = BasicBlock(layout.channels, layout.channels, 1, ranks=(layout.refined, layout.refined))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, ceil(H / 8), ceil(W / 8)) features."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        fine = self.get_submodule("layer2")(self.get_submodule("layer1")(x))
        coarse = self.bn_coarse(self.conv_coarse(self.get_submodule("layer3")(fine)))
        # conv4 has a cell more than half as many where their number is odd.
        spread = F.pixel_shuffle(coarse, 2)[:, :, : fine.shape[2], : fine.shape[3]]
        joined = self.relu(self.bn_fine(self.conv_fine(fine)) + spread)
        joined = self.relu(self.bn_out(self.conv_out(self.relu(self.bn_join(self.conv_join(joined))))))
        return cast(Tensor, self.refine(joined))


def resnet_of(name: str, *, conv5: bool = False, padding: str = "torch") -> ResNetTrunk:
    """The ResNet of a name, with fresh weights."""
    if resnet_layout(name).joined:
        return JoinedTrunk(name, padding=padding)
    return ResNetTrunk(name, conv5=conv5, padding=padding)
