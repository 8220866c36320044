"""The trunks that a model may have: ResNets of several sizes and makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrunkLayout:
    """The units of conv2 to conv5 of a ResNet, and whether a unit is a bottleneck.

    width: channels of conv2. joined: channels in which conv3 and conv4 are joined at a stride of 8; 0 where local
    features come from conv4 itself. strided_last: whether it is the last unit of conv2, conv3 and conv4 that halves
    the map, as in TF-Slim, and not the first of conv3, conv4 and conv5, as in torchvision. strided_first: whether the
    first convolution of a bottleneck has its stride, as in Keras and Caffe, and not the one in its middle. stages: how
    many there are up to the map of local features, which is conv4 as a rule, and conv5 where there are four.
    """

    units: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64
    joined: int = 0
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

    def step(self, stage: int, unit: int) -> int:
        """The stride of a unit of a stage, both counted from 0; stage 0 is conv2."""
        if self.strided_last:
            return 2 if stage < 3 and unit == self.units[stage] - 1 else 1
        return 2 if stage > 0 and unit == 0 else 1


TRUNKS = {
    "resnet18": TrunkLayout((2, 2, 2, 2), bottleneck=False),
    "resnet34": TrunkLayout((3, 4, 6, 3), bottleneck=False),
    "resnet50": TrunkLayout((3, 4, 6, 3), bottleneck=True),
    "resnet101": TrunkLayout((3, 4, 23, 3), bottleneck=True),
    "thin18": TrunkLayout((2, 2, 2, 2), bottleneck=False, width=32, joined=128),
    "slim50": TrunkLayout((3, 4, 6, 3), bottleneck=True, strided_last=True),
    "slim101": TrunkLayout((3, 4, 23, 3), bottleneck=True, strided_last=True),
    "keras50": TrunkLayout((3, 4, 6, 3), bottleneck=True, strided_first=True),
    "keras101": TrunkLayout((3, 4, 23, 3), bottleneck=True, strided_first=True),
    "resnet18-conv5": TrunkLayout((2, 2, 2, 2), bottleneck=False, stages=4),
}
