"""From an image to its features: the same steps as the paper's, on a pyramid of resized images."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import PicklingError
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from delf.errors import ImageError, ModelError, OptionError
from delf.features.batching import Batch, in_order, of_one_size
from delf.features.details import find_details
from delf.features.options import ExtractionOptions, default_options
from delf.features.pooling import join_levels, pool_rmac
from delf.features.pyramid import Pyramid
from delf.features.reduction import reduce
from delf.features.rootsift import RootSift, in_original
from delf.features.suppression import suppress
from delf.features.texture import shows_something
from delf.images import ImageSource, is_rgb, read_reduced
from delf.models import DEFAULT_MODEL, PACKAGED, find_model, is_same_model, on_hub
from delf.models.receptive_field import receptive_field
from delf.pools import Pool, available_cores
from delf.runtimes import Runtime, open_runtime
from delf.types import Features, FloatArray, ImageArray, IntArray

LONGEST_SIDE = 16384  # pixels that are turned; OpenCV takes no picture of more than 32,767, and a diagonal is longer


@dataclass(frozen=True, eq=False)
class _Level:
    """Candidates of one level of one image: raw features (N, C), scores (N,), cells (N, 2) as (column, row)."""

    raw: FloatArray
    scores: FloatArray
    cells: IntArray
    global_descriptor: FloatArray
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Work:
    """The work on a batch of images: each level of all of them, and the details of each, if any."""

    levels: list[Future[list[_Level]]]
    details: list[Future[tuple[RootSift, tuple[int, int]]]]


class Delf:
    """The feature extractor: a model in a runtime, with options; an `Extractor` (`delf.extractors`).

        extractor = Delf.load()
        features = extractor.extract(image)

    It may be used by several threads, and in forked processes, and it can be pickled. The features of an image depend
    on the image, the model and the options only.
    """

    knows_attention = True  # without a trained one, the lengths of the features say where they are strong
    knows_turns = False

    def __init__(self, runtime: Runtime, options: ExtractionOptions | None = None, *,
                 threads: int | None = None, model_file: Path | None = None) -> None:
        self.runtime = runtime
        self.model_file = model_file  # beside which its visual words may lie
        self.options = options or default_options(runtime)
        self.threads = threads or available_cores()
        if self.options.dimensions > len(runtime.pca.components):
            raise OptionError(f"the model {runtime.config.name!r} has {len(runtime.pca.components)} dimensions, "
                              f"not {self.options.dimensions}")
        self._field = receptive_field(runtime.config.trunk_layout, stride=runtime.config.stride)
        self._pyramid = Pyramid(runtime.config.resize, self._field, self.options.scales, self.options.max_image_size,
                                self.options.min_image_size)
        self._pool = Pool(self.threads, "delf-extract")

    @classmethod
    def load(cls, model: str | Path = DEFAULT_MODEL, *, runtime: str = "auto", device: str = "cpu",
             threads: int | None = None, **options: Any) -> Self:
        """Load a model by packaged name, file, folder or `hub:owner/name`.

        Args:
            runtime, device: as for `delf.runtimes.open_runtime`.
            threads: how many levels and images are computed at once; by default all cores are used.
            options: fields of `ExtractionOptions` to change, e.g. `dimensions=40`.

        Raises:
            ModelError, OptionError, MissingDependencyError: with a sentence that says what to do.
        """
        opened = open_runtime(model, runtime, device)
        try:
            return cls(opened, replace(default_options(opened), **options), threads=threads,
                       model_file=find_model(model).path)
        except TypeError as error:
            raise OptionError(f"unknown extraction option: {error}") from error

    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Self:
        """As `load`, in the manner of the Hugging Face hub: `owner/name` is a model there, unless it is a path here.

        Raises:
            ModelError, OptionError, MissingDependencyError: with a sentence that says what to do.
        """
        return cls.load(on_hub(model), **options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name or file of the model, its runtime and the options; unpickling loads the model again."""
        if self.model_file is None:
            raise PicklingError("this extractor cannot be pickled, as it was made of a runtime without the file of its "
                                "model: make it with Delf.load")
        return _loaded, (type(self), self.source, self.runtime.name, self.runtime.device, asdict(self.options),
                         self.threads, self.identity["model"])

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({self.name!r}, runtime {self.runtime.name!r}, {self.dimensions} dimensions, "
                f"at most {self.options.max_features:,} features)")

    @property
    def source(self) -> str:
        """What `load`, and the option --model of commands, take to load the model: the name of a packaged one, else the
        path of its file. Of an extractor that was made of a runtime alone, the name that the model has.
        """
        if self.model_file is None:
            return self.runtime.config.name
        return self.model_file.stem if self.model_file.parent == PACKAGED else str(self.model_file.resolve())

    def limited(self, largest_scale: float) -> Delf:
        """The same extractor without the levels above a scale; the smallest level stays in any case."""
        scales = self.options.scales
        return self.changed(scales=tuple(scale for scale in scales if scale <= largest_scale) or (min(scales),))

    def changed(self, **options: Any) -> Delf:
        """The same extractor with other values of some fields of `ExtractionOptions`."""
        other = Delf(self.runtime, replace(self.options, **options), threads=self.threads, model_file=self.model_file)
        other._pool = self._pool  # it has no more to do at once than this one
        return other

    @property
    def identity(self) -> dict[str, Any]:
        """Name and fingerprint of the model, and the options: what must be equal for features to be comparable. Of a
        model that shares the space of another one, also the fingerprint of that.
        """
        config = self.runtime.config
        space = {"space": config.space} if config.space else {}
        return {"model": {"name": config.name, "fingerprint": config.fingerprint, **space},
                "options": json.loads(json.dumps(asdict(self.options)))}

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.runtime.config.name

    @property
    def dimensions(self) -> int:
        """The dimensions of the descriptors."""
        return self.options.dimensions

    @property
    def global_dimensions(self) -> int:
        """The dimensions of the global descriptor."""
        whitening = self.runtime.whitening
        return self.runtime.config.global_channels if whitening is None else len(whitening.projection)

    @property
    def max_features(self) -> int | None:
        """The most features of an image."""
        return self.options.max_features

    @property
    def asked_by(self) -> tuple[str, str]:
        """The option, and its value, by which a command is told to use it."""
        return "--model", self.source

    def weights(self, by_words: bool = False) -> Mapping[str, float]:
        """What a probability is judged by; by_words: with their evidence as well."""
        config = self.runtime.config
        return config.probability_by_words if by_words else config.probability

    def glancing(self, share: float, cells: int, side: int) -> tuple[Delf, int | None]:
        """As `delf.extractors.Extractor.glancing`: the levels up to a scale, and so many cells at most. Levels are
        relative to the photo as the level of scale 1 has it, however small the largest one is.
        """
        largest_scale = share * self.largest_scale
        longest = self.limited(max(1.0, largest_scale)).longest_side
        base = min(side, self.limited(1.0).longest_side or LONGEST_SIDE)
        return self.limited(min(largest_scale, cells * self.stride / base)), longest

    def keeping(self, count: int) -> Delf:
        """The same extractor, which keeps so many features at most, and no details."""
        return self.changed(max_features=count, details=None)

    @property
    def patch_size(self) -> float:
        """The side, in pixels of a level, of the patch that a feature is computed from: its receptive field."""
        return self._field.size

    @property
    def stride(self) -> int:
        """Pixels of a level from one cell of the feature map to the next."""
        return self._field.stride

    @property
    def largest_scale(self) -> float:
        """The scale of the largest level of the pyramid."""
        return max(self.options.scales)

    @property
    def longest_side(self) -> int | None:
        """The longest side, in pixels, of the largest level: more detail than that is not looked at. None where there
        is no limit, and where a photo is to be reduced just as the reference in TensorFlow does it.
        """
        if self.options.max_image_size is None or self.runtime.config.resize == "tensorflow":
            return None
        return math.ceil(self.options.max_image_size * self.largest_scale)

    def extract(self, image: ImageSource, *, image_size: tuple[int, int] | None = None) -> Features:
        """The features of one image, best score first.

        Args:
            image: a path, the bytes of a file, a binary file object, a Pillow image, or an array, as `delf.read_image`
                takes them; an (H, W, 3) uint8 array is taken as it is.
            image_size: (width, height) of the original, if `image` is a reduced copy: keypoints are in its pixels.

        Raises:
            ImageError: it cannot be read.
        """
        if not is_rgb(image):
            image, size = read_reduced(image, shrink_to=self.longest_side)
            image_size = image_size or size
        return next(self._gather([(0, image, image_size)], self._submit([image])))[1]

    def extract_many(self, images: Iterable[ImageArray | tuple[ImageArray, tuple[int, int]]], *,
                     batch_size: int | None = None) -> Iterator[Features]:
        """The features of many images, in their order, with a few batches in flight at a time.

        Args:
            images: images, or pairs of a reduced copy and the original's (width, height).
            batch_size: images of one size are computed together, up to so many, where they come near each other; by
                default 1 on the CPU, where a batch gains nothing, and 8 elsewhere. Nothing is padded: the features are
                the same for any value, up to float rounding.
        """
        batch_size = batch_size or (1 if self.runtime.device == "cpu" else 8)
        sized = ((item, None) if isinstance(item, np.ndarray) else item for item in images)
        return in_order(self._computed(of_one_size(sized, batch_size)))

    def _computed(self, batches: Iterable[Batch]) -> Iterator[tuple[int, Features]]:
        """The features of each image with its number, batch by batch."""
        pending: deque[tuple[Batch, _Work]] = deque()
        for batch in batches:
            pending.append((batch, self._submit([image for _, image, _ in batch])))
            if len(pending) > self.threads:
                yield from self._gather(*pending.popleft())
        for batch, work in pending:
            yield from self._gather(batch, work)

    def attention_map(self, image: ImageArray) -> FloatArray:
        """Where attention is high: (H, W) float32, the mean over the levels of the pyramid, each from 0 to 1.

        The attention of a level is divided by the largest of all levels, so that one where nothing matters stays dark.
        """
        sizes = self.level_sizes(image)
        if not sizes:
            return np.zeros(image.shape[:2], np.float32)
        base = self._pyramid.base(image)
        maps = list(self._pool.map(lambda size: self._attention(base, size), sizes))
        largest = max(float(one.max()) for one in maps) or 1.0
        total = np.zeros(image.shape[:2], np.float32)
        for one, (width, height) in zip(maps, sizes, strict=True):
            rows = self._pyramid.among_cells(image.shape[0], height, one.shape[0])
            columns = self._pyramid.among_cells(image.shape[1], width, one.shape[1])
            total += _interpolated(_interpolated(one / largest, rows).T, columns).T
        return np.asarray(total / len(maps), np.float32)

    def _attention(self, base: ImageArray, size: tuple[int, int]) -> FloatArray:
        pixels = self._pyramid.level(base, size).transpose(2, 0, 1)[None]
        return self.runtime.run(pixels.astype(np.float32)).attention[0]

    def _scored(self, feature_map: FloatArray, attention: FloatArray) -> FloatArray:
        """(C, h, w), (h, w) -> (h, w) scores."""
        weight = self.options.length_weight
        if not weight:
            return attention
        lengths = np.sqrt(np.einsum("chw,chw->hw", feature_map, feature_map, dtype=np.float64))
        positive = np.maximum(attention, 0, dtype=np.float64)  # a softplus may come out as a little less than nothing
        return np.asarray(positive ** (1 - weight) * lengths**weight, np.float32)

    def _submit(self, images: Sequence[ImageArray]) -> _Work:
        """Start on all levels of images of one size, the largest first so that the cores finish together."""
        for image in images:
            if not is_rgb(image):
                raise ImageError(f"an image is an (H, W, 3) uint8 RGB array, not {image.dtype} of shape {image.shape}: "
                                 "read it with delf.read_image")
        sizes = self.level_sizes(images[0])
        bases = [self._pyramid.base(image) for image in images]
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i][0])
        futures = {i: self._pool.submit(self._level, bases, sizes[i]) for i in order}
        most = self.options.details
        details = [] if most is None else [self._pool.submit(find_details, image, most) for image in images]
        return _Work([futures[i] for i in range(len(sizes))], details)

    def level_sizes(self, image: ImageArray) -> list[tuple[int, int]]:
        """(width, height) of each level of the pyramid; none for an image that is too small."""
        return self._pyramid.level_sizes(image.shape[1], image.shape[0])

    def _level(self, bases: Sequence[ImageArray], size: tuple[int, int]) -> list[_Level]:
        resized = [self._pyramid.level(base, size) for base in bases]
        output = self.runtime.run(np.stack([one.transpose(2, 0, 1) for one in resized]).astype(np.float32))
        pooled = output.global_descriptor
        if not pooled.shape[1]:
            pooled = np.stack([pool_rmac(feature_map) for feature_map in output.feature_map])
        return [self._candidates(*outputs) for outputs in
                zip(output.feature_map, output.attention, pooled, resized, strict=True)]

    def _candidates(self, feature_map: FloatArray, attention: FloatArray, global_descriptor: FloatArray,
                    pixels: ImageArray | FloatArray) -> _Level:
        """The cells of one level of one image that may be in the result."""
        scores = self._scored(feature_map, attention).ravel()
        shown = shows_something(pixels, attention.shape, self._field.stride, self.options.texture, self.options.border)
        candidates = np.flatnonzero((scores >= self.options.score_threshold) & shown.ravel())
        if self.options.suppression_iou >= 1.0:  # else any of them may be in the result
            candidates = candidates[np.argsort(-scores[candidates], kind="stable")[: self.options.max_features]]
        rows, columns = np.divmod(candidates, attention.shape[1])
        raw = np.ascontiguousarray(feature_map.reshape(len(feature_map), -1)[:, candidates].T)
        size = (pixels.shape[1], pixels.shape[0])
        return _Level(raw, scores[candidates], np.stack([columns, rows], axis=1), global_descriptor, size)

    def _gather(self, batch: Batch, work: _Work) -> Iterator[tuple[int, Features]]:
        levels, details = [future.result() for future in work.levels], [future.result() for future in work.details]
        for i, (number, image, image_size) in enumerate(batch):
            size = image_size or (image.shape[1], image.shape[0])
            found = self._join([level[i] for level in levels], (image.shape[1], image.shape[0]), size)
            yield number, replace(found, details=in_original(*details[i], size)) if details else found

    def _join(self, levels: Sequence[_Level], given: tuple[int, int], image_size: tuple[int, int]) -> Features:
        """Join the levels of an image: select by score over all of them, then reduce only what was selected.

        given: the size of the image; image_size: of the original.
        """
        if not levels:
            return self._empty(image_size)
        scores = np.concatenate([level.scores for level in levels])
        placed = [self._pyramid.place(level.cells, number, level.size, image_size)
                  for number, level in enumerate(levels)]
        centres, scales = (np.concatenate(arrays) for arrays in zip(*placed, strict=True))
        kept = suppress(centres, scales * self._pyramid.patch_side, scores, self.options.suppression_iou,
                        self.options.max_features)
        keypoints = self._pyramid.in_photo(centres[kept], given, image_size)
        raw = np.concatenate([level.raw for level in levels])[kept]
        descriptors = reduce(raw, self.runtime.pca, self.options.dimensions, whitening=self.options.whitening)
        pooled = np.stack([level.global_descriptor for level in levels])
        return Features(keypoints, scales[kept], scores[kept], descriptors, image_size,
                        join_levels(pooled, self.options.scales, self.runtime.whitening,
                                    self.runtime.config.global_scales))

    def _empty(self, size: tuple[int, int]) -> Features:
        zeros = np.zeros(0, np.float32)
        return Features(zeros.reshape(0, 2), zeros, zeros, zeros.reshape(0, self.options.dimensions), size,
                        np.zeros(self.global_dimensions, np.float32))


def _interpolated(values: FloatArray, places: NDArray[np.float64]) -> FloatArray:
    """(N, M), (L,) rows, possibly between two -> (L, M)."""
    lower = np.floor(places).astype(np.int64)
    share = (places - lower).astype(np.float32)[:, None]
    return np.asarray(values[lower] * (1 - share) + values[np.minimum(lower + 1, len(values) - 1)] * share, np.float32)


def _loaded(kind: type[Delf], model: str, runtime: str, device: str, options: dict[str, Any], threads: int,
            identity: dict[str, str]) -> Delf:
    """Load what `__reduce__` has pickled."""
    made = kind.load(model, runtime=runtime, device=device, threads=threads, **options)
    if not is_same_model(made.identity["model"], identity):
        raise ModelError(f"the model {model!r} is another one here than where the extractor was pickled; get that of "
                         f"the fingerprint {identity['fingerprint'][:12]}")
    return made
