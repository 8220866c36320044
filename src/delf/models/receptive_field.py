"""Which pixels a cell of the feature map sees.

For a chain of convolutions the receptive field and the stride multiply up layer by layer; under symmetric padding the
centre of cell i lies at pixel `stride * i`, whatever the size of the field, so that the field's size only matters for
boxes. `tests/network` proves both by the gradient. (The padding of TensorFlow moves the centre by a few pixels in
pictures of some sizes, which the reference leaves aside.)
"""

from __future__ import annotations

from dataclasses import dataclass

from delf.models.layouts import TRUNKS, Layout


@dataclass(frozen=True)
class ReceptiveField:
    """size, stride, padding in pixels: cell i sees pixels `stride i - padding` to `stride i - padding + size - 1`."""

    size: int
    stride: int
    padding: int


def receptive_field(trunk: str | Layout, *, stride: int | None = None) -> ReceptiveField:
    """The receptive field of the feature map of a trunk (a key of `delf.models.TRUNKS`, or its layout).

    Where conv3 and conv4 are joined, a cell sees a part of it, which begins at one of its ends.

    Args:
        stride: one of the trunk's; the smallest if not given. Taking every second cell leaves the field as it is.
    """
    layout = TRUNKS[trunk] if isinstance(trunk, str) else trunk
    size, jump, offset = 1, 1, 0
    for kernel, step, padding in layout.layers:
        size += (kernel - 1) * jump
        offset += padding * jump
        jump *= step
    if layout.layers[0][2] == 0:  # patches side by side, which are padded by half of one (`delf.network.patches`)
        offset += layout.strides[0] // 2
    return ReceptiveField(size, stride or layout.strides[0], offset)
