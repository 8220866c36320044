"""A cheap model that learns from a dear one: its features of a photo are to be those of its teacher.

Learning from the outputs of another network is the idea of Hinton et al. (2015). Here each cell of a feature map is
an example: the teacher sees a part of a photo at twice the size that the pupil sees it at, and has twice the stride, so
that the two maps have the same cells. No names are needed. What is learnt of each cell is its descriptor, by itself and
against those of other cells, the length of its feature, and the attention that it gets; cells that the teacher would
select count more: by the power `focus` of the score by which it selects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import DelfError, OptionError
from delf.images import resize
from delf.network.heads import Attention
from delf.network.lowrank import begin_from
from delf.network.model import DelfModel
from delf.settings import Options
from delf.training.describer import Describer
from delf.training.engine import Part
from delf.training.photos import LabelledPhoto, PhotoCache, of_split
from delf.training.views import other_light
from delf.types import ImageArray

Key = tuple[int, int, int]
HELD = 1_000_000  # numbers of crops from here on are of photos for validation
VALIDATED = 64  # photos
TRUSTED = 1  # cells from the border of a crop on, where the zeros beyond it are not what is seen most


@dataclass(frozen=True)
class DistillationOptions(Options):
    """What is learnt of a teacher.

    begin: a model by name or file to go on from; "" for one that begins with the weights of its teacher.
    sides: of the crops that the pupil sees, in pixels: of each mini-batch in turn. scales: of the photo that crops are
    of; larger ones follow where a photo would be smaller than a crop. crops: different ones of each photo and side.
    mirrored: share of crops that are. hidden: channels of the attention.
    focus: power of a cell's score that is its weight; 0 makes all cells count alike.
    contrast: weight of the loss by which descriptors are told from others; points: cells of a mini-batch that it looks
    at; temperature: cosines are divided by it. extras: weight of the losses of length and attention.
    other_light: share of crops that the pupil sees in another light than the teacher does.
    memory: bytes of the teacher's features that are kept.
    """

    begin: str = ""
    sides: tuple[int, ...] = (176, 176, 112)
    scales: tuple[float, ...] = (0.25, 0.3536, 0.5, 0.7071, 1.0)
    crops: int = 2
    mirrored: float = 0.5
    hidden: int = 64
    focus: float = 2.0
    contrast: float = 0.3
    points: int = 1024
    temperature: float = 0.06
    extras: float = 0.1
    other_light: float = 0.5
    rate: float = 2e-3
    memory: int = 6 * 2**30

    def __post_init__(self) -> None:
        if not self.sides or any(side < 64 or side % 16 for side in self.sides) or not self.scales \
                or not all(0 < scale <= 1 for scale in self.scales):
            raise OptionError(f"sides are 64 or more and multiples of 16, and scales are above 0 and at most 1, not "
                              f"{self.sides!r} and {self.scales!r}")
        if min(self.crops, self.hidden, self.points) < 1 or not self.temperature > 0 or self.focus < 0:
            raise OptionError("crops, hidden and points are 1 or more, temperature is above 0 and focus 0 or more, not "
                              f"{self.crops!r}, {self.hidden!r}, {self.points!r}, {self.temperature!r} and "
                              f"{self.focus!r}")


class Pupil(Describer):
    """The trunk, the projection and the attention of the cheap model."""

    def __init__(self, model: DelfModel, teacher: DelfModel, hidden: int) -> None:
        super().__init__(DelfModel(model.config, teacher.pca), folded=False)
        self.attention = Attention(model.config.channels, hidden, batch_norm=False)

    def begin_from(self, teacher: DelfModel, pictures: Sequence[Tensor]) -> None:
        """Take the weights with which this trunk comes nearest to its teacher's on (B, 3, H, W) pictures."""
        begin_from(self.trunk, teacher.trunk, [(one - self.image_mean) / self.image_std for one in pictures])

    def go_on_from(self, model: DelfModel) -> None:
        """Take the weights of a model. Raises a `DelfError` where it is none of this kind."""
        own = {key: tensor.shape for key, tensor in self.state_dict().items() if key.startswith(("trunk", "attention"))}
        state = {key: tensor for key, tensor in model.state_dict().items() if key in own}
        fits = {key: tensor.shape for key, tensor in state.items()} == own
        if not fits or model.pca is None or model.pca.components.shape != self.projection.shape:
            raise DelfError(f"{model.config.name} is no model to go on from: it has another trunk, attention or "
                            "projection than the one that is to be trained")
        self.load_state_dict({**self.state_dict(), **state})
        self.projection.data.copy_(torch.from_numpy(model.pca.components))
        self.mean.copy_(torch.from_numpy(model.pca.mean))

    @torch.no_grad()
    def spread_out(self, images: Tensor) -> None:
        """Give batch norms the statistics of what (B, 3, H, W) images bring to them, without changing what is computed.

        In the file of a model they are folded away: as it is trained, it would compute something else.
        """
        def refit(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            shift = norm.bias - gain * norm.running_mean
            norm.running_mean.copy_(inputs[0].mean(dim=(0, 2, 3)))
            norm.running_var.copy_(inputs[0].var(dim=(0, 2, 3)))
            norm.weight.copy_(gain * (norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(shift + gain * norm.running_mean)

        hooks = [module.register_forward_hook(refit) for module in self.trunk.modules()
                 if isinstance(module, nn.BatchNorm2d)]
        self.eval()(images.float())
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class CropBatch:
    """seen: (B, 3, S, S) uint8, by the pupil. keys: of each crop its photo, its number and S. shown: of those that the
    teacher has not seen yet, (3, 2 S, 2 S) uint8. seed: of the draw of cells, so that training that was interrupted
    goes on to the same result.
    """

    seed: int
    seen: Tensor
    keys: list[Key]
    shown: dict[Key, Tensor]


@dataclass(frozen=True)
class _Lesson:
    """What the teacher says of a crop, for each of its N cells.

    descriptors: (N, D) float16. lengths, attention, scores: (N,) logarithms; by its score the teacher selects a cell.
    """

    descriptors: Tensor
    lengths: Tensor
    attention: Tensor
    scores: Tensor


class DistillationStage:
    """Stage of `engine.run_stage`: see the module's words. The pupil's batch norms learn with it."""

    name = "distillation"
    guessing = 0.0

    def __init__(self, model: DelfModel, teacher: DelfModel, photos: list[LabelledPhoto], cache: PhotoCache, batch: int,
                 options: DistillationOptions, *, seed: int = 0) -> None:
        self.options, self._size, self._seed, self._cache = options, batch, seed, cache
        self.teacher = teacher.folded().requires_grad_(False)
        _require_teacher(teacher, model)
        self._photos, self._held = of_split(photos, "train"), of_split(photos, "val")
        torch.manual_seed(seed)
        self.module = Pupil(model, teacher, options.hidden)
        self._lessons: dict[Key, _Lesson] = {}
        self._room = options.memory
        pictures = [self.batch(step, Part()).seen.float() for step in range(len(options.sides))]
        if options.begin:
            self.module.go_on_from(DelfModel.from_pretrained(options.begin))
        else:
            self.module.begin_from(teacher, pictures)
        self.module.spread_out(pictures[0])

    def groups(self) -> list[dict[str, Any]]:
        """All learn at one rate."""
        return [{"params": list(self.module.parameters()), "lr": self.options.rate}]

    def batch(self, step: int, part: Part) -> CropBatch:
        """Each photo in turn, in an order that is another one every time."""
        count = len(self._photos)
        numbers = np.arange(step * self._size, (step + 1) * self._size)[part.rank :: part.size]
        orders = {turn: np.random.default_rng((self._seed, turn)).permutation(count)
                  for turn in np.unique(numbers // count).tolist()}
        side = self.options.sides[step % len(self.options.sides)]
        keys = [(int(orders[number // count][number % count]), int(number // count) % self.options.crops, side)
                for number in numbers.tolist()]
        return self._batch(self._photos, keys, np.random.default_rng((self._seed, step, part.rank, 1)))

    def _batch(self, photos: list[LabelledPhoto], keys: list[Key], rng: np.random.Generator, *,
               other: bool = True) -> CropBatch:
        """other: whether some crops are seen in another light."""
        seed, seen, shown = int(rng.integers(2**31)), [], {}
        for key in keys:
            small, large = self._crop(photos[key[0]], key)
            if key not in self._lessons:
                shown[key] = torch.from_numpy(large.transpose(2, 0, 1).copy())
            seen.append(other_light(small, rng) if other and rng.random() < self.options.other_light else small)
        return CropBatch(seed, torch.from_numpy(np.stack(seen).transpose(0, 3, 1, 2).copy()), keys, shown)

    def _crop(self, photo: LabelledPhoto, key: Key) -> tuple[ImageArray, ImageArray]:
        """A crop of a photo at some scale, and the same at twice that."""
        image, side = self._cache.read(photo.path), key[2]
        rng = np.random.default_rng((self._seed, *key))
        height, width = image.shape[:2]
        scale = max(float(rng.choice(self.options.scales)), side / min(height, width))
        width, height = (max(side, round(length * scale)) for length in (width, height))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        if rng.random() < self.options.mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
        small, large = resize(image, (width, height)), resize(image, (2 * width, 2 * height))
        return (small[top : top + side, left : left + side],
                large[2 * top : 2 * (top + side), 2 * left : 2 * (left + side)])

    def losses(self, batch: CropBatch, device: torch.device) -> dict[str, Tensor]:
        """`loss`, the mean cosine to the teacher's descriptors, weighted by score, and the share of cells whose own
        comes first.
        """
        return self._compared(batch, self._taught(batch, device), device)

    def _compared(self, batch: CropBatch, lessons: list[_Lesson], device: torch.device) -> dict[str, Tensor]:
        options = self.options
        feature_map = self.module(_normal(batch.seen, device))
        attention = self.module.attention(feature_map).float()
        with torch.autocast(device.type, enabled=False):
            features = _inner(feature_map.float()).permute(0, 2, 3, 1).flatten(0, 2)
            own = self.module.describe(features)
            wanted, lengths, attended, scores = (torch.cat([getattr(one, name).to(device).float() for one in lessons])
                                                 for name in ("descriptors", "lengths", "attention", "scores"))
            cosines, weights = (own * wanted).sum(dim=1), _weights(scores, options.focus)
            loss = (weights * (1 - cosines)).mean()
            contrast, first = self._contrast(own, wanted, weights, batch.seed)
            length = F.smooth_l1_loss(_log(features.norm(dim=1)), lengths)
            heeded = F.smooth_l1_loss(_log(_inner(attention[:, None]).flatten()), attended)
            total = loss + options.contrast * contrast + options.extras * (length + heeded)
        return {"loss": total, "cosine": (_weights(scores, 1.0) * cosines).mean().detach(), "first": first,
                "length": length.detach(), "attention": heeded.detach()}

    def _contrast(self, own: Tensor, wanted: Tensor, weights: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """InfoNCE both ways between the pupil's and the teacher's descriptors of cells, drawn by weight."""
        drawn = torch.Generator().manual_seed(seed)
        count = min(self.options.points, len(weights))
        chosen = torch.multinomial(weights.cpu(), count, generator=drawn).to(own.device)
        logits = own[chosen] @ wanted[chosen].T / self.options.temperature
        # Cells that the teacher takes for the same are not told apart.
        alike = (wanted[chosen] @ wanted[chosen].T > 0.8).fill_diagonal_(False)
        logits = logits.masked_fill(alike, -torch.inf)
        targets = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        return loss, (logits.argmax(dim=1) == targets).float().mean()

    @torch.no_grad()
    def _taught(self, batch: CropBatch, device: torch.device) -> list[_Lesson]:
        """What the teacher says of each crop, now or when it saw it first."""
        found = {key: self._lessons[key] for key in batch.keys if key in self._lessons}
        for key in dict.fromkeys(batch.keys):
            if key not in found:
                found[key] = lesson = self._lesson(batch.shown[key], device)
                size = sum(tensor.nbytes for tensor in vars(lesson).values())
                if size <= self._room:
                    self._room -= size
                    self._lessons[key] = lesson
        return [found[key] for key in batch.keys]

    def _lesson(self, image: Tensor, device: torch.device) -> _Lesson:
        teacher = self.teacher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert teacher.pca is not None
        images = (_normal(image[None], device) - teacher.mean) / teacher.std
        feature_map = teacher.trunk(images)
        attention = _inner(teacher.attention(feature_map)[:, None]).flatten()
        features = _inner(feature_map).permute(0, 2, 3, 1).flatten(0, 2)
        mean, components = (torch.from_numpy(array).to(device) for array in (teacher.pca.mean, teacher.pca.components))
        descriptors = F.normalize((F.normalize(features, dim=1) - mean) @ components.T, dim=1)
        share = float(teacher.config.extraction.get("length_weight", 0.0))
        lengths, attended = _log(features.norm(dim=1)), _log(attention)
        scores = share * lengths + (1 - share) * attended
        return _Lesson(descriptors.half().cpu(), lengths.cpu(), attended.cpu(), scores.cpu())

    def validate(self) -> dict[str, float]:
        """The same on a crop of each of some photos of `val`."""
        device, totals = self.module.mean.device, dict[str, list[float]]()
        for start in range(0, min(len(self._held), VALIDATED), 8):
            photos = self._held[start : start + 8]
            keys = [(row, HELD + start, self.options.sides[0]) for row in range(len(photos))]
            batch = self._batch(photos, keys, np.random.default_rng(start), other=False)
            for name, value in self.losses(batch, device).items():
                totals.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}


def _require_teacher(teacher: DelfModel, pupil: DelfModel) -> None:
    """Raise a `DelfError` unless the one can teach the other."""
    wanted = (pupil.config.channels, 2 * pupil.config.stride)
    if teacher.pca is None or (teacher.config.channels, teacher.config.stride) != wanted:
        raise DelfError(f"{teacher.config.name} cannot teach a {pupil.config.trunk}, whose teacher has a PCA, "
                        f"{wanted[0]} channels and a stride of {wanted[1]}")


def _normal(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float().contiguous(memory_format=torch.channels_last)


def _weights(scores: Tensor, focus: float) -> Tensor:
    """The weights of cells with these (N,) logarithms of scores, with a mean of 1."""
    weights = torch.exp(focus * (scores - scores.max()))
    return weights / weights.mean()


def _inner(feature_map: Tensor) -> Tensor:
    """Without the cells at the border."""
    return feature_map[:, :, TRUSTED:-TRUSTED, TRUSTED:-TRUSTED]


def _log(values: Tensor) -> Tensor:
    return torch.log(values.clamp(min=math.exp(-12)))
