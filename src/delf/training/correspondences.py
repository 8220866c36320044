"""Descriptors from correspondences: points that are known to match are drawn together, against all others.

Beyond the paper. The idea of learning dense local descriptors so is that of UCN (Choy et al., NeurIPS 2016) and of
R2D2 and D2-Net after it; the loss is InfoNCE (van den Oord et al., 2018) both ways. The projection to the descriptor's
dimensions, which starts as the PCA, is trained with the trunk.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from delf.errors import DelfError, OptionError
from delf.files import replacing
from delf.network.model import DelfModel
from delf.settings import Options
from delf.training.describer import Describer
from delf.training.engine import Part
from delf.training.photos import LabelledPhoto, PhotoCache, readable
from delf.training.views import ViewOptions, moved_points, other_light, random_view, warp
from delf.types import FloatArray, ImageArray, IntArray

RATIO, FREE_BYTES = 100, 16 << 20  # of what an archive of correspondences unpacks to: names in UCS-4 shrink well
NEGATIVES = ("points", "dense")


@dataclass(frozen=True)
class CorrespondenceOptions(Options):
    """What a batch of correspondences is, and how it is learnt from.

    photo_pairs are drawn by class, so that no two of a batch show the same landmark.
    same_photo: share of pairs that are two views of one photo. points: at most so many of a pair.
    temperature: cosines are divided by it. near: pixels of the view; what is nearer to a match is no negative of it.
    negatives: "points", the matches of the batch; or "dense", all cells of all views of it besides.
    held_batches: of 8 pairs each, that validation looks at.
    trunk_rate, head_rate: learning rates of the trunk and the projection.
    """

    same_photo: float = 0.2
    points: int = 40
    temperature: float = 0.06
    near: float = 28.0
    negatives: str = "points"
    held_batches: int = 24
    trunk_rate: float = 5e-5
    head_rate: float = 2e-4
    views: ViewOptions = field(default_factory=ViewOptions)

    def __post_init__(self) -> None:
        if self.negatives not in NEGATIVES:
            raise OptionError(f"negatives is one of {', '.join(NEGATIVES)}, not {self.negatives!r}")


def _require_sizes(path: Path) -> None:
    """Compare what the arrays of an archive say of themselves with what is there, before numpy takes memory for it."""
    most = FREE_BYTES + RATIO * path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > most:
            raise ValueError(f"it unpacks to more than {most >> 20} MiB")
        for member in archive.infolist():
            with archive.open(member) as stream:
                if np.lib.format.read_magic(stream) != (1, 0):
                    raise ValueError("its arrays are of another version")
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                    raise ValueError("the size of an array does not fit its header")


@dataclass(frozen=True)
class Correspondences:
    """Verified point matches between photos.

    files: F paths. pairs: (P, 2) rows of files. offsets: (P + 1,) rows of points. points: (M, 4) float32, x0, y0, x1,
    y1 in pixels of the stored photos. classes: F names; where they are not known, photos of a folder are of one class.
    """

    files: list[Path]
    pairs: IntArray
    offsets: IntArray
    points: FloatArray
    classes: list[str] | None = None

    @classmethod
    def read(cls, path: Path, photos: Path) -> Correspondences:
        """Read an `.npz` file with files, pairs, offsets, points (integers, eighths of a pixel) and maybe classes.

        Args:
            photos: the folder that the names of the files are relative to.

        Raises:
            DelfError: the file is missing, damaged, or points where there is nothing.
        """
        try:
            _require_sizes(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                names, pairs, offsets, points = (arrays[key] for key in ("files", "pairs", "offsets", "points"))
                classes = [str(name) for name in arrays["classes"]] if "classes" in arrays.files else None
            pairs, offsets = pairs.astype(np.int64), offsets.astype(np.int64)
            sound = (pairs.ndim == 2 and pairs.shape[1] == 2 and points.ndim == 2 and points.shape[1] == 4
                     and len(offsets) == len(pairs) + 1 and len(pairs) > 0 and offsets[0] == 0
                     and offsets[-1] == len(points) and (np.diff(offsets) >= 0).all()
                     and pairs.min() >= 0 and pairs.max() < len(names)
                     and (classes is None or len(classes) == len(names)))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            raise DelfError(f"{path} cannot be read as a file of correspondences ({error}); make it with "
                            "'delf pairs'") from error
        if not sound:
            raise DelfError(f"{path} is damaged: its arrays do not fit each other; make it with 'delf pairs'")
        return cls([photos / str(name) for name in names], pairs, offsets, points.astype(np.float32) / 8, classes)

    def write(self, path: Path, photos: Path) -> None:
        """Write what `read` reads. Files that do not lie in `photos` are named by their whole path."""
        names = [(file.relative_to(photos) if file.is_relative_to(photos) else file.absolute()).as_posix()
                 for file in self.files]
        arrays: dict[str, Any] = {"files": np.array(names), "pairs": self.pairs.astype(np.int32),
                                  "offsets": self.offsets, "points": np.round(self.points * 8).astype(np.int32)}
        if self.classes is not None:
            arrays["classes"] = np.array(self.classes)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    def of_readable(self, cache: PhotoCache, report: Callable[[str], None]) -> Correspondences:
        """Those between photos that can be decoded; `report` is given a sentence for each other photo.

        Raises:
            DelfError: there are none.
        """
        used = np.unique(self.pairs)
        kept, problems = readable([LabelledPhoto(self.files[row], str(row)) for row in used], cache)
        for sentence in problems:
            report(sentence)
        chosen = np.flatnonzero(np.isin(self.pairs, [int(photo.label) for photo in kept]).all(axis=1))
        if not len(chosen):
            raise DelfError("none of the photos that the correspondences are of can be read; is the folder right that "
                            "their names are relative to?")
        points = [self.matches(int(pair)) for pair in chosen]
        return replace(self, pairs=self.pairs[chosen], offsets=np.cumsum([0, *map(len, points)]),
                       points=np.concatenate(points))

    def matches(self, pair: int) -> FloatArray:
        """(N, 4) float32 of one pair."""
        return self.points[self.offsets[pair] : self.offsets[pair + 1]]

    def labels(self) -> NDArray[np.int64]:
        """(P,) a number for the class of each pair's photos."""
        names = self.classes or [str(file.parent) for file in self.files]
        _, number = np.unique(names, return_inverse=True)
        return number[self.pairs[:, 0]].astype(np.int64)


@dataclass(frozen=True)
class PairBatch:
    """images: (2 B, 3, S, S) uint8, first views and then second ones. points: (N, 2, 2) float32, x and y of each match
    in the first and the second view. pairs: (N,) which pair of the batch each belongs to.
    """

    images: Tensor
    points: Tensor
    pairs: Tensor


class CorrespondenceStage:
    """Stage of `engine.run_stage`: see the module's words.

    Several processes contrast each its own part of a batch: that is another, easier task than the whole batch is.

    Args:
        held: correspondences of classes that are not trained, for validation.
    """

    name = "correspondences"
    guessing = 0.0

    def __init__(self, model: DelfModel, data: Correspondences, batch: int, options: CorrespondenceOptions, *,
                 held: Correspondences | None = None, cache: PhotoCache | None = None, seed: int = 0) -> None:
        self.module = Describer(model)
        self.options, self.size, self.seed = options, batch, seed
        self._data, self._held, self._cache = data, held, cache or PhotoCache()
        self._labels = data.labels()
        self._classes = [np.flatnonzero(self._labels == label) for label in np.unique(self._labels)]
        # Between uniform over pairs and uniform over classes: many pairs of one class say less each.
        weights = np.sqrt([len(pairs) for pairs in self._classes])
        self._weights = weights / weights.sum()

    def groups(self) -> list[dict[str, Any]]:
        """The trunk and the projection have their own rates."""
        return [{"params": list(self.module.trunk.parameters()), "lr": self.options.trunk_rate},
                {"params": [self.module.projection], "lr": self.options.head_rate}]

    def batch(self, step: int, part: Part) -> PairBatch:
        """Pairs of different classes, two views of each."""
        rng = np.random.default_rng((self.seed, step))
        distinct = min(self.size, len(self._classes))
        classes = rng.choice(len(self._classes), distinct, replace=False, p=self._weights)
        chosen = [int(rng.choice(self._classes[classes[i % distinct]])) for i in range(self.size)]
        return self._views(self._data, chosen[part.rank :: part.size],
                           [(self.seed, step, i) for i in range(self.size)][part.rank :: part.size])

    def _views(self, data: Correspondences, chosen: Sequence[int], seeds: Sequence[tuple[int, ...]]) -> PairBatch:
        made = [make_pair(data, pair, self.options, self._cache, np.random.default_rng(seed), self.module.stride)
                for pair, seed in zip(chosen, seeds, strict=True)]
        images = np.stack([*(one for one, _, _ in made), *(other for _, other, _ in made)]).transpose(0, 3, 1, 2)
        points = np.concatenate([points for *_, points in made])
        owners = np.repeat(np.arange(len(made)), [len(points) for *_, points in made])
        return PairBatch(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(points),
                         torch.from_numpy(owners))

    def losses(self, batch: PairBatch, device: torch.device) -> dict[str, Tensor]:
        """InfoNCE both ways, and the share of points whose match comes first."""
        images = batch.images.to(device).float().contiguous(memory_format=torch.channels_last)
        feature_map = self.module(images)
        with torch.autocast(device.type, enabled=False):
            return self._contrast(feature_map.float(), batch.points.to(device), batch.pairs.to(device))

    def _contrast(self, feature_map: Tensor, points: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        options, count, stride = self.options, len(feature_map) // 2, self.module.stride
        sides = [self.module.describe(sample(feature_map[side * count : (side + 1) * count], points[:, side], pairs,
                                             stride)) for side in (0, 1)]
        loss, right = feature_map.new_zeros(()), feature_map.new_zeros(())
        cells: Tensor | None = None
        if options.negatives == "dense":
            cells = self.module.describe(feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1]))
        for side in (0, 1):
            logits = sides[side] @ sides[1 - side].T / options.temperature
            logits = logits.masked_fill(_too_near(points[:, 1 - side], pairs, options.near), -torch.inf)
            if cells is not None:
                others = sides[side] @ cells.T / options.temperature
                near = _near_cells(points, pairs, feature_map.shape, stride, options.near)
                logits = torch.cat([logits, others.masked_fill(near, -torch.inf)], dim=1)
            targets = torch.arange(len(logits), device=logits.device)
            loss = loss + F.cross_entropy(logits, targets) / 2
            right = right + (logits.argmax(dim=1) == targets).float().mean() / 2
        return {"loss": loss, "first": right}

    def validate(self) -> dict[str, float]:
        """Loss and share of first matches on fixed views of the held-out classes."""
        if self._held is None:
            return {}
        device = self.module.mean.device
        rng = np.random.default_rng(0)
        totals: dict[str, list[float]] = {}
        for number in range(self.options.held_batches):
            chosen = rng.integers(len(self._held.pairs), size=8).tolist()
            batch = self._views(self._held, chosen, [(0, number, i) for i in range(8)])
            for name, value in self.losses(batch, device).items():
                totals.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}


def make_pair(data: Correspondences, pair: int, options: CorrespondenceOptions, cache: PhotoCache,
              rng: np.random.Generator, stride: int = 16) -> tuple[ImageArray, ImageArray, FloatArray]:
    """Two views and the (N, 2, 2) points that match between them; N may be 0 where views miss each other.

    stride: of the features that are to be learnt. None lie beyond the last cell.
    """
    one, other = (data.files[row] for row in data.pairs[pair])
    matches = data.matches(pair)
    if rng.random() < options.same_photo:
        other = one
        image = cache.read(one)
        spread = rng.uniform(0, 1, size=(4 * options.points, 2)) * (image.shape[1], image.shape[0])
        matches = np.tile(spread, 2).astype(np.float32)
    # About a match, so that both views show the same part.
    centre = matches[rng.integers(len(matches))] if len(matches) else np.zeros(4, np.float32)
    side, views, points = options.views.side, [], []
    for number, file in enumerate((one, other)):
        view = random_view(centre[2 * number : 2 * number + 2], options.views, rng, turned=number == 1)
        views.append(other_light(warp(cache.read(file), view, side), rng))
        points.append(moved_points(matches[:, 2 * number : 2 * number + 2], view))
    inside = np.stack(points, axis=1)
    inside = inside[((inside >= 0) & (inside <= side - stride / 2)).all(axis=(1, 2))]
    kept = rng.permutation(len(inside))[: options.points]
    return views[0], views[1], inside[kept].astype(np.float32)


def sample(feature_map: Tensor, points: Tensor, rows: Tensor, stride: int = 16) -> Tensor:
    """Features at points, interpolated: (B, C, h, w), (N, 2) pixels, (N,) rows of B -> (N, C).

    Cell i is centred on pixel `stride * i`, as in extraction.
    """
    height, width = feature_map.shape[2:]
    x, y = (points[:, 0] / stride).clamp(0, width - 1), (points[:, 1] / stride).clamp(0, height - 1)
    left, top = x.floor().long().clamp(max=width - 2), y.floor().long().clamp(max=height - 2)
    right_share, bottom_share = (x - left)[:, None], (y - top)[:, None]
    grid = feature_map.permute(0, 2, 3, 1)
    upper = torch.lerp(grid[rows, top, left], grid[rows, top, left + 1], right_share)
    lower = torch.lerp(grid[rows, top + 1, left], grid[rows, top + 1, left + 1], right_share)
    return torch.lerp(upper, lower, bottom_share)


def _too_near(points: Tensor, pairs: Tensor, near: float) -> Tensor:
    """(N, N) whether point j lies so near to point i, in the same view, that it is no negative of it; never itself."""
    close = (torch.cdist(points, points) < near) & (pairs[:, None] == pairs)
    return close.fill_diagonal_(False)


def _near_cells(points: Tensor, pairs: Tensor, shape: torch.Size, stride: int, near: float) -> Tensor:
    """(N, 2 B h w) whether a cell is no negative of a match: it lies near to it, in its first or its second view."""
    count, height, width = shape[0] // 2, shape[2], shape[3]
    rows = torch.arange(height, device=points.device) * stride
    columns = torch.arange(width, device=points.device) * stride
    cells = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2).to(points)
    result = torch.zeros(len(points), 2 * count, height * width, dtype=torch.bool, device=points.device)
    every = torch.arange(len(points), device=points.device)
    for side in (0, 1):
        result[every, side * count + pairs] = torch.cdist(points[:, side], cells) < near
    return result.reshape(len(points), -1)
