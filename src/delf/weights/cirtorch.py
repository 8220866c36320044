"""Global descriptors of cirtorch (Radenovic et al., TPAMI 2019; filipradenovic/cnnimageretrieval-pytorch).

A checkpoint holds `state_dict` (`features.N`, the children of torchvision's network in a row; `pool.p`; `whiten`) and
`meta`, which says the architecture, the pooling, and what whitening was learnt afterwards (`Lw`). The network pools
conv5, scales that to unit length, and maps it by the linear layer `whiten`, if it has one, to unit length again;
several sizes of a photo are averaged after that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.models import TRUNKS, ModelConfig, Whitening
from delf.weights.checkpoint import Checkpoint
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.torchvision import of_globals, trunk_of
from delf.weights.trunk import no_pca, torch_variables

_USUAL = "retrieval-SfM-120k"  # the whitening that the authors name first
_SIZES = (2**-0.5, 1.0, 2**0.5)  # of a photo, with which the authors evaluate networks that end in a whitening
_PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
STAGES = ("features.4", "features.5", "features.6")


def fits(checkpoint: Checkpoint) -> bool:
    """Whether it is one."""
    return "features.0.weight" in checkpoint.shapes and "pooling" in checkpoint.table("meta")


def in_a_row(name: str, prefix: str = "features.") -> str:
    """A name of torchvision -> that of a network whose children are numbered."""
    first, _, rest = name.partition(".")
    return f"{prefix}{_PLACES[first]}.{rest}"


def read(checkpoint: Checkpoint, options: ImportOptions, name: str) -> ImportedModel:
    """A model whose global descriptor is that of the network.

    Raises:
        ModelError: weights are missing or misshapen; or the network has a part that delf has not.
    """
    meta = checkpoint.table("meta")
    trunk = _trunk(checkpoint, meta)
    kind, channels = _pooling(checkpoint, meta), 2 * TRUNKS[trunk].channels
    variables, arrays = list(torch_variables(trunk, in_a_row, conv5=True)), {}
    whitened = "whiten.weight" in checkpoint.shapes
    if whitened:
        variables += [("global_layer.weight", "whiten.weight", (channels, channels)),
                      ("global_layer.bias", "whiten.bias", (channels,))]
    if kind == "spoc":
        arrays["pooling.p"] = np.ones((), np.float32)  # the mean is the generalised one of the exponent 1
    elif kind == "gem":
        arrays["pooling.p"] = checkpoint.read("pool.p", (1,))[0]
    whitening = None if whitened else learnt_afterwards(checkpoint, options, channels)
    mean, std = (pixels(checkpoint, meta.get(key), key) for key in ("mean", "std"))
    sizes = _SIZES if whitened else (1.0,)
    config = ModelConfig(
        name, trunk=trunk, precision="single", conv5=True, mean=mean, std=std,
        pooling="gem" if kind == "spoc" else kind, resize="bilinear",
        global_dimensions=channels if whitened else 0, global_normalised=whitened,
        global_scales=sizes, extraction=of_globals(trunk, scales=list(sizes), max_image_size=1024),
        about=f"Imported from {checkpoint.path.name!r}: a global descriptor of cirtorch ({trunk}, {kind}).")
    return ImportedModel(config, checkpoint.read_all(variables) | arrays, no_pca(TRUNKS[trunk].channels), whitening)


def _trunk(checkpoint: Checkpoint, meta: Mapping[str, Any]) -> str:
    said = str(meta.get("architecture"))
    if not re.fullmatch(r"resnet(18|34|50|101)", said):
        raise ModelError(f"{str(checkpoint.path)!r} is of the architecture {said!r:.40}, and only ResNet-18, 34, 50 "
                         "and 101 are known here; get a checkpoint of one of those")
    return trunk_of(checkpoint, STAGES)


def _pooling(checkpoint: Checkpoint, meta: Mapping[str, Any]) -> str:
    for part in ("regional", "local_whitening"):
        if meta.get(part):
            raise ModelError(f"{str(checkpoint.path)!r} has a {part.replace('_', ' ')} part, which delf has not; get a "
                             "checkpoint without one")
    kind = meta.get("pooling")
    if kind not in ("gem", "mac", "rmac", "spoc"):
        raise ModelError(f"{str(checkpoint.path)!r} pools by {kind!r:.40}, and only gem, mac, rmac and spoc are known "
                         "here; get a checkpoint of one of those")
    return str(kind)


def pixels(checkpoint: Checkpoint, found: Any, what: str) -> tuple[float, float, float]:
    """Three numbers for colours from 0 to 1, as those for colours from 0 to 255.

    Raises:
        ModelError: they are none.
    """
    if not isinstance(found, list | tuple) or len(found) != 3 or not all(isinstance(one, float) for one in found):
        raise ModelError(f"{str(checkpoint.path)!r} does not say the {what} of its pixels; get the file again")
    red, green, blue = (255.0 * one for one in found)
    return red, green, blue


def chosen_whitening(checkpoint: Checkpoint, known: Mapping[str, Any], options: ImportOptions, usual: str) -> str:
    """The name of the whitening that the options ask for: by default the usual one, or else the first. Empty if there
    is none, or none is wanted.

    Raises:
        ModelError: the checkpoint has no whitening of the name.
    """
    wanted = options.whitening
    if wanted is None:
        wanted = usual if usual in known else next(iter(known), "")
    if wanted and wanted not in known:
        raise ModelError(f"{str(checkpoint.path)!r} has no whitening {wanted!r}; it has "
                         f"{', '.join(map(repr, known)) or 'none'}")
    return wanted


def learnt_afterwards(checkpoint: Checkpoint, options: ImportOptions, channels: int) -> Whitening | None:
    """The whitening of a name in `Lw`, for one size of a photo; None if there is none, or none is wanted."""
    wanted = chosen_whitening(checkpoint, checkpoint.table("meta", "Lw"), options, _USUAL)
    if not wanted:
        return None
    parts = checkpoint.table("meta", "Lw", wanted, "ss") or checkpoint.table("meta", "Lw", wanted)
    mean = checkpoint.numbers(parts.get("m"), f"the mean of the whitening {wanted!r}").ravel()
    projection = checkpoint.numbers(parts.get("P"), f"the projection of the whitening {wanted!r}")
    whitening = Whitening(mean, np.ascontiguousarray(projection))
    whitening.require_channels(channels, checkpoint.path)
    return whitening
