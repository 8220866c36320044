"""ResNet trunks (He et al., CVPR 2016), fully convolutional, with torchvision's parameter names.

Any ImageNet file of torchvision's `resnet18/34/50/101` loads into the trunk of the same name; its classifier, and the
stage conv5 (`layer4`) where it is not wanted, are left aside. The layout is the "v1.5" one: in a bottleneck the
stride is in the 3x3 convolution. `TrunkLayout.step` says which units have one: the first of a stage, or, as in TF-Slim,
the last, whose shortcut takes every second cell.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from delf.models import TrunkLayout, resnet_layout
from delf.network.trunk import Trunk

AnyTrunk = TypeVar("AnyTrunk", bound=Trunk)


class LowRankConvolution(nn.Conv2d):
    """A convolution as two: to few channels, `reduce`, and of 1x1 from these (Zhang et al., TPAMI 2016)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, rank: int) -> None:
        super().__init__(rank, outputs, 1, bias=False)
        self.reduce = _convolution(inputs, rank, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride))."""
        return super().forward(self.reduce(x))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, rank: int = 0) -> nn.Conv2d:
    """rank: channels between the two that it is; 0 where it is one."""
    if rank:
        return LowRankConvolution(inputs, outputs, kernel, stride, rank)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: the unit of ResNet-18 and ResNet-34. ranks: of the two."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, ranks: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride, ranks[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, rank=ranks[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut: the unit of ResNet-50 and ResNet-101. first: the stride is in the
    first of them, not in the second.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, first: bool = False) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _convolution(inputs, width, 1, stride if first else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, 1 if first else stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


def _unit(layout: TrunkLayout, inputs: int, stage: int, unit: int) -> BasicBlock | Bottleneck:
    width, step = layout.width * 2**stage, layout.step(stage, unit)
    if layout.bottleneck:
        return Bottleneck(inputs, width, step, first=layout.strided_first)
    return BasicBlock(inputs, width, step, ranks=layout.ranks_of(stage, unit))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if inputs == outputs:
        return None if stride == 1 else nn.MaxPool2d(1, stride)
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class SamePool(nn.Module):
    """The maximum of 3x3 cells at a stride of 2, padded as TensorFlow's SAME: where a side is even, only at its end."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), not negative -> (B, C, ceil(H / 2), ceil(W / 2))."""
        padded = F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1))  # zeros never win, as nothing is below
        return F.max_pool2d(padded, 3, stride=2)


class SameConvolution(nn.Conv2d):
    """A convolution of 7x7 pixels at a stride of 2, padded as TensorFlow's SAME: less at the start of an even side."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / 2), ceil(W / 2))."""
        padded = F.pad(x, (2 + x.shape[3] % 2, 3, 2 + x.shape[2] % 2, 3))
        return F.conv2d(padded, self.weight, self.bias, stride=2)


class ResNetTrunk(Trunk):
    """The convolutional part of a ResNet up to conv4 (`layer3`), or to conv5 (`layer4`).

    Args:
        name: a key of `delf.models.TRUNKS`.
        conv5: build `layer4` as well, for a global head; `forward` stops at conv4 either way.
        padding: as in `delf.models.ModelConfig`.
    """

    def __init__(self, name: str, *, conv5: bool = False, padding: str = "torch") -> None:
        super().__init__()
        layout = resnet_layout(name)
        self.conv1 = _convolution(3, layout.width, 7, 2, layout.ranks[0] if layout.ranks else 0)
        if padding == "keras":
            self.conv1 = SameConvolution(3, layout.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(layout.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = SamePool() if padding == "tensorflow" else nn.MaxPool2d(
            3, stride=2, padding=0 if padding == "keras" else 1)
        self.stages = layout.stages
        channels = layout.width
        for stage, units in enumerate(layout.units[: layout.stages + conv5]):
            blocks = []
            for unit in range(units):
                block = _unit(layout, channels, stage, unit)
                blocks.append(block)
                channels = layout.width * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.has_conv5 = conv5

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> (B, C, ceil(H / s), ceil(W / s)) output of conv4, s the least stride.

        (Keras, which does not pad the maximum, gives a cell less where that leaves out the last one.)
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x

    def forward_conv5(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) output of conv4 -> (B, 2 C, ceil(h / 2), ceil(w / 2)) output of conv5.

        Of a trunk whose last units have the strides, conv5 has none: its map is as large as that of conv4.
        """
        return self.get_submodule("layer4")(feature_map)

    def load_torchvision(self, state: Mapping[str, Tensor]) -> None:
        """Load a torchvision state dict, as `load_published`; the classifier is left aside."""
        self.load_published(state)


def _conv_bn_pairs(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(parent, name of a convolution, name of the batch norm behind it) for every such pair below `module`."""
    pairs = []
    for parent in module.modules():
        names = [name for name, _ in parent.named_children()]
        for name in names:
            follower = name.replace("conv", "bn") if name.startswith("conv") else "1" if name == "0" else ""
            if follower in names and isinstance(getattr(parent, follower), (nn.BatchNorm2d, nn.Identity)):
                pairs.append((parent, name, follower))
    return pairs


def fold_batch_norm(trunk: AnyTrunk) -> AnyTrunk:
    """A copy with each batch norm folded into the convolution before it: the same function, less memory traffic.

    Of a trunk that is no ResNet, a copy as it is.
    """
    folded = copy.deepcopy(trunk).eval()
    if not isinstance(folded, ResNetTrunk):
        return folded
    for parent, conv, norm in _conv_bn_pairs(folded):
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())
    return folded


def unfold_batch_norm(folded: Trunk) -> dict[str, Tensor]:
    """The state dict, with torchvision's names, of a trunk that computes what the folded one does.

    Each bias becomes the shift of a batch norm whose statistics are zero mean and unit variance.
    """
    if not isinstance(folded, ResNetTrunk):
        return {name: tensor.detach().clone() for name, tensor in folded.state_dict().items()}
    state: dict[str, Tensor] = OrderedDict()
    names = {module: name for name, module in folded.named_modules()}
    for parent, conv, norm in _conv_bn_pairs(folded):
        prefix = f"{names[parent]}." if names[parent] else ""
        convolution = getattr(parent, conv)
        ones = torch.ones_like(convolution.bias)
        state |= {f"{prefix}{conv}.{name}": tensor.detach().clone()
                  for name, tensor in convolution.state_dict().items() if name != "bias"}
        state[f"{prefix}{norm}.weight"] = ones
        state[f"{prefix}{norm}.bias"] = convolution.bias.detach().clone()
        state[f"{prefix}{norm}.running_mean"] = torch.zeros_like(ones)
        state[f"{prefix}{norm}.running_var"] = ones - nn.BatchNorm2d(1).eps
    return state
