"""Which pixels a cell of the feature map sees.

For a chain of convolutions the receptive field and the stride multiply up layer by layer; under symmetric padding the
centre of cell i lies at pixel `stride * i`, whatever the size of the field, so that the field's size only matters for
boxes. `tests/network` proves both by the gradient. (The padding of TensorFlow moves the centre by a few pixels in
pictures of some sizes, which the reference leaves aside.)
"""

from __future__ import annotations

from dataclasses import dataclass

from delf.models import TRUNKS


@dataclass(frozen=True)
class ReceptiveField:
    """size, stride, padding in pixels: cell i sees pixels `stride i - padding` to `stride i - padding + size - 1`."""

    size: int
    stride: int
    padding: int


def receptive_field(trunk: str, *, stride: int | None = None) -> ReceptiveField:
    """The receptive field of the feature map of a trunk (a key of `delf.models.TRUNKS`).

    Where conv3 and conv4 are joined, a cell sees a part of it, which begins at one of its ends.

    Args:
        stride: one of the trunk's; the smallest if not given. Taking every second cell leaves the field as it is.
    """
    layout = TRUNKS[trunk]
    layers = [(7, 2, 3), (3, 2, 1)]
    for stage, units in enumerate(layout.units[: layout.stages]):
        for unit in range(units):
            step = layout.step(stage, unit)
            first, middle = (step, 1) if layout.strided_first else (1, step)
            layers += [(1, first, 0), (3, middle, 1), (1, 1, 0)] if layout.bottleneck else [(3, step, 1), (3, 1, 1)]
    if layout.joined:
        # Of conv4 a joined cell sees the cell that it lies in and one beside it, on one side or the other.
        layers.append((3, 1, 1))
    size, jump, offset = 1, 1, 0
    for kernel, step, padding in layers:
        size += (kernel - 1) * jump
        offset += padding * jump
        jump *= step
    return ReceptiveField(size, stride or layout.strides[0], offset)
