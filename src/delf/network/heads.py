"""What sits on the trunk: attention over local features, and pooling into one global descriptor."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.models.regions import regions


class Attention(nn.Module):
    """Scores each cell of a feature map: conv 1x1, ReLU, conv 1x1, softplus (Noh et al., ICCV 2017, section 4.2).

    The reference code has a batch norm behind the first convolution, which the paper does not mention.
    """

    def __init__(self, channels: int, hidden: int = 512, *, batch_norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1, bias=not batch_norm)
        self.bn1 = nn.BatchNorm2d(hidden) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(hidden, 1, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) un-normalised features -> (B, h, w) scores, positive."""
        return F.softplus(self.conv2(F.relu(self.bn1(self.conv1(feature_map))))).squeeze(1)


class Autoencoder(nn.Module):
    """Features -> what is left of them behind a narrow layer (Cao et al., ECCV 2020, section 3.3).

    The narrow layer is the local descriptor. It has no bias, other than the paper's, so that normalised features have
    the same descriptors as the features themselves.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(channels, dimensions, 1, bias=False)
        self.decoder = nn.Conv2d(dimensions, channels, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w) reconstructed features."""
        return F.relu(self.decoder(self.encoder(feature_map)))


class FeatureNorm(nn.Module):
    """The length of each feature, which stands in for attention where none was trained (the paper's ablation)."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, h, w) Euclidean norms."""
        return feature_map.square().sum(dim=1).sqrt()


class GeM(nn.Module):
    """Generalised mean over all positions (Radenovic et al., TPAMI 2019); p = 1 is the average, large p the maximum."""

    def __init__(self, p: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.floor = floor

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) non-negative features -> (B, C)."""
        return feature_map.clamp(min=self.floor).pow(self.p).mean(dim=(2, 3)).pow(1.0 / self.p)


class RMAC(nn.Module):
    """Regional maximum activations (Tolias et al., ICLR 2016): sum of the L2-normalised maxima of square regions.

    Level l = 1..levels has regions of side 2 min(h, w) / (l + 1), spread evenly with at least 40 % overlap; the whole
    map counts as one more region.
    """

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, C)."""
        height, width = feature_map.shape[-2:]
        total = F.normalize(feature_map.amax(dim=(2, 3)), dim=1)
        for top, left, side in regions(height, width, self.levels):
            region = feature_map[:, :, top : top + side, left : left + side]
            total = total + F.normalize(region.amax(dim=(2, 3)), dim=1)
        return total


class MAC(nn.Module):
    """Maximum activations of convolutions (Tolias et al., ICLR 2016): the largest value of each channel."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, C)."""
        return feature_map.amax(dim=(2, 3))


class Projection(nn.Module):
    """What local features are made of the trunk's by a convolution with a bias, averaged over a window before it.

    The autoencoder of DELG has the former alone (Cao et al., ECCV 2020); HOW both (Tolias et al., ECCV 2020).
    """

    def __init__(self, channels: int, dimensions: int, window: int) -> None:
        super().__init__()
        # At an edge the average is of those cells that there are.
        self.smoothing: nn.Module = nn.AvgPool2d(window, 1, window // 2, count_include_pad=False) if window \
            else nn.Identity()
        self.conv = nn.Conv2d(channels, dimensions, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w) features."""
        return self.conv(self.smoothing(feature_map))


POOLINGS: dict[str, Callable[[], nn.Module]] = {"gem": GeM, "rmac": RMAC, "mac": MAC}
