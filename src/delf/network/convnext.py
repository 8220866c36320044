"""ConvNeXt (Liu et al., CVPR 2022) up to its stage of stride 16, with the parameter names of its authors' files."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.models.layouts import ConvNextLayout
from delf.network.patches import in_whole_patches
from delf.network.trunk import Trunk


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Unit(nn.Module):
    """A depthwise 7x7 convolution, and two linear layers at each place, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))).permute(0, 3, 1, 2)


class ConvNextTrunk(Trunk):
    """The stages of a layout, each behind a convolution that lays patches side by side."""

    def __init__(self, layout: ConvNextLayout) -> None:
        super().__init__()
        self._stride = layout.strides[0]
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        before = 3
        for units, width in zip(layout.units, layout.widths, strict=True):
            first = before == 3
            patches = nn.Conv2d(before, width, 4 if first else 2, stride=4 if first else 2)
            norm = ChannelNorm(width if first else before, eps=1e-6)
            self.downsample_layers.append(nn.Sequential(*((patches, norm) if first else (norm, patches))))
            self.stages.append(nn.Sequential(*(Unit(width) for _ in range(units))))
            before = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """As `Trunk` says."""
        x = in_whole_patches(images, self._stride)
        for patches, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(patches(x))
        return x
