"""Descriptor fine-tuning: classify landmarks from the average of the feature map (Noh et al., section 4.1).

Photos are centre-cropped to a square, resized to `side`, and cropped at random to `crop` pixels. The batch norms are
frozen and folded: with a few thousand photos their ImageNet statistics are better than anything that could be learnt.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import DelfError
from delf.network.model import DelfModel
from delf.network.resnet import ResNetTrunk, fold_batch_norm, unfold_batch_norm
from delf.training.photos import load_squares, read_manifest
from delf.types import ImageArray


@dataclass(frozen=True)
class ClassificationOptions:
    """How to fine-tune. The learning rates are for a batch of 32 and fall to zero along a half cosine."""

    side: int = 250
    crop: int = 224
    epochs: int = 10
    batch: int = 32
    trunk_rate: float = 0.005
    head_rate: float = 0.05
    weight_decay: float = 1e-4
    clip_norm: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class EpochReport:
    """What one epoch gave: mean training loss, and accuracy on the other photos of the training classes."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float


class Classifier(nn.Module):
    """A folded trunk, global average pooling, and one linear layer over the classes."""

    def __init__(self, model: DelfModel, classes: int) -> None:
        super().__init__()
        self.trunk: ResNetTrunk = fold_batch_norm(model.trunk)
        self.head = nn.Linear(model.config.channels, classes)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> (B, classes) logits."""
        feature_map = self.trunk((images - self.mean) / self.std)
        return self.head(feature_map.mean(dim=(2, 3)))


def fine_tune(model: DelfModel, manifest: Path, options: ClassificationOptions | None = None, *,
              checkpoint: Path | None = None,
              report: Callable[[EpochReport | str], None] = lambda _: None) -> DelfModel:
    """Fine-tune the trunk of `model` on the split `train` of a manifest; accuracy is that on its split `val`.

    Args:
        checkpoint: written after each epoch; where it exists already, training goes on from it.
        report: is given an `EpochReport` after each epoch, and a sentence for each photo that could not be read.

    Returns:
        a new model; the given one is left as it is.

    Raises:
        DelfError: fewer than two classes, a class to validate that is not trained, no photo that can be read, a
            checkpoint that does not fit, or a loss that is not a number.
    """
    options = options or ClassificationOptions()
    squares, labels, names = _load(manifest, "train", options, report)
    val_squares, val_labels, _ = _load(manifest, "val", options, report, names)
    torch.manual_seed(options.seed)
    classifier = Classifier(model, len(names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD([{"params": classifier.trunk.parameters(), "lr": options.trunk_rate},
                                 {"params": classifier.head.parameters(), "lr": options.head_rate}],
                                momentum=0.9, nesterov=True, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(squares) / options.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    first = _resume(checkpoint, classifier, optimizer, schedule)
    for epoch in range(first, options.epochs):
        loss = _train_epoch(classifier, optimizer, schedule, squares, labels, options, epoch)
        report(EpochReport(epoch + 1, options.epochs, loss, _accuracy(classifier, val_squares, val_labels, options)))
        if checkpoint is not None:
            _save(checkpoint, classifier, optimizer, schedule, epoch + 1)
    tuned = DelfModel(dataclasses.replace(model.config), model.pca)
    tuned.trunk.load_state_dict(unfold_batch_norm(classifier.trunk), strict=False)
    return tuned.eval()


def _load(manifest: Path, split: str, options: ClassificationOptions, report: Callable[[EpochReport | str], None],
          names: list[str] | None = None) -> tuple[list[ImageArray], Tensor, list[str]]:
    squares, photos, damaged = load_squares(read_manifest(manifest, split), options.side)
    for sentence in damaged:
        report(sentence)
    if not squares:
        raise DelfError(f"none of the photos with the split {split!r} in {manifest} can be read")
    labels = sorted({photo.label for photo in photos})
    names = names or labels
    if len(names) < 2:
        raise DelfError(f"{manifest} has photos of {len(names)} class; classification needs two or more")
    if not set(labels) <= set(names):
        foreign = ", ".join(sorted(set(labels) - set(names))[:3])
        raise DelfError(f"{manifest} has classes of the split {split!r} that its split 'train' lacks ({foreign})")
    index = {name: i for i, name in enumerate(names)}
    return squares, torch.tensor([index[photo.label] for photo in photos]), names


def _train_epoch(classifier: Classifier, optimizer: torch.optim.Optimizer,
                 schedule: torch.optim.lr_scheduler.LRScheduler, squares: list[ImageArray], labels: Tensor,
                 options: ClassificationOptions, epoch: int) -> float:
    """One pass over the photos in random order; the mean loss."""
    rng = np.random.default_rng((options.seed, epoch))
    order = rng.permutation(len(squares))
    losses = []
    for start in range(0, len(order), options.batch):
        rows = order[start : start + options.batch]
        images = torch.stack([_augment(squares[row], options.crop, rng) for row in rows])
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(images.to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels[rows])
        if not math.isfinite(loss.item()):
            raise DelfError(f"the loss is not a number in epoch {epoch + 1}: lower the learning rates "
                            f"({options.trunk_rate} for the trunk, {options.head_rate} for the head)")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(classifier.parameters(), options.clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _augment(square: ImageArray, crop: int, rng: np.random.Generator) -> Tensor:
    """A random crop, mirrored half of the time, with changed light and contrast: (3, crop, crop) float32 in 0..255."""
    top, left = rng.integers(0, square.shape[0] - crop + 1, size=2)
    patch = square[top : top + crop, left : left + crop]
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    gain, shift = rng.uniform(0.7, 1.3, size=(1, 1, 3)) * rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
    changed = np.clip(patch * gain.astype(np.float32) + np.float32(shift), 0, 255)
    return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)))


@torch.inference_mode()
def _accuracy(classifier: Classifier, squares: list[ImageArray], labels: Tensor,
              options: ClassificationOptions) -> float:
    """The share of photos whose class comes first, from their centre crop."""
    margin = (options.side - options.crop) // 2
    right = 0
    for start in range(0, len(squares), options.batch):
        crops = np.stack([square[margin : margin + options.crop, margin : margin + options.crop]
                          for square in squares[start : start + options.batch]])
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
        right += int((logits.argmax(dim=1) == labels[start : start + options.batch]).sum())
    return right / len(squares)


def _save(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer,
          schedule: torch.optim.lr_scheduler.LRScheduler, epoch: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save({"classifier": classifier.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(), "epoch": epoch}, temporary)
    temporary.replace(path)


def _resume(path: Path | None, classifier: Classifier, optimizer: torch.optim.Optimizer,
            schedule: torch.optim.lr_scheduler.LRScheduler) -> int:
    """Load a checkpoint if there is one; the number of epochs that are done."""
    if path is None or not path.is_file():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        classifier.load_state_dict(state["classifier"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        return int(state["epoch"])
    except Exception as error:  # a zip of pickled tensors fails in many ways
        raise DelfError(f"{path} is damaged, or a checkpoint of other photos or another trunk; delete it to begin "
                        "anew") from error
