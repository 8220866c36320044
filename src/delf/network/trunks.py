"""The trunk of a model by its name: what makes a network of each kind of layout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delf.errors import ModelError
from delf.models import TRUNKS
from delf.models.layouts import ConvNextLayout, VitLayout
from delf.network.convnext import ConvNextTrunk
from delf.network.graph import GraphTrunk, onnx_trunk
from delf.network.joined import resnet_of
from delf.network.own import GivenTrunk, OwnTrunk, TrunkOptions, named_trunk
from delf.network.probing import Progress
from delf.network.trunk import Trunk
from delf.network.vit import VitTrunk

KINDS: dict[type, Callable[[Any], Trunk]] = {ConvNextLayout: ConvNextTrunk, VitLayout: VitTrunk}
"""Of the layouts in `delf.models.TRUNKS` that are no ResNets: what makes a trunk of one, with fresh weights."""


OWN: dict[str, OwnTrunk] = {}
"""Modules of the user's, by their names, as long as they are in use: models with such a trunk are made of copies."""


@contextmanager
def known(trunk: Trunk | None) -> Iterator[None]:
    """Inside, models have this trunk by its name."""
    if not isinstance(trunk, OwnTrunk):
        yield
        return
    before = OWN.get(trunk.name)
    OWN[trunk.name] = trunk
    try:
        yield
    finally:
        del OWN[trunk.name]
        if before is not None:
            OWN[trunk.name] = before


def given_trunk(place: str, options: TrunkOptions | None = None, *, precision: str = "half",
                progress: Progress = lambda done, total: None) -> GivenTrunk:
    """The trunk that a user gives on the command line: an .onnx file, or MODULE:FACTORY (`delf.network.own`).

    precision: of the weights in the file, as in `delf.models.ModelConfig`. progress: as for `probe`.
    """
    if place.endswith(".onnx"):
        return onnx_trunk(Path(place), options, precision=precision, progress=progress)
    return named_trunk(place, options, progress=progress)


def trunk_of(name: str, *, conv5: bool = False, padding: str = "torch", layout: Mapping[str, int] | None = None
             ) -> Trunk:
    """The trunk of a name, with fresh weights. conv5, padding, layout: as in `delf.models.ModelConfig`."""
    shipped, said = TRUNKS.get(name), layout or {}
    if shipped is None and said.get("graph"):
        return GraphTrunk(said["graph"])
    if shipped is None:
        return _own(name, said.get("shift", 0))
    kind = KINDS.get(type(shipped))
    return resnet_of(name, conv5=conv5, padding=padding) if kind is None else kind(shipped)


def _own(name: str, shift: int) -> OwnTrunk:
    trunk = OWN.get(name)
    if trunk is None:
        raise ModelError(f"the trunk {name!r} does not come with the package: use the ONNX file of the model, or give "
                         "its module (--trunk of 'delf train'; delf.network.trunks.known in Python)")
    if trunk.layout.shift != shift:
        raise ModelError(f"the trunk {name!r} is placed {trunk.layout.shift} pixels into what it is given, and that of "
                         f"the model {shift}: state the offset that it was trained with")
    return copy.deepcopy(trunk)
