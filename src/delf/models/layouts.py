"""Trunks, described without torch: what a model file needs to know of the network that its features come from.

A trunk is a line in `TRUNKS`. A new kind of network is a class here, that says channels, strides and what a cell sees,
and its module in a file of `delf.network` with a line in `delf.network.trunks.KINDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from delf.errors import ModelError


class Layout(Protocol):
    """The layout of a trunk: channels, strides, and the layers that determine what a cell sees."""

    @property
    def channels(self) -> int:
        """Channels of the map that local features come from."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from cell to cell; a model may take every second one, where there are two."""
        ...

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """(kernel, stride, padding) of the layers that a cell is computed by: what it sees follows from them."""
        ...


@dataclass(frozen=True)
class TrunkLayout:
    """The units of conv2 to conv5 of a ResNet, and whether a unit is a bottleneck.

    width: channels of conv2. ranks: of convolutions that are two each, to so many channels and from these: of the first
    one, and of both of each unit in turn; empty where they are whole. joined: channels in which conv3 and conv4 are
    joined at a stride of 8; 0 where local features come from conv4 itself. refined: the rank of both convolutions of a
    unit behind the joined map; 0 where there is none. strided_last: whether it is the last unit of
    conv2, conv3 and conv4 that halves the map, as in TF-Slim, and not the first of conv3, conv4 and conv5, as in
    torchvision. strided_first: whether the first convolution of a bottleneck has its stride, as in Keras and Caffe, and
    not the one in its middle. stages: how many there are up to the map of local features, which is conv4 as a rule, and
    conv5 where there are four.
    """

    units: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    ranks: tuple[int, ...] = ()
    joined: int = 0
    refined: int = 0
    strided_last: bool = False
    strided_first: bool = False
    stages: int = 3

    @property
    def channels(self) -> int:
        """Channels of the map that local features come from."""
        return 2 * self.joined or self.width * 2 ** (self.stages - 1) * (4 if self.bottleneck else 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from cell to cell; those of conv4 may be every second one."""
        return (8,) if self.joined else (32,) if self.strided_last or self.stages == 4 else (16, 32)

    def ranks_of(self, stage: int, unit: int) -> tuple[int, int]:
        """The ranks of the two convolutions of a unit, both counted from 0; 0 if they are whole."""
        first = 1 + 2 * (sum(self.units[:stage]) + unit)
        return (self.ranks[first], self.ranks[first + 1]) if self.ranks else (0, 0)

    def step(self, stage: int, unit: int) -> int:
        """The stride of a unit of a stage, both counted from 0; stage 0 is conv2."""
        if self.strided_last:
            return 2 if stage < 3 and unit == self.units[stage] - 1 else 1
        return 2 if stage > 0 and unit == 0 else 1

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """The layers: the convolutions, and the maximum behind the first."""
        layers = [(7, 2, 3), (3, 2, 1)]
        for stage, units in enumerate(self.units[: self.stages]):
            for unit in range(units):
                step = self.step(stage, unit)
                first, middle = (step, 1) if self.strided_first else (1, step)
                layers += [(1, first, 0), (3, middle, 1), (1, 1, 0)] if self.bottleneck else [(3, step, 1), (3, 1, 1)]
        if self.joined:
            # Of conv4 a joined cell sees the cell that it lies in and one beside it, on one side or the other.
            # The two convolutions behind it, of half the stride, see as far as a single one of conv4's.
            layers += [(3, 1, 1)] * (2 if self.refined else 1)
        return tuple(layers)


@dataclass(frozen=True)
class ConvNextLayout:
    """The stages of a ConvNeXt (Liu et al., CVPR 2022) up to that of stride 16. units, widths: of each stage."""

    units: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def channels(self) -> int:
        """The channels of the last stage."""
        return self.widths[-1]

    @property
    def strides(self) -> tuple[int, ...]:
        """4 pixels behind the first layer, and twice as many behind each further stage."""
        return (4 * 2 ** (len(self.units) - 1),)

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """The layers: the convolutions; those between stages lie side by side."""
        layers = [(4, 4, 0)]
        for stage, units in enumerate(self.units):
            layers += [(2, 2, 0)] * (stage > 0) + [(7, 1, 3)] * units
        return tuple(layers)


@dataclass(frozen=True)
class VitLayout:
    """A vision transformer as DINOv2 has it (Oquab et al., 2023), or DeiT (Touvron et al., ICML 2021).

    width, depth, heads: of the transformer. patch: its side in pixels, which is the stride. grid: patches on a side of
    the pictures that it was trained with, for which it has positions. registers: further tokens (Darcet et al., 2023).
    scaled: whether a block has a factor for each channel, as in DINOv2.
    """

    width: int
    depth: int
    heads: int
    patch: int = 14
    grid: int = 37
    registers: int = 0
    scaled: bool = True

    @property
    def channels(self) -> int:
        """The channels of a token."""
        return self.width

    @property
    def strides(self) -> tuple[int, ...]:
        """The side of a patch."""
        return (self.patch,)

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """A token can look at all of the picture; what it describes is taken for its own patch and those around it."""
        return ((self.patch, self.patch, 0), (3, 1, 1))


@dataclass(frozen=True)
class OpenLayout:
    """A trunk that is not known here, as its model file describes it: its ONNX file needs no more to be extracted with.

    size, padding: of what a cell sees, as `delf.models.receptive_field` has them. shift: pixels of zeros in front of
    what a module of somebody's is given (`delf.network.placing`). graph: bytes of the ONNX file that the trunk is; 0
    where it is a module.
    """

    channels: int
    stride: int
    size: int
    padding: int
    shift: int = 0
    graph: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("channels", 1, 10**6), ("stride", 1, 10**6), ("size", 1, 10**6),
                                  ("padding", 1, 10**6), ("shift", 0, 10**6), ("graph", 0, 2**31 - 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ModelError(f"the {name} of a trunk is a whole number from {least} to {most}, not {value!r}")

    @property
    def strides(self) -> tuple[int, ...]:
        """The one that it has."""
        return (self.stride,)

    @property
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """All of them as one."""
        return ((self.size, self.stride, self.padding),)


TRUNKS: dict[str, Layout] = {
    "resnet18": TrunkLayout((2, 2, 2, 2), bottleneck=False),
    "resnet34": TrunkLayout((3, 4, 6, 3), bottleneck=False),
    "resnet50": TrunkLayout((3, 4, 6, 3), bottleneck=True),
    "resnet101": TrunkLayout((3, 4, 23, 3), bottleneck=True),
    "lowrank18": TrunkLayout((2, 2, 2, 2), bottleneck=False, joined=128, refined=48,
                             ranks=(16, 16, 16, 24, 24, 56, 48, 48, 40, 88, 72, 64, 80)),
    "slim50": TrunkLayout((3, 4, 6, 3), bottleneck=True, strided_last=True),
    "slim101": TrunkLayout((3, 4, 23, 3), bottleneck=True, strided_last=True),
    "keras50": TrunkLayout((3, 4, 6, 3), bottleneck=True, strided_first=True),
    "keras101": TrunkLayout((3, 4, 23, 3), bottleneck=True, strided_first=True),
    "resnet18-conv5": TrunkLayout((2, 2, 2, 2), bottleneck=False, stages=4),
    "convnext-atto": ConvNextLayout((2, 2, 6), (40, 80, 160)),
    "convnext-tiny": ConvNextLayout((3, 3, 9), (96, 192, 384)),
    "deit-tiny": VitLayout(192, 12, 3, patch=16, grid=14, scaled=False),
    "dinov2-small": VitLayout(384, 12, 6),
    "dinov2-base": VitLayout(768, 12, 12),
}
"""What a model's trunk may be. More can be added at run time, with their modules in `delf.network.trunks.KINDS`."""

SHIPPED = frozenset(TRUNKS)


def resnet_layout(name: str) -> TrunkLayout:
    """The layout of a ResNet. Raises `ModelError` for another trunk."""
    layout = TRUNKS[name]
    if not isinstance(layout, TrunkLayout):
        raise ModelError(f"{name} is no ResNet")
    return layout
