"""Stage 1 of the paper, descriptor fine-tuning: classify landmarks from the average of the feature map (section 4.1).

Photos are centre-cropped to a square, resized to `side`, and cropped at random to `crop` pixels. The batch norms are
frozen and folded: with a few thousand photos their ImageNet statistics are better than anything that could be learnt.
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
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm
from delf.network.trunk import Trunk
from delf.settings import Options
from delf.training.engine import Part
from delf.training.photos import LabelledPhoto, PhotoCache, Sampler, centre_square, of_split
from delf.types import ImageArray


@dataclass(frozen=True)
class ClassificationOptions(Options):
    """side: of the square, pixels. crop: of the random part of it that is seen. power: as of `photos.Sampler`."""

    side: int = 250
    crop: int = 224
    power: float = 0.5
    trunk_rate: float = 0.005
    head_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 32 <= self.crop <= self.side:
            raise DelfError(f"crop is 32 or more and at most side, not {self.crop!r} of {self.side!r}")


class Classifier(nn.Module):
    """A folded trunk, global average pooling, and one linear layer over the classes."""

    def __init__(self, model: DelfModel, classes: int) -> None:
        super().__init__()
        self.trunk: Trunk = fold_batch_norm(model.trunk)
        self.head = nn.Linear(model.config.channels, classes)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> (B, classes) logits."""
        return self.head(self.trunk((images - self.mean) / self.std).mean(dim=(2, 3)))


@dataclass(frozen=True)
class LabelledBatch:
    """images: (B, 3, S, S) uint8. labels: (B,) numbers of classes. rows: (B,) of the photos."""

    images: Tensor
    labels: Tensor
    rows: Tensor


class LabelledCrops:
    """Random crops of labelled photos, as every stage that classifies draws them."""

    def __init__(self, photos: list[LabelledPhoto], cache: PhotoCache, batch: int, *, side: int, crop: int,
                 power: float = 0.5, seed: int = 0) -> None:
        self.photos, self.val = of_split(photos, "train"), of_split(photos, "val")
        self.names = sorted({photo.label for photo in self.photos})
        if len(self.names) < 2:
            raise DelfError(f"the training photos are of {len(self.names)} class; classification needs two or more")
        foreign = sorted({photo.label for photo in self.val} - set(self.names))
        if foreign:
            raise DelfError(f"there are photos to validate of classes that are not trained ({', '.join(foreign[:3])})")
        self._number = {name: number for number, name in enumerate(self.names)}
        self.labels = np.array([self._number[photo.label] for photo in self.photos])
        self._sampler = Sampler(self.labels, batch, power=power, seed=seed)
        self._cache, self._side, self._crop, self._seed = cache, side, crop, seed

    def batch(self, step: int, part: Part) -> LabelledBatch:
        """The crops of a step."""
        rows = self._sampler.rows(step)[part.rank :: part.size]
        seeds = [(self._seed, step, item) for item in range(part.rank, len(rows) * part.size + part.rank, part.size)]
        crops = [self.crop(int(row), np.random.default_rng(seed)) for row, seed in zip(rows, seeds, strict=True)]
        return LabelledBatch(_as_tensor(crops), torch.from_numpy(self.labels[rows]), torch.from_numpy(rows))

    def crop(self, row: int, rng: np.random.Generator) -> ImageArray:
        """A random crop of a training photo, mirrored half of the time, in another light."""
        square = centre_square(self._cache.read(self.photos[row].path), self._side)
        top, left = rng.integers(0, self._side - self._crop + 1, size=2)
        patch = square[top : top + self._crop, left : left + self._crop]
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        gain, shift = rng.uniform(0.7, 1.3) * rng.uniform(0.8, 1.2, size=3), rng.uniform(-20, 20)
        return np.clip(patch * gain.astype(np.float32) + np.float32(shift), 0, 255).astype(np.uint8)

    def accuracy(self, module: nn.Module, device: torch.device, batch: int = 32) -> dict[str, float]:
        """The share of photos of `val` whose class comes first, from their centre crop; empty where there are none."""
        margin, right = (self._side - self._crop) // 2, 0
        for start in range(0, len(self.val), batch):
            photos = self.val[start : start + batch]
            crops = [centre_square(self._cache.read(photo.path), self._side)[margin : margin + self._crop,
                                                                             margin : margin + self._crop]
                     for photo in photos]
            labels = torch.tensor([self._number[photo.label] for photo in photos])
            right += int((module(_as_tensor(crops).to(device).float()).argmax(dim=1).cpu() == labels).sum())
        return {"accuracy": right / len(self.val)} if self.val else {}


def _as_tensor(images: list[ImageArray]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


class ClassificationStage:
    """Stage of `engine.run_stage`: fine-tunes the trunk of a model."""

    name = "classification"

    def __init__(self, model: DelfModel, photos: list[LabelledPhoto], cache: PhotoCache, batch: int,
                 options: ClassificationOptions, *, seed: int = 0) -> None:
        self.options = options
        self.data = LabelledCrops(photos, cache, batch, side=options.side, crop=options.crop, power=options.power,
                                  seed=seed)
        torch.manual_seed(seed)
        self.module = Classifier(model, len(self.data.names))
        self.guessing = math.log(len(self.data.names))

    def groups(self) -> list[dict[str, Any]]:
        """The trunk moves less than the new layer on it."""
        return [{"params": list(self.module.trunk.parameters()), "lr": self.options.trunk_rate},
                {"params": list(self.module.head.parameters()), "lr": self.options.head_rate}]

    def batch(self, step: int, part: Part) -> LabelledBatch:
        """Random crops."""
        return self.data.batch(step, part)

    def losses(self, batch: LabelledBatch, device: torch.device) -> dict[str, Tensor]:
        """Softmax cross-entropy, and accuracy on the mini-batch."""
        images = batch.images.to(device).float().contiguous(memory_format=torch.channels_last)
        return classification_losses(self.module(images), batch.labels.to(device))

    def validate(self) -> dict[str, float]:
        """Accuracy on other photos of the training classes."""
        return self.data.accuracy(self.module, self.module.mean.device)


def classification_losses(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """(B, classes), (B,) -> `loss` and `accuracy`."""
    return {"loss": F.cross_entropy(logits.float(), labels),
            "accuracy": (logits.argmax(dim=1) == labels).float().mean()}
