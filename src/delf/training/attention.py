"""Stage 2 of the paper: learn which features matter, by classifying from their attention-weighted sum (section 4.2).

The trunk is frozen, so its feature maps are computed once for each crop and kept, as long as there is room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import DelfError
from delf.images import resize
from delf.network.heads import Attention
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.network.trunk import Trunk
from delf.settings import Options
from delf.training.classification import LabelledCrops, classification_losses
from delf.training.engine import Part
from delf.training.photos import LabelledPhoto, PhotoCache, Sampler

SCALES = (0.25, 0.3536, 0.5, 0.7072, 1.0)


@dataclass(frozen=True)
class AttentionOptions(Options):
    """side, crop, power: as in classification. scales: one is drawn for each mini-batch, and its crops are reduced by
    it. crops: different crops of a photo at each scale. hidden: channels between the two convolutions.
    memory: bytes of feature maps that are kept, in half precision.
    """

    side: int = 900
    crop: int = 720
    power: float = 0.5
    scales: tuple[float, ...] = SCALES
    crops: int = 2
    hidden: int = 512
    rate: float = 0.01
    memory: int = 6 * 2**30

    def __post_init__(self) -> None:
        if not 64 <= self.crop <= self.side or not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise DelfError(f"crop is 64 or more and at most side, and scales are above 0 and at most 1, not "
                            f"{self.crop!r}, {self.side!r} and {self.scales!r}")


class AttentionClassifier(nn.Module):
    """Attention over frozen features, and one linear layer over the classes: y = W sum_n a(f_n) f_n / |f_n|, as the
    mean over n (equation 1; the scores see the features as they are, the sum their normalised form).
    """

    def __init__(self, model: DelfModel, classes: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(model.config.channels, hidden, batch_norm=False)
        self.head = nn.Linear(model.config.channels, classes)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, classes) logits."""
        scores = self.attention(feature_map)
        return self.head((F.normalize(feature_map, dim=1) * scores[:, None]).mean(dim=(2, 3)))


@dataclass(frozen=True)
class CropChoice:
    """rows: (B,) photos. crops: (B,) which crop of each. scale: that of the mini-batch."""

    rows: list[int]
    crops: list[int]
    scale: float


class AttentionStage:
    """Stage of `engine.run_stage`: trains the attention head of a model, whose trunk stays as it is."""

    name = "attention"

    def __init__(self, model: DelfModel, photos: list[LabelledPhoto], cache: PhotoCache, batch: int,
                 options: AttentionOptions, *, seed: int = 0) -> None:
        self.options, self._seed = options, seed
        self._data = LabelledCrops(photos, cache, batch, side=options.side, crop=options.crop, power=options.power,
                                   seed=seed)
        self._sampler = Sampler(self._data.labels, batch, power=options.power, seed=seed)
        torch.manual_seed(seed)
        self.module = AttentionClassifier(model, len(self._data.names), options.hidden)
        self.guessing = math.log(len(self._data.names))
        self._trunk: Trunk = fold_batch_norm(model.trunk).requires_grad_(False)
        self._mean, self._std = model.mean, model.std
        self._kept: dict[tuple[int, int, float], Tensor] = {}
        self._room = options.memory

    def groups(self) -> list[dict[str, Any]]:
        """Both layers learn at one rate."""
        return [{"params": list(self.module.parameters()), "lr": self.options.rate}]

    def batch(self, step: int, part: Part) -> CropChoice:
        """Which crops a step sees; their pixels are needed only where their features are not there yet."""
        rng = np.random.default_rng((self._seed, step, 1))
        rows = self._sampler.rows(step)
        crops = rng.integers(self.options.crops, size=len(rows))
        mine = slice(part.rank, None, part.size)
        return CropChoice(rows[mine].tolist(), crops[mine].tolist(), float(rng.choice(self.options.scales)))

    def losses(self, batch: CropChoice, device: torch.device) -> dict[str, Tensor]:
        """Softmax cross-entropy, and accuracy on the mini-batch."""
        labels = torch.from_numpy(self._data.labels[batch.rows]).to(device)
        return classification_losses(self.module(self._features(batch, device)), labels)

    @torch.no_grad()
    def _features(self, batch: CropChoice, device: torch.device) -> Tensor:
        """(B, C, h, w) of the crops, computed or kept."""
        keys = [(row, crop, batch.scale) for row, crop in zip(batch.rows, batch.crops, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if missing:
            side = max(32, round(self.options.crop * batch.scale))
            crops = [resize(self._data.crop(row, np.random.default_rng((self._seed, row, crop))), (side, side))
                     for row, crop, _ in missing]
            images = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2)).to(device).float()
            images = ((images - self._mean.to(device)) / self._std.to(device)).contiguous(
                memory_format=torch.channels_last)
            for key, feature_map in zip(missing, self._trunk.to(device)(images), strict=True):
                found[key] = feature_map.to("cpu", torch.float16).contiguous()
                if found[key].nbytes <= self._room:
                    self._room -= found[key].nbytes
                    self._kept[key] = found[key]
        return torch.stack([found[key].float() for key in keys]).to(device)

    def validate(self) -> dict[str, float]:
        """Accuracy on other photos of the training classes, at full scale."""
        device = next(self.module.parameters()).device

        def logits(images: Tensor) -> Tensor:
            return self.module(self._trunk((images - self._mean.to(device)) / self._std.to(device)).float())

        return self._data.accuracy(_Function(logits), device)


class _Function(nn.Module):
    """A function in the place of a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        """Whatever the function gives."""
        return self.function(images)
