"""The trunk of a model by its name: what makes a network of each kind of layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delf.errors import ModelError
from delf.models import TRUNKS
from delf.models.layouts import ConvNextLayout, VitLayout
from delf.network.convnext import ConvNextTrunk
from delf.network.joined import resnet_of
from delf.network.trunk import Trunk
from delf.network.vit import VitTrunk

KINDS: dict[type, Callable[[Any], Trunk]] = {ConvNextLayout: ConvNextTrunk, VitLayout: VitTrunk}
"""Of the layouts in `delf.models.TRUNKS` that are no ResNets: what makes a trunk of one, with fresh weights."""


def trunk_of(name: str, *, conv5: bool = False, padding: str = "torch") -> Trunk:
    """The trunk of a name, with fresh weights. conv5, padding: of a ResNet, as in `delf.models.ModelConfig`."""
    layout = TRUNKS.get(name)
    if layout is None:
        raise ModelError(f"the trunk {name!r} does not come with the package: use the ONNX file of the model, or add "
                         "it to delf.models.TRUNKS and its module to delf.network.trunks.KINDS before")
    kind = KINDS.get(type(layout))
    return resnet_of(name, conv5=conv5, padding=padding) if kind is None else kind(layout)
