"""The networks of others, written down from their formulas with nothing of delf: what imported models are held to.

States have the names that the software of each writes. Networks are narrow (`WIDTH` channels in conv2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from delf.models import TRUNKS, TrunkLayout

WIDTH = 4
UNITS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
ROW = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
State = dict[str, Tensor]


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all trunks of delf narrow too."""
    for name, layout in TRUNKS.items():
        if isinstance(layout, TrunkLayout) and not layout.joined:
            monkeypatch.setitem(TRUNKS, name, replace(layout, width=WIDTH))


def resnet(name: str, stages: int = 4, seed: int = 0) -> State:
    """Random weights of a narrow ResNet by torchvision's names."""
    random = torch.Generator().manual_seed(seed)
    state: State = {}

    def conv(conv_name: str, norm: str, shape: tuple[int, ...]) -> None:
        state[f"{conv_name}.weight"] = torch.randn(shape, generator=random) * (2 / np.prod(shape[1:])) ** 0.5
        for what, low, high in (("weight", 0.5, 1.0), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2),
                                ("running_var", 0.5, 1.5)):
            state[f"{norm}.{what}"] = low + (high - low) * torch.rand(shape[0], generator=random)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", "bn1", (WIDTH, 3, 7, 7))
    before, deep = WIDTH, name not in ("resnet18", "resnet34")
    for stage, units in enumerate(UNITS[name][:stages]):
        width = WIDTH * 2**stage
        for unit in range(units):
            unit_name, after = f"layer{stage + 1}.{unit}", width * (4 if deep else 1)
            shapes = [(width, before, 1, 1), (width, width, 3, 3), (after, width, 1, 1)] if deep else [
                (width, before, 3, 3), (width, width, 3, 3)]
            for number, shape in enumerate(shapes, start=1):
                conv(f"{unit_name}.conv{number}", f"{unit_name}.bn{number}", shape)
            if before != after:
                conv(f"{unit_name}.downsample.0", f"{unit_name}.downsample.1", (after, before, 1, 1))
            before = after
    return state


def in_a_row(state: Mapping[str, Tensor], prefix: str) -> State:
    """The names of a network whose children were put into a row (`nn.Sequential`)."""
    return {f"{prefix}.{ROW[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor
            for name, tensor in state.items() if name.partition(".")[0] in ROW}


def feature_maps(state: Mapping[str, Tensor], images: Tensor) -> list[Tensor]:
    """The outputs of conv2 to conv5, as far as there are weights; of normalised images."""

    def normed(x: Tensor, conv: str, norm: str, stride: int) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        return F.batch_norm(x, state[f"{norm}.running_mean"], state[f"{norm}.running_var"], state[f"{norm}.weight"],
                            state[f"{norm}.bias"], eps=1e-5)

    x, found = F.max_pool2d(normed(images, "conv1", "bn1", 2).relu(), 3, 2, 1), []
    for stage in range(1, 5):
        unit = 0
        while f"layer{stage}.{unit}.conv1.weight" in state:
            name, stride = f"layer{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            shortcut, y = x, x
            if f"{name}.downsample.0.weight" in state:
                shortcut = normed(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            deep = f"{name}.conv3.weight" in state
            steps = (1, stride, 1) if deep else (stride, 1)
            for number, step in enumerate(steps, start=1):
                y = normed(y, f"{name}.conv{number}", f"{name}.bn{number}", step)
                if number < len(steps):
                    y = y.relu()
            x, unit = (y + shortcut).relu(), unit + 1
        if unit:
            found.append(x)
    return found


def normalised(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Images of 0 to 255 as torchvision's transforms give them."""
    return (images / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def gem(x: Tensor, p: float) -> Tensor:
    """Radenovic et al., TPAMI 2019."""
    return x.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p)


def rmac(x: Tensor, levels: int = 3) -> Tensor:
    """Tolias et al., ICLR 2016, as cirtorch lays the regions out."""
    height, width = x.shape[2:]
    short, long = min(height, width), max(height, width)
    extra = 0
    if height != width:
        overlaps = [abs((short**2 - short * (long - short) / (steps - 1)) / short**2 - 0.4) for steps in range(2, 8)]
        extra = 1 + overlaps.index(min(overlaps))
    parts = [x]
    for level in range(1, levels + 1):
        side = int(2 * short / (level + 1))

        def starts(length: int, count: int, side: int = side) -> list[int]:
            return [0] if count == 1 else [int(np.floor(i * (length - side) / (count - 1) + 1e-9))
                                           for i in range(count)]

        for top in starts(height, level + (extra if height > width else 0)):
            parts += [x[:, :, top : top + side, left : left + side]
                      for left in starts(width, level + (extra if width > height else 0))]
    return torch.stack([F.normalize(part.amax(dim=(2, 3)), dim=1) for part in parts]).sum(dim=0)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "gem": lambda x: gem(x, 2.5), "mac": lambda x: x.amax(dim=(2, 3)), "spoc": lambda x: x.mean(dim=(2, 3)),
    "rmac": rmac}


class PCA:
    """Stands in for the class of scikit-learn."""

    def __init__(self, mean: np.ndarray, components: np.ndarray, variances: np.ndarray) -> None:
        self.mean_, self.components_, self.explained_variance_, self.whiten = mean, components, variances, True
