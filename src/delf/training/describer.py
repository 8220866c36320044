"""What stages train that learn descriptors: a trunk and the projection behind it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import DelfError
from delf.models import PCA
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.network.trunk import Trunk


class Describer(nn.Module):
    """The trunk, and the projection of its normalised features to descriptors, both to be trained.

    Args:
        folded: whether the batch norms are folded into the convolutions, so that they do not learn.
    """

    def __init__(self, model: DelfModel, *, folded: bool = True) -> None:
        super().__init__()
        if model.pca is None:
            raise DelfError("learning descriptors starts from a PCA, which this model lacks")
        self.stride = model.config.stride
        self.trunk: Trunk = fold_batch_norm(model.trunk) if folded else model.trunk
        self.projection = nn.Parameter(torch.from_numpy(model.pca.components.copy()))
        self.mean: Tensor
        self.image_mean: Tensor
        self.image_std: Tensor
        self.register_buffer("mean", torch.from_numpy(model.pca.mean.copy()))
        self.register_buffer("image_mean", model.mean)
        self.register_buffer("image_std", model.std)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> (B, C, h, w) features."""
        return self.trunk((images - self.image_mean) / self.image_std)

    def describe(self, features: Tensor) -> Tensor:
        """(N, C) features -> (N, D) unit descriptors, as extraction computes them."""
        return F.normalize((F.normalize(features.float(), dim=1) - self.mean) @ self.projection.T, dim=1)

    def pca(self) -> PCA:
        """The projection in the place of the PCA, turned so that its first components say most (see `finish`)."""
        projection = self.projection.detach().cpu().numpy()
        return PCA(self.mean.cpu().numpy(), projection, np.ones(len(projection), np.float32))
