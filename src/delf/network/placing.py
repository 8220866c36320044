"""A network of somebody else's in the geometry of ResNets: where its cells lie, by padding and by leaving some out.

delf has a cell for every begun stride of a picture, cell i around pixel `stride * i`. Networks of others begin with
patches side by side, or pad only at the end as TensorFlow does, and take no sides but whole multiples of something. All
of that is made up for by zeros (of the normalised picture) around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from delf.errors import ModelError

MAPS = ("nchw", "nhwc", "tokens")


@dataclass(frozen=True)
class Placing:
    """stride: pixels from cell to cell. multiple: of which sides are made whole multiples. shift: pixels of zeros in
    front, on both axes. dropped: cells in front that are left out. surplus: cells that the network gives of a side
    besides side / stride.
    """

    stride: int
    multiple: int
    shift: int
    dropped: int
    surplus: int

    @classmethod
    def of(cls, stride: int, multiple: int, offset: float, surplus: int) -> Placing:
        """For a network whose cell i is centred on pixel `stride * i + offset` of what it is given."""
        shift = math.floor(offset + 0.5)  # so that patches of even sides lie half a pixel before, as delf's own do
        dropped = max(0, -(shift // stride)) if shift < 0 else 0
        return cls(stride, multiple, shift + dropped * stride, dropped, surplus)

    def pad(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised images -> what the network is given, (B, 3, P, Q)."""
        height, width = images.shape[2], images.shape[3]
        bottom, right = (self._padded(side) - self.shift - side for side in (height, width))
        return F.pad(images, (self.shift, right, self.shift, bottom))

    def cut(self, feature_map: Tensor, images: Tensor) -> Tensor:
        """(B, C, p, q) what it made of that -> (B, C, ceil(H / stride), ceil(W / stride)). images: as for `pad`."""
        rows, columns = (self._cells(side) + self.dropped for side in (images.shape[2], images.shape[3]))
        return feature_map[:, :, self.dropped : rows, self.dropped : columns]

    def _cells(self, side: int) -> int:
        return (side + self.stride - 1) // self.stride

    def _padded(self, side: int) -> int:
        """Numbers of a trace pass through here: nothing may be compared."""
        length = (self._cells(side) + max(0, self.dropped - self.surplus)) * self.stride
        return (length + self.multiple - 1) // self.multiple * self.multiple


def as_map(output: Tensor, layout: str, padded: Tensor, stride: int, leading: int) -> Tensor:
    """What a network gives, in one of `MAPS` -> (B, C, p, q).

    Args:
        padded: what it was given. stride: of the patches that tokens are of. leading: tokens in front that are none.

    Raises:
        ModelError: it has not the number of axes, or of tokens, that such a map has.
    """
    axes = 3 if layout == "tokens" else 4
    if output.ndim != axes:
        raise ModelError(f"it gives an array of {output.ndim} axes, {tuple(output.shape)}, where a map as {layout!r} "
                         f"has {axes}; say which of its outputs is the map, and how it lies ({', '.join(MAPS)})")
    if layout == "tokens":
        rows, columns = padded.shape[2] // stride, padded.shape[3] // stride
        try:
            output = output[:, leading:].reshape(output.shape[0], rows, columns, output.shape[2])
        except RuntimeError as error:
            raise ModelError(f"it gives {output.shape[1]} tokens for {rows} x {columns} patches, of which {leading} "
                             "are said to be of no patch; say how many those are (tokens)") from error
    return output if layout == "nchw" else output.permute(0, 3, 1, 2)
