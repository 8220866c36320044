"""Local and global features in one training and one pass of the trunk: DELG (Cao et al., ECCV 2020).

The global head learns with the trunk; the local heads see its features with stopped gradients, so that they do not
disturb them.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.models import PCA, ModelConfig
from delf.network.heads import Attention, Autoencoder, GeM
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm, unfold_batch_norm
from delf.network.trunk import Trunk
from delf.settings import Options
from delf.training.classification import LabelledBatch, LabelledCrops
from delf.training.engine import Part
from delf.training.photos import LabelledPhoto, PhotoCache


@dataclass(frozen=True)
class JointOptions(Options):
    """side, crop, power: as in classification. global_dimensions: of the global descriptor. dimensions: of the local
    ones. margin (radians), scale: of ArcFace. conv5: pool conv5, whose weights the trunk must then have.
    attention_weight, reconstruction_weight: of these losses beside the global one.
    """

    side: int = 512
    crop: int = 448
    power: float = 0.5
    global_dimensions: int = 2048
    dimensions: int = 128
    margin: float = 0.1
    scale: float = 45.25
    conv5: bool = False
    hidden: int = 512
    attention_weight: float = 1.0
    reconstruction_weight: float = 10.0
    trunk_rate: float = 0.005
    head_rate: float = 0.01


class ArcFace(nn.Module):
    """Softmax over classes with an angular margin (Deng et al., CVPR 2019)."""

    def __init__(self, dimensions: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimensions))
        nn.init.xavier_uniform_(self.weight)
        self.margin, self.scale = margin, scale

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """(B, D), (B,) -> (B, classes) logits; the angle to the right class is widened by the margin."""
        cosines = F.linear(F.normalize(descriptors), F.normalize(self.weight)).clamp(-1, 1)
        right = cosines.gather(1, labels[:, None])
        widened = right * math.cos(self.margin) - (1 - right.square()).clamp(min=1e-9).sqrt() * math.sin(self.margin)
        # Beyond pi - margin the widened angle would count as a smaller one again: there it stays as it is.
        widened = torch.where(right > math.cos(math.pi - self.margin), widened, right)
        return self.scale * cosines.scatter(1, labels[:, None], widened)


class JointNetwork(nn.Module):
    """The trunk, the global head, and the local heads."""

    def __init__(self, model: DelfModel, classes: int, options: JointOptions) -> None:
        super().__init__()
        channels = model.config.channels
        self.conv5 = options.conv5
        self.trunk: Trunk = fold_batch_norm(model.trunk)
        self.pooling = GeM()
        self.global_layer = nn.Linear(channels * (2 if options.conv5 else 1), options.global_dimensions)
        self.global_classes = ArcFace(options.global_dimensions, classes, options.margin, options.scale)
        self.autoencoder = Autoencoder(channels, options.dimensions)
        self.attention = Attention(channels, options.hidden, batch_norm=False)
        self.local_classes = nn.Linear(channels, classes)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB in 0..255 -> (B, C, h, w) features, (B, G) global descriptors."""
        feature_map = self.trunk((images - self.mean) / self.std)
        top = self.trunk.forward_conv5(feature_map) if self.conv5 else feature_map
        return feature_map, self.global_layer(self.pooling(top.float()))


class JointStage:
    """Stage of `engine.run_stage`: trains trunk, global descriptor, local descriptor and attention together."""

    name = "joint"
    guessing = 0.0  # the sum of three losses has no such value

    def __init__(self, model: DelfModel, photos: list[LabelledPhoto], cache: PhotoCache, batch: int,
                 options: JointOptions, *, seed: int = 0) -> None:
        self.options = options
        self.data = LabelledCrops(photos, cache, batch, side=options.side, crop=options.crop, power=options.power,
                                  seed=seed)
        torch.manual_seed(seed)
        self.module = JointNetwork(model, len(self.data.names), options)

    def groups(self) -> list[dict[str, Any]]:
        """The trunk moves less than the new heads."""
        trunk = list(self.module.trunk.parameters())
        known = set(map(id, trunk))
        heads = [parameter for parameter in self.module.parameters() if id(parameter) not in known]
        return [{"params": trunk, "lr": self.options.trunk_rate}, {"params": heads, "lr": self.options.head_rate}]

    def batch(self, step: int, part: Part) -> LabelledBatch:
        """Random crops."""
        return self.data.batch(step, part)

    def losses(self, batch: LabelledBatch, device: torch.device) -> dict[str, Tensor]:
        """ArcFace on the global descriptor, softmax on the attended features, and the error of the autoencoder."""
        net, options, labels = self.module, self.options, batch.labels.to(device)
        images = batch.images.to(device).float().contiguous(memory_format=torch.channels_last)
        feature_map, descriptors = net(images)
        logits = net.global_classes(descriptors.float(), labels)
        features = feature_map.detach()
        rebuilt = net.autoencoder(features)
        scores = net.attention(rebuilt.detach())
        pooled = (F.normalize(features, dim=1) * scores[:, None]).mean(dim=(2, 3))
        parts = {"global": F.cross_entropy(logits, labels),
                 "attention": F.cross_entropy(net.local_classes(pooled).float(), labels),
                 "reconstruction": F.mse_loss(rebuilt.float(), features.float())}
        loss = (parts["global"] + options.attention_weight * parts["attention"]
                + options.reconstruction_weight * parts["reconstruction"])
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == labels).float().mean(), **parts}

    def validate(self) -> dict[str, float]:
        """Accuracy of the global descriptor on other photos of the training classes."""
        return self.data.accuracy(_GlobalClassifier(self.module), self.module.mean.device)

    def result(self, model: DelfModel) -> DelfModel:
        """The model with the trained weights; the narrow layer of the autoencoder is in the place of the PCA."""
        options, net = self.options, self.module
        config: ModelConfig = dataclasses.replace(
            model.config, conv5=options.conv5, global_dimensions=options.global_dimensions, pooling="gem",
            autoencoder=options.dimensions, attention=True, attention_hidden=options.hidden,
            attention_batch_norm=False)
        encoder = net.autoencoder.encoder.weight.detach().cpu().float()[:, :, 0, 0].numpy()
        pca = PCA(model.mean.new_zeros(config.channels).numpy(), encoder.copy(), encoder.var(axis=1))
        trained = DelfModel(config, pca)
        trained.trunk.load_state_dict(unfold_batch_norm(net.trunk), strict=False)
        for name in ("pooling", "global_layer", "autoencoder", "attention"):
            setattr(trained, name, copy.deepcopy(getattr(net, name)))
        return trained.eval()


class _GlobalClassifier(nn.Module):
    """Images -> cosines to the classes, without the margin."""

    def __init__(self, net: JointNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        return F.linear(F.normalize(self.net(images)[1]), F.normalize(self.net.global_classes.weight))
