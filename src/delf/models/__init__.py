"""Model files: what a model is, where it is found, and what can be read of it without torch.

A model is one name with up to two files beside each other:

- `NAME.safetensors`: all weights, for torch (training, export, GPUs);
- `NAME.onnx`: the same computation for a plain install, made from the former by `delf export`.

Either file alone is complete: it carries the configuration as JSON, the PCA of its descriptors and, where one was
learnt, the whitening of its global descriptor.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ModelError
from delf.models.finding import (
    DEFAULT_MODEL,
    EIGHT_BIT,
    PACKAGED,
    WORDS,
    ModelFiles,
    find_model,
    on_hub,
    packaged_models,
    packaged_words,
)
from delf.models.layouts import SHIPPED, TRUNKS, Layout, OpenLayout, TrunkLayout, resnet_layout
from delf.models.receptive_field import receptive_field
from delf.models.spaces import COMPARED, is_same_model, share_space, shares_words
from delf.types import FloatArray

__all__ = ["COMPARED", "CONVENTIONS", "DEFAULT_MODEL", "EIGHT_BIT", "METADATA_KEY", "OUTPUTS", "PACKAGED", "PCA",
           "PCA_KEYS", "POOLING_NAMES", "TRUNKS", "WHITENING_KEYS", "WORDS", "Layout", "ModelConfig", "ModelFiles",
           "TrunkLayout", "Whitening", "find_model", "is_same_model", "on_hub", "packaged_models", "packaged_words",
           "read_onnx", "resnet_layout", "share_space", "shares_words"]

METADATA_KEY = "delf"
OUTPUTS = ("feature_map", "attention", "global_descriptor")  # of the ONNX graph, in this order
PCA_KEYS = ("pca.mean", "pca.components", "pca.variances")
WHITENING_KEYS = ("whitening.mean", "whitening.projection", "whitening.smallest_scale")
POOLING_NAMES = ("gem", "rmac", "mac")
# How other people's models differ from delf's own, as values of the fields of `ModelConfig` that say so.
CONVENTIONS = {"padding": ("torch", "tensorflow", "keras"), "resize": ("antialiased", "tensorflow", "bilinear"),
               "precision": ("half", "single")}
# Fields that most models lack.
_LATER = ("projection", "smoothing", "global_normalised", "global_scales", "source", "space")


_OPEN = ("shift", "graph")  # of `layout`, where a trunk needs them to be put together


@dataclass(frozen=True)
class ModelConfig:
    """What a model file says of itself.

    trunk: a key of `TRUNKS`. stride: one of its strides. layout: of a trunk that does not come with the package, what
        is to be known of it where it is not in `TRUNKS`, as the fields of `OpenLayout`.
    attention: whether a trained attention head is in the file; else the feature norm scores the features.
    mean, std: of RGB values in 0..255, subtracted and divided by before the trunk.
    padding: of the maximum behind conv1: "torch", one cell on all sides; "tensorflow", whose SAME has none above and
        at the left of a map of even sides; or "keras", where it has none at all, and conv1 itself has that SAME. Other
        convolutions have the same in all three.
    resize: what the levels of the pyramid are: "antialiased", with half-pixel centres (`delf.images.resize`);
        "tensorflow", the bilinear one of TensorFlow 1 without them; or "bilinear", with them, but between the two
        nearest pixels even where it shrinks, as in TensorFlow 2 and torch. It says where a pixel of a level lies in the
        photo as well (`delf.features.pyramid`).
    precision: of the convolutions in its files: "half", or "single" where they were given and shall stay so.
    projection: channels that a convolution with a bias makes of the features, 1x1, and which are the map that local
        features come from; 0 where that is the trunk's. Attention is of the trunk's features. smoothing: the side of
        the window over which features are averaged before it; 0 is none.
    pooling: "gem", "rmac" or "mac" (the maximum), the pooling of the global descriptor. conv5: it pools conv5 instead
        of conv4.
    global_normalised: whether what is pooled has unit length before the linear layer. global_scales: of the levels of
        the pyramid that global descriptors are pooled from; empty for all.
    global_dimensions: of the global descriptor behind a learnt linear layer; 0 where there is no such layer.
    autoencoder: channels between the two layers of the autoencoder whose reconstruction the attention sees, as in
        DELG; 0 where it sees the features themselves.
    extraction: values that differ from the defaults of `delf.features.ExtractionOptions`.
    probability: weights of the evidence that two images show the same thing (`delf.ranking.probability`).
    probability_by_words: the same where a search by the words of the model tells how similar two images are.
    about: one sentence on what it was trained from; licence: of the weights. source: the SHA-256 of each file that it
        was imported from, by name.
    fingerprint: SHA-256 over weights, PCA and whitening, the same in both files of a model; features of models with
        different fingerprints do not mix.
    space: the fingerprint of the model in whose space its descriptors lie, if it has learnt them from that one: they
        share visual words. "" for a space of its own.
    """

    name: str
    trunk: str = "resnet18"
    stride: int = 16
    attention: bool = False
    attention_hidden: int = 512
    attention_batch_norm: bool = True
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    padding: str = "torch"
    resize: str = "antialiased"
    precision: str = "half"
    pooling: str = "gem"
    conv5: bool = False
    global_dimensions: int = 0
    autoencoder: int = 0
    projection: int = 0
    smoothing: int = 0
    global_normalised: bool = False
    global_scales: tuple[float, ...] = ()
    extraction: Mapping[str, Any] = field(default_factory=dict)
    probability: Mapping[str, float] = field(default_factory=dict)
    probability_by_words: Mapping[str, float] = field(default_factory=dict)
    about: str = ""
    licence: str = ""
    source: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    space: str = ""
    layout: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        strides = self.trunk_layout.strides
        if self.stride not in strides:
            raise ModelError(f"the stride of a {self.trunk} is {' or '.join(map(str, strides))}, not {self.stride!r}")
        if not isinstance(self.trunk_layout, TrunkLayout) and (self.conv5 or self.padding != "torch"):
            raise ModelError(f"a {self.trunk} has no conv5, and no padding to be chosen: both are of ResNets")
        if self.pooling not in POOLING_NAMES:
            raise ModelError(f"unknown pooling {self.pooling!r}; known are {', '.join(POOLING_NAMES)}")
        for name, known in CONVENTIONS.items():
            if getattr(self, name) not in known:
                raise ModelError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")
        if not isinstance(self.attention_hidden, int) or not 0 < self.attention_hidden <= 65536:
            raise ModelError(f"attention_hidden is a number of channels, not {self.attention_hidden!r}")
        for name in ("global_dimensions", "autoencoder", "projection"):
            if type(getattr(self, name)) is not int or not 0 <= getattr(self, name) <= 65536:
                raise ModelError(f"{name} is a number of channels, not {getattr(self, name)!r}")
        for weights in (self.probability, self.probability_by_words):
            if not (isinstance(weights, Mapping) and all(
                    isinstance(value, (int, float)) and math.isfinite(value) for value in weights.values())):
                raise ModelError(f"probability is a table of weights, not {weights!r}")
        for name in ("conv5", "global_normalised"):
            if type(getattr(self, name)) is not bool:
                raise ModelError(f"{name} is true or false, not {getattr(self, name)!r}")
        if self.conv5 and isinstance(self.trunk_layout, TrunkLayout) and self.trunk_layout.stages == 4:
            raise ModelError(f"the features of a {self.trunk} are of conv5, so that its conv5 is false")
        if type(self.smoothing) is not int or not (self.smoothing == 0 or self.smoothing in (3, 5, 7)):
            raise ModelError(f"smoothing is 0, or a window of 3, 5 or 7 cells, not {self.smoothing!r}")
        if not all(isinstance(scale, (int, float)) and 0 < scale <= 8 for scale in self.global_scales):
            raise ModelError(f"global_scales are numbers above 0, not {self.global_scales!r}")
        if not isinstance(self.source, Mapping) or not all(
                isinstance(one, str) for pair in self.source.items() for one in pair):
            raise ModelError(f"source is a table of names and sums, not {self.source!r}")
        if not (len(self.mean) == len(self.std) == 3 and all(map(math.isfinite, self.mean + self.std))
                and min(self.std) > 0):
            raise ModelError(f"mean and std are three numbers each, std above 0, not {self.mean!r} and {self.std!r}")

    @property
    def channels(self) -> int:
        """Channels of the feature map that local features come from."""
        return self.projection or self.trunk_channels

    @property
    def trunk_channels(self) -> int:
        """Channels of what the trunk gives."""
        return self.trunk_layout.channels

    @property
    def trunk_layout(self) -> Layout:
        """The layout of the trunk. Raises `ModelError` if the trunk is unknown."""
        if self.trunk in TRUNKS:
            return TRUNKS[self.trunk]
        if not {"channels", "size", "padding"} <= set(self.layout) <= {*_OPEN, "channels", "size", "padding"}:
            raise ModelError(f"unknown trunk {self.trunk!r}; known are {', '.join(TRUNKS)}")
        return OpenLayout(stride=self.stride, **self.layout)

    @property
    def global_channels(self) -> int:
        """Length of what the network pools: the global descriptor before its whitening."""
        return self.global_dimensions or self.trunk_channels * (2 if self.conv5 else 1)

    def to_json(self) -> str:
        """The configuration as one line of JSON, which says of conventions, and of what came later, only what is not
        usual: versions of delf that know no others read it as well.
        """
        said = {name: value for name, value in asdict(self).items()
                if (name not in CONVENTIONS or value != CONVENTIONS[name][0]) and (name not in _LATER or value)}
        seen = receptive_field(self.trunk_layout)
        said["layout"] = {"channels": self.trunk_channels, "size": seen.size, "padding": seen.padding}
        said["layout"] |= {name: self.layout[name] for name in _OPEN if self.layout.get(name)}
        if self.trunk in SHIPPED:
            del said["layout"]
        return json.dumps(said, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, source: Path) -> ModelConfig:
        """Read back what `to_json` wrote; `source` is the file to name in errors."""
        try:
            values = json.loads(text)
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ModelError("it was written by a newer version of delf, which knows "
                                 f"{', '.join(sorted(unknown))}; upgrade delf-retrieval")
            lists = {name: tuple(values[name]) for name in ("mean", "std")}
            return cls(**{**values, **lists, "global_scales": tuple(values.get("global_scales", ()))})
        except ModelError as error:
            raise ModelError(f"{source} cannot be used: {error}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ModelError(f"{source} has a damaged configuration ({error}); get the file again") from error


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components of L2-normalised features, learnt with the model.

    mean: (C,) float32. components: (D, C) float32, one component a row, strongest first. variances: (D,) float32.
    """

    mean: FloatArray
    components: FloatArray
    variances: FloatArray

    def require_channels(self, channels: int, source: Path) -> None:
        """Raise a `ModelError` that names `source` unless this is a PCA of features with so many channels."""
        fits = (self.mean.shape == (channels,) and self.variances.ndim == 1
                and self.components.shape == (len(self.variances), channels))
        if not fits or not all(np.isfinite(array).all() for array in (self.mean, self.components, self.variances)):
            raise ModelError(f"the PCA in {source} is damaged or of another model: it does not fit features of "
                             f"{channels} channels; get the file again")

    def to_metadata(self) -> dict[str, str]:
        """The three arrays as base64 of little-endian float32, for the metadata of an ONNX file."""
        return _encoded(PCA_KEYS, (self.mean, self.components, self.variances))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: Path) -> PCA:
        """Read back what `to_metadata` wrote."""
        try:
            mean, components, variances = _decoded(PCA_KEYS, metadata)
            return cls(mean, components.reshape(len(variances), len(mean)), variances)
        except (KeyError, ValueError) as error:
            raise ModelError(f"{source} has no readable PCA ({error}); export it again with 'delf export'") from error


@dataclass(frozen=True, eq=False)
class Whitening:
    """What makes the components of a global descriptor count alike, learnt with the model (`training.whitening`).

    mean: (G,) float32, of unit vectors. projection: (W, G) float32, applied to what is left of a unit vector without
    the mean. smallest_scale: (1,) float32, the smallest level of the pyramid that global descriptors are pooled from:
    it was learnt on those, and belongs to what makes descriptors comparable as much as the other two.
    """

    mean: FloatArray
    projection: FloatArray
    smallest_scale: FloatArray = field(default_factory=lambda: np.zeros(1, np.float32))

    def require_channels(self, channels: int, source: Path) -> None:
        """Raise a `ModelError` that names `source` unless this is for global descriptors of so many channels."""
        fits = (self.mean.shape == (channels,) and self.projection.ndim == 2 and len(self.projection) > 0
                and self.projection.shape[1] == channels and self.smallest_scale.shape == (1,))
        if not fits or not all(np.isfinite(array).all() for array in self.arrays()):
            raise ModelError(f"the whitening in {source} is damaged or of another model: it does not fit global "
                             f"descriptors of {channels} channels; get the file again")

    def to_metadata(self) -> dict[str, str]:
        """The three arrays, as `PCA.to_metadata` has them."""
        return _encoded(WHITENING_KEYS, self.arrays())

    def arrays(self) -> tuple[FloatArray, ...]:
        """The arrays as they are stored, in the order of `WHITENING_KEYS`."""
        return self.mean, self.projection, self.smallest_scale

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: Path) -> Whitening | None:
        """Read back what `to_metadata` wrote; None where a file has nothing of it."""
        if not any(key in metadata for key in WHITENING_KEYS):
            return None
        try:
            mean, projection, smallest_scale = _decoded(WHITENING_KEYS, metadata)
            return cls(mean, projection.reshape(-1, len(mean)), smallest_scale)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise ModelError(f"{source} has no readable whitening ({error}); export it again with 'delf export'"
                             ) from error


def read_onnx(path: Path, metadata: Mapping[str, str],
              outputs: Sequence[str]) -> tuple[ModelConfig, PCA, Whitening | None]:
    """What an ONNX file carries beside the network, given its metadata and the names of its outputs.

    Raises:
        ModelError: it is not of a delf model, or damaged.
    """
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path} is an ONNX file but not of a delf model; make one with 'delf export'")
    config = ModelConfig.from_json(metadata[METADATA_KEY], path)
    pca, whitening = PCA.from_metadata(metadata, path), Whitening.from_metadata(metadata, path)
    pca.require_channels(config.channels, path)
    if whitening is not None:
        whitening.require_channels(config.global_channels, path)
    if list(outputs) != list(OUTPUTS):
        raise ModelError(f"{path} does not compute what a delf model computes; make it again with 'delf export'")
    return config, pca, whitening


def _encoded(keys: Sequence[str], arrays: Sequence[FloatArray]) -> dict[str, str]:
    return {key: base64.b64encode(np.asarray(array, "<f4").tobytes()).decode("ascii")
            for key, array in zip(keys, arrays, strict=True)}


def _decoded(keys: Sequence[str], metadata: Mapping[str, str]) -> list[FloatArray]:
    return [np.frombuffer(base64.b64decode(metadata[key], validate=True), "<f4").astype(np.float32) for key in keys]
