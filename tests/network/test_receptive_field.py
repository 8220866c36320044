"""The receptive field by the gradient: one cell of conv4 sees the pixels that the formula says, and no others.

All weights are positive, so that every ReLU passes and no two paths cancel, and the maximum is replaced by the average
of the same window, whose gradient reaches each of its pixels. What is left is the geometry alone.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from delf.models import TRUNKS, TrunkLayout
from delf.models.receptive_field import receptive_field
from delf.network.resnet import ResNetTrunk
from delf.network.trunks import trunk_of

RESNETS = [name for name, layout in TRUNKS.items() if isinstance(layout, TrunkLayout) and not layout.joined]


def geometry_only(name: str) -> ResNetTrunk:
    trunk = trunk_of(name).eval().double()
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / (module.in_channels * module.kernel_size[0]))
    trunk.maxpool = nn.AvgPool2d(3, stride=2, padding=1)
    return trunk


def seen(trunk: ResNetTrunk, height: int, width: int, row: int, column: int) -> Tensor:
    """(height, width) bool: which pixels a cell of the feature map depends on."""
    images = torch.full((1, 3, height, width), 0.5, dtype=torch.float64, requires_grad=True)
    trunk(images)[0, :, row, column].sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    return (images.grad[0] != 0).all(dim=0)


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_cell_sees_exactly_its_field(name: str, axis: int) -> None:
    field = receptive_field(name)
    cell = -(-field.padding // field.stride) + 1  # so far in that the whole field is inside
    first = field.stride * cell - field.padding
    length = first + field.size + 21
    trunk = geometry_only(name)
    # A strip one pixel high is as good as a picture for one axis, and ResNet-101 sees more than 800 pixels.
    pixels = seen(trunk, length, 1, cell, 0)[:, 0] if axis == 0 else seen(trunk, 1, length, 0, cell)[0]
    expected = torch.zeros(length, dtype=torch.bool)
    expected[first : first + field.size] = True
    assert first > 0
    assert torch.equal(pixels, expected)


@pytest.mark.parametrize(("name", "size", "padding"), [("resnet18", 211, 105), ("resnet50", 267, 133)])
def test_the_field_is_a_square(name: str, size: int, padding: int) -> None:
    cell = 9 if name == "resnet50" else 7
    first = 16 * cell - padding
    pixels = seen(geometry_only(name), first + size + 5, first + size + 9, cell, cell)
    expected = torch.zeros_like(pixels)
    expected[first : first + size, first : first + size] = True
    assert torch.equal(pixels, expected)


def test_at_the_border_the_field_is_cut_and_centred_on_pixel_0() -> None:
    pixels = seen(geometry_only("resnet18"), 1, 300, 0, 0)[0]
    assert pixels.nonzero().ravel().tolist() == list(range(106))


def test_with_the_real_maximum_pixels_outside_change_nothing() -> None:
    trunk = geometry_only("resnet18").float()
    trunk.maxpool = ResNetTrunk("resnet18").maxpool
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 240, 240)
    with torch.inference_mode():
        cell = trunk(picture)[0, :, 7, 7]
        for place, sees in ((6, False), (7, True), (217, True), (218, False)):  # 16 * 7 - 105 = 7, 7 + 211 = 218
            for index in ((..., 112, place), (..., place, 112)):
                changed = picture.clone()
                changed[index] += 1000.0
                assert bool((trunk(changed)[0, :, 7, 7] > cell).all()) is sees
                assert torch.equal(trunk(changed)[0, :, 7, 7], cell) is not sees


@pytest.mark.parametrize("axis", [0, 1])
def test_a_joined_cell_sees_a_part_of_its_field_about_its_own_pixel(axis: int) -> None:
    field = receptive_field("lowrank18")
    assert (field.stride, field.padding) == (8, (field.size - 1) // 2)
    trunk, ends = geometry_only("lowrank18"), []
    for cell in (24, 25):
        length = 8 * cell + field.size
        pixels = seen(trunk, length, 1, cell, 0)[:, 0] if axis == 0 else seen(trunk, 1, length, 0, cell)[0]
        places = pixels.nonzero().ravel()
        first, last = int(places[0]) - 8 * cell, int(places[-1]) - 8 * cell
        assert len(places) == last - first + 1  # without a gap
        assert -field.padding <= first < 0 < last <= field.padding
        ends += [-first, last]
    assert max(ends) == field.padding
