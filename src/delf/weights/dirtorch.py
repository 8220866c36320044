"""Global descriptors of DIR (Gordo et al., IJCV 2017; Revaud et al., ICCV 2019; naver/deep-image-retrieval).

A checkpoint holds `model_options` (the architecture and how it pools), `state_dict` (torchvision's names, `adpool.p`,
`fc`), `preprocess` (mean and std of colours from 0 to 1) and `pca`, for each set of training photos a PCA of
scikit-learn, whose attributes are read as data. The network pools conv5, maps that by the linear layer `fc`, and scales
it to unit length; the PCA follows, each component divided by a power of its variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.models import TRUNKS, ModelConfig, Whitening
from delf.weights.checkpoint import Checkpoint
from delf.weights.cirtorch import chosen_whitening, pixels
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.torchpickle import Unknown
from delf.weights.torchvision import of_globals, trunk_of
from delf.weights.trunk import no_pca, torch_variables

_USUAL = "Landmarks_clean"
_ARCHITECTURE = "_rmac"  # how the names of the networks end, whatever they pool by
_POOLINGS = {"gem": "gem", "max": "mac", "avg": "gem"}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether it is one."""
    return "arch" in checkpoint.table("model_options") and "conv1.weight" in checkpoint.shapes


def read(checkpoint: Checkpoint, options: ImportOptions, name: str) -> ImportedModel:
    """A model whose global descriptor is that of the network, of the photo at its own size.

    Raises:
        ModelError: weights are missing or misshapen; or the network has a part that delf has not.
    """
    said = checkpoint.table("model_options")
    trunk, pooling = _require_known(checkpoint, said), str(said.get("pooling", "gem"))
    channels = 2 * TRUNKS[trunk].channels
    variables, arrays = list(torch_variables(trunk, conv5=True)), {}
    if _POOLINGS[pooling] == "gem":
        arrays["pooling.p"] = np.ones((), np.float32) if pooling == "avg" else checkpoint.read("adpool.p", (1,))[0]
    dimensions = 0
    if not said.get("without_fc"):
        dimensions = checkpoint.shapes.get("fc.bias", (0,))[0]
        variables += [("global_layer.weight", "fc.weight", (dimensions, channels)),
                      ("global_layer.bias", "fc.bias", (dimensions,))]
    colours = checkpoint.table("preprocess")
    mean, std = (pixels(checkpoint, colours.get(key, usual), key) for key, usual in
                 (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))))
    config = ModelConfig(
        name, trunk=trunk, precision="single", conv5=True, pooling=_POOLINGS[pooling], mean=mean, std=std,
        global_dimensions=dimensions, global_normalised=bool(said.get("norm_features")) and dimensions > 0,
        global_scales=(1.0,), resize="bilinear",
        extraction=of_globals(trunk, scales=[1.0], max_image_size=None),
        about=f"Imported from {checkpoint.path.name!r}: a global descriptor of DIR ({trunk}, {pooling}).")
    return ImportedModel(config, checkpoint.read_all(variables) | arrays, no_pca(TRUNKS[trunk].channels),
                         _whitening(checkpoint, options, dimensions or channels))


def _require_known(checkpoint: Checkpoint, said: Mapping[str, Any]) -> str:
    """The trunk, where the options of the network are of those that are known."""
    trunk, told = trunk_of(checkpoint), str(said["arch"])
    if told.removesuffix(_ARCHITECTURE) != trunk or not told.endswith(_ARCHITECTURE):
        raise ModelError(f"{str(checkpoint.path)!r} is of the architecture {told!r:.40} with the units of a {trunk}, "
                         "and only resnet18_rmac, resnet50_rmac and resnet101_rmac are known here; get one of those")
    if said.get("pooling", "gem") not in _POOLINGS:
        raise ModelError(f"{str(checkpoint.path)!r} pools by {said['pooling']!r:.40}, and only gem, max and avg are "
                         "known here; get one of those")
    if said.get("center_bias"):
        raise ModelError(f"{str(checkpoint.path)!r} weighs the centre of a photo more (center_bias), which delf does "
                         "not; get a checkpoint without that")
    return trunk


def _whitening(checkpoint: Checkpoint, options: ImportOptions, channels: int) -> Whitening | None:
    """The PCA of a name; None where there is none, or none is wanted."""
    known = checkpoint.table("pca")
    wanted = chosen_whitening(checkpoint, known, options, _USUAL)
    if not wanted:
        return None
    found, what = known[wanted], f"of the whitening {wanted!r}"
    state = found.state if isinstance(found, Unknown) else found
    if not isinstance(state, dict):
        raise ModelError(f"the whitening {wanted!r} in {str(checkpoint.path)!r} is no PCA of scikit-learn; get the "
                         "file again, or import it with --whitening ''")
    mean = checkpoint.numbers(state.get("mean_"), f"the mean {what}").ravel()
    components = checkpoint.numbers(state.get("components_"), f"the components {what}")
    if state.get("whiten"):
        variances = checkpoint.numbers(state.get("explained_variance_"), f"the variances {what}").ravel()
        if components.ndim != 2 or variances.shape != components.shape[:1] or not (variances > 0).all():
            raise ModelError(f"the whitening {wanted!r} in {str(checkpoint.path)!r} is damaged: its variances do not "
                             "fit its components; get the file again")
        components = components / variances[:, None] ** np.float32(options.whitening_power)
    whitening = Whitening(mean, np.ascontiguousarray(components))
    whitening.require_channels(channels, checkpoint.path)
    return whitening
