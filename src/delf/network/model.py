"""The DELF model: trunk, attention and global pooling; one safetensors file has it with its configuration and PCA."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from delf.errors import ModelError
from delf.files import replacing
from delf.models import METADATA_KEY, PCA, PCA_KEYS, WHITENING_KEYS, ModelConfig, Whitening, find_model, on_hub
from delf.network.heads import POOLINGS, Attention, Autoencoder, FeatureNorm, Projection
from delf.network.resnet import fold_batch_norm, unfold_batch_norm
from delf.network.trunks import trunk_of
from delf.types import FloatArray


class DelfModel(nn.Module):
    """Images -> feature map, attention and global descriptor.

    The model normalises the images itself, so that every runtime takes the same input. It carries the PCA of the local
    and the whitening of the global descriptor; the extractor applies them, once for all levels.
    """

    def __init__(self, config: ModelConfig, pca: PCA | None = None, whitening: Whitening | None = None) -> None:
        super().__init__()
        self.config = config
        self.pca = pca
        self.whitening = whitening
        self.trunk = trunk_of(config.trunk, conv5=config.conv5, padding=config.padding, layout=config.layout)
        self.attention: nn.Module = FeatureNorm()
        if config.attention:
            self.attention = Attention(config.trunk_channels, config.attention_hidden,
                                       batch_norm=config.attention_batch_norm)
        self.autoencoder: nn.Module = Autoencoder(config.trunk_channels, config.autoencoder) \
            if config.autoencoder else nn.Identity()
        self.projection: nn.Module = nn.Identity()
        if config.projection:
            self.projection = Projection(config.trunk_channels, config.projection, config.smoothing)
        self.pooling = POOLINGS[config.pooling]()
        self.global_layer: nn.Module = nn.Identity()
        if config.global_dimensions:
            self.global_layer = nn.Linear(config.trunk_channels * (2 if config.conv5 else 1), config.global_dimensions)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) float RGB in 0..255 -> (B, C, h, w) map, (B, h, w) attention, (B, G) global descriptor."""
        return self.described(self.trunk(self.normalised(images)))

    def normalised(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 -> what the trunk is given."""
        return (images - self.mean) / self.std

    def described(self, feature_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) of the trunk -> the outputs of the model."""
        top = self.trunk.forward_conv5(feature_map) if self.config.conv5 else None
        step = self.config.stride // self.config.trunk_layout.strides[0]
        if step > 1:
            feature_map = feature_map[:, :, ::step, ::step]
        pooled = self.pooling(feature_map if top is None else top)
        if self.config.global_normalised:
            pooled = F.normalize(pooled, dim=1)
        attention = self.attention(self.autoencoder(feature_map))
        return self.projection(feature_map), attention, self.global_layer(pooled)

    def folded(self) -> DelfModel:
        """A copy in evaluation mode whose batch norms are folded into the convolutions: same output, faster."""
        copy = DelfModel(self.config, self.pca, self.whitening)
        copy.load_state_dict(self.state_dict())
        copy.trunk = fold_batch_norm(self.trunk)
        return copy.eval()

    @classmethod
    def from_pretrained(cls, model: str | Path) -> DelfModel:
        """Load a model by packaged name, file or folder, or from the hub by `owner/name`, in evaluation mode.

        Raises:
            ModelError: the file is missing, damaged, or not a model of this package.
        """
        path = find_model(on_hub(model)).require("safetensors")
        config, tensors = read_safetensors(path)
        if _fingerprint(tensors) != config.fingerprint:
            raise ModelError(f"the weights in {path} are not those that its fingerprint was made of: the file is "
                             "damaged; get it again")
        pca = whitening = None
        if arrays := _taken(tensors, PCA_KEYS):
            pca = PCA(*arrays)
            pca.require_channels(config.channels, path)
        if arrays := _taken(tensors, WHITENING_KEYS):
            whitening = Whitening(*arrays)
            whitening.require_channels(config.global_channels, path)
        instance = cls(config, pca, whitening)
        own = {key: tensor.shape for key, tensor in instance.state_dict().items()
               if not key.endswith("num_batches_tracked")}
        if own != {key: tensor.shape for key, tensor in tensors.items()}:
            raise ModelError(f"{path} says it is a {config.trunk} but its weights are of another model; get it again")
        instance.load_state_dict({key: tensor.float() if tensor.is_floating_point() else tensor
                                  for key, tensor in tensors.items()}, strict=False)
        return instance.eval()

    @classmethod
    def from_arrays(cls, config: ModelConfig, arrays: Mapping[str, FloatArray], pca: PCA | None = None,
                    whitening: Whitening | None = None) -> DelfModel:
        """A model of weights by their names, in evaluation mode. The exponent of GeM may be left out.

        Raises:
            ModelError: some are missing, unknown, or of another shape.
        """
        instance = cls(config, pca, whitening)
        own = {key: tuple(tensor.shape) for key, tensor in instance.state_dict().items()
               if not key.endswith("num_batches_tracked")}
        given = ({"pooling.p": ()} if config.pooling == "gem" else {}) | {key: one.shape for key, one in arrays.items()}
        wrong = sorted(key for key in own.keys() | given.keys() if own.get(key) != given.get(key))
        if wrong:
            raise ModelError(f"these weights are not of a {config.trunk} as its configuration says: {len(wrong)} are "
                             f"missing, unknown or of another shape, the first is {wrong[0]!r}")
        instance.load_state_dict({key: torch.from_numpy(np.array(array, np.float32)) for key, array in arrays.items()},
                                 strict=False)
        return instance.eval()

    def save_pretrained(self, path: Path, *, half: bool = True) -> None:
        """Write weights, PCA, whitening and configuration to one safetensors file, through a temporary file.

        Args:
            path: ends in `.safetensors`; its stem becomes the name in the configuration.
            half: store convolutions in half precision, unless the precision of the configuration is single; vectors,
                PCA and whitening stay in single. Batch norms are first folded into the convolutions, so that the ONNX
                file, which has them folded, holds the same halves.
        """
        half = half and self.config.precision == "half"
        folded = unfold_batch_norm(fold_batch_norm(self.trunk))
        tensors = {**self.state_dict(), **{f"trunk.{key}": tensor for key, tensor in folded.items()}}
        tensors = {key: tensor.half() if half and tensor.ndim == 4 and tensor.is_floating_point() else tensor
                   for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
        arrays: list[tuple[str, FloatArray]] = []
        if self.pca is not None:
            arrays += zip(PCA_KEYS, (self.pca.mean, self.pca.components, self.pca.variances), strict=True)
        if self.whitening is not None:
            arrays += zip(WHITENING_KEYS, self.whitening.arrays(), strict=True)
        tensors |= {key: torch.from_numpy(array) for key, array in arrays}
        config = dataclasses.replace(self.config, name=path.stem, fingerprint=_fingerprint(tensors))
        with replacing(path) as temporary:
            temporary.write_bytes(save({key: tensor.contiguous().clone() for key, tensor in tensors.items()},
                                       metadata={METADATA_KEY: config.to_json()}))
            temporary.chmod(0o644)


def _taken(tensors: dict[str, Tensor], keys: Sequence[str]) -> list[FloatArray]:
    """The arrays of some keys, which `tensors` lacks from then on; none unless all are there."""
    found = [tensors.pop(key, None) for key in keys]
    arrays = [np.asarray(tensor.float().numpy(), np.float32) for tensor in found if tensor is not None]
    return arrays if len(arrays) == len(keys) else []


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + b"\0" + tensors[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_safetensors(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and tensors of a model file.

    Raises:
        ModelError: the file is damaged or not a model of this package.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a safetensors file ({error}); get it again") from error
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path} is not a delf model: its configuration is missing (a bare ImageNet file becomes a "
                         "model with DelfModel(ModelConfig(...)).trunk.load_torchvision)")
    return ModelConfig.from_json(metadata[METADATA_KEY], path), tensors
