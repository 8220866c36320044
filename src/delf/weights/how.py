"""Local descriptors of HOW (Tolias et al., ECCV 2020; gtolias/how).

A checkpoint holds `state_dict` (`features.N`, the children of torchvision's network in a row; `dim_reduction`) and
`net_params`, which says the architecture, how many of its last stages are left out, the window of the smoothing, and
how features are extracted. An older kind says the same in `meta`, and calls the reduction `whiten`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delf.errors import ModelError, OptionError
from delf.features import ExtractionOptions
from delf.models import TRUNKS, ModelConfig
from delf.weights.checkpoint import Checkpoint
from delf.weights.cirtorch import STAGES, in_a_row, pixels
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.torchvision import trunk_of
from delf.weights.trunk import no_pca, torch_variables

# What the older kind does not say: the authors' evaluation.
_USUAL = {"scales": [2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25], "image_size": 1024, "features_num": 1000}
_TRUNKS = {("resnet18", 0): "resnet18-conv5", ("resnet18", 1): "resnet18", ("resnet34", 1): "resnet34",
           ("resnet50", 1): "resnet50", ("resnet101", 1): "resnet101"}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether it is one: its reduction is a convolution."""
    reduction = [checkpoint.shapes.get(f"{name}.weight", ()) for name in ("dim_reduction", "whiten")]
    return "features.0.weight" in checkpoint.shapes and ("net_params" in checkpoint.content
                                                         or any(len(shape) == 4 for shape in reduction))


def read(checkpoint: Checkpoint, options: ImportOptions, name: str) -> ImportedModel:
    """A model whose local features are those of the network: scored by their length, averaged with their neighbours,
    and reduced. They have unit length here, which the authors' have not.

    Raises:
        ModelError: weights are missing or misshapen; or the network has a part that delf has not.
    """
    said, reduction = _said(checkpoint)
    trunk, skipped = trunk_of(checkpoint, STAGES), said.get("skip_layer")
    known = _TRUNKS.get((str(said.get("architecture")), skipped if isinstance(skipped, int) else -1))
    if known is None or known.removesuffix("-conv5") != trunk:
        raise ModelError(f"{str(checkpoint.path)!r} is of the architecture {said.get('architecture')!r:.40} without "
                         f"its last {skipped!r:.10} stages, which is not known here; ResNet-18 with all, or "
                         "ResNet-18, 34, 50 and 101 without the last one, are")
    dimensions = checkpoint.shapes.get(f"{reduction}.bias", (0,))[0]
    channels, window = TRUNKS[known].channels, _window(checkpoint, said)
    variables = list(torch_variables(known, in_a_row))
    if dimensions:
        variables += [("projection.conv.weight", f"{reduction}.weight", (dimensions, channels, 1, 1)),
                      ("projection.conv.bias", f"{reduction}.bias", (dimensions,))]
    elif window:
        raise ModelError(f"{str(checkpoint.path)!r} averages features that nothing reduces, which delf does not; get a "
                         "checkpoint with a dim_reduction")
    runtime = said.get("runtime")
    runtime = {**_USUAL, **(runtime if isinstance(runtime, dict) else {})}
    colours = runtime.get("mean_std")
    mean, std = colours if isinstance(colours, list | tuple) and len(colours) == 2 else (None, None)
    extraction = {"scales": runtime["scales"], "max_image_size": runtime["image_size"],
                  "max_features": runtime["features_num"], "dimensions": dimensions or channels, "length_weight": 0.0,
                  "texture": 0.0, "border": 0.0, "score_threshold": 0.0, "whitening": False}
    try:
        ExtractionOptions(**extraction)
    except (OptionError, TypeError) as error:
        raise ModelError(f"{str(checkpoint.path)!r} extracts features in a way that makes no sense: {error}") from error
    config = ModelConfig(
        name, trunk=known, stride=TRUNKS[known].strides[0], precision="single", projection=dimensions,
        smoothing=window, resize="bilinear", mean=pixels(checkpoint, mean, "mean"), std=pixels(checkpoint, std, "std"),
        extraction=extraction, about=f"Imported from {checkpoint.path.name!r}: local descriptors of HOW ({known}).")
    return ImportedModel(config, checkpoint.read_all(variables), no_pca(dimensions or channels))


def _said(checkpoint: Checkpoint) -> tuple[Mapping[str, Any], str]:
    """What the network is, and how its reduction is called."""
    said = checkpoint.table("net_params")
    if said:
        return said, "dim_reduction"
    meta = checkpoint.table("meta")
    return {**meta, "smoothing": {"kernel_size": meta.get("feat_pool_k", 0)},
            "runtime": {"mean_std": [meta.get("mean"), meta.get("std")]}}, "whiten"


def _window(checkpoint: Checkpoint, said: Mapping[str, Any]) -> int:
    smoothing = said.get("smoothing")
    window = smoothing.get("kernel_size") if isinstance(smoothing, dict) else 0
    if window not in (0, 1, 3, 5, 7):
        raise ModelError(f"{str(checkpoint.path)!r} averages over {window!r:.20} cells, and only 3, 5 or 7 are known "
                         "here")
    return 0 if window == 1 else int(window)
