"""The last step of training: the PCA and the score threshold that a model carries, learnt on training photos.

Where training gave a projection of its own, in the place of the PCA, it is kept and only turned.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, ImageError, OptionError
from delf.features import Delf, ExtractionOptions
from delf.images import read_image
from delf.models import PCA
from delf.network.model import DelfModel
from delf.settings import Options
from delf.training.extraction import extractor_of
from delf.types import FloatArray, ImageArray

WHAT_IS_SEEN = ("scales", "max_image_size", "length_weight")  # options of extraction: which features there are


@dataclass(frozen=True)
class FinishOptions(Options):
    """How a model is finished.

    photos: how many, drawn at random. dimensions: components that are kept; extraction may use fewer of them.
    projection: "pca" learns a PCA; "keep" keeps the projection that the model has, and turns it so that its first
        components say most: no two descriptors change their cosine, and fewer dimensions lose the least.
        "fixed" leaves it as it is, and with it all collections and visual words of the model.
    length_weight: of `ExtractionOptions`, for the model to carry; None leaves what it carries.
    threshold_percentile: of the scores of all cells of all levels; features below it are left out. It thins out what
        says little.
    texture, border: of `ExtractionOptions`, for the model to carry: where a picture shows nothing, and at its border,
        it has no features. The defaults were chosen in `benchmarks/CHOICES.md`, "Texture and border".
    whitening_photos: how many labelled photos the whitening of the global descriptor is learnt from afterwards
        (`training.whitening`); 0 for none.
    """

    photos: int = 600
    dimensions: int = 128
    threshold_percentile: float = 20.0
    projection: str = "pca"
    length_weight: float | None = None
    texture: float = 0.8
    border: float = 8.0
    whitening_photos: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.projection not in ("pca", "keep", "fixed"):
            raise OptionError(f"projection is 'pca', 'keep' or 'fixed', not {self.projection!r}")
        ExtractionOptions(length_weight=self.length_weight or 0.0, texture=self.texture, border=self.border)
        if self.whitening_photos < 0 or self.whitening_photos == 1:
            raise OptionError("whitening_photos is 0 for no whitening, or 2 or more")


def finish(model: DelfModel, photos: Sequence[Path], options: FinishOptions | None = None, *,
           report: Callable[[str], None] = lambda _: None,
           progress: Callable[[int, int], None] = lambda done, total: None) -> DelfModel:
    """A copy of `model` with a PCA learnt on the selected features of photos, and a score threshold.

    Args:
        report: is given a sentence for each photo that could not be read and is left out.
        progress: is given the number of photos done, and of all.

    Raises:
        DelfError: there are fewer features than twice the dimensions.
    """
    options = options or FinishOptions()
    rng = np.random.default_rng(options.seed)
    chosen = [photos[i] for i in sorted(rng.permutation(len(photos))[: options.photos])]
    extraction = dict(model.config.extraction)
    if options.length_weight is not None:
        extraction["length_weight"] = options.length_weight
    extractor = _raw_extractor(model, {name: extraction[name] for name in WHAT_IS_SEEN if name in extraction})
    threshold = _score_threshold(extractor, chosen[:: max(1, len(chosen) // 60)], options.threshold_percentile)
    pca = model.pca
    if pca is None or options.projection != "fixed":
        moments = _moments(extractor, _readable(chosen, report), threshold, lambda done: progress(done, len(chosen)))
        pca = _projection(pca if options.projection == "keep" else None, *moments, options.dimensions)
    extraction |= {"score_threshold": threshold, "texture": options.texture, "border": options.border}
    if len(pca.components) < extraction.get("dimensions", ExtractionOptions().dimensions):
        extraction["dimensions"] = len(pca.components)
    space = model.config.space if options.projection == "fixed" else ""
    config = dataclasses.replace(model.config, extraction=extraction, space=space)
    finished = DelfModel(config, pca, model.whitening)
    finished.load_state_dict(model.state_dict())
    return finished.eval()


def _projection(kept: PCA | None, mean: NDArray[np.float64], covariance: NDArray[np.float64], count: int,
                dimensions: int) -> PCA:
    """The projection of a model in other axes, or a PCA, by the moments of so many features."""
    if count < 2 * dimensions:
        raise DelfError(f"the photos gave {count} features, too few for a PCA of {dimensions} dimensions; give more "
                        "photos")
    if kept is not None:
        return turned(kept, mean, covariance)
    return PCA(mean.astype(np.float32), *principal(covariance, dimensions))


def turned(projection: PCA, mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> PCA:
    """The same projection in other axes: those of its output's second moments, the largest first.

    Args:
        mean, covariance: of the normalised features, (C,) and (C, C).
    """
    components = projection.components.astype(np.float64)
    shift = components @ (mean - projection.mean)
    axes, moments = principal(components @ covariance @ components.T + np.outer(shift, shift), len(components))
    return PCA(projection.mean, np.ascontiguousarray(axes.astype(np.float64) @ components, np.float32), moments)


def principal(covariance: NDArray[np.float64], dimensions: int) -> tuple[FloatArray, FloatArray]:
    """The strongest axes (D, C) of a covariance, and their variances (D,)."""
    variances, vectors = np.linalg.eigh(covariance)
    strongest = np.argsort(-variances, kind="stable")[:dimensions]
    axes = vectors[:, strongest].T
    # An eigenvector's sign is arbitrary; this makes it the same on every machine.
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    return np.ascontiguousarray(axes, np.float32), variances[strongest].astype(np.float32)


def _raw_extractor(model: DelfModel, extraction: dict[str, Any]) -> Delf:
    """An extractor whose descriptors are the L2-normalised features themselves: its PCA is the identity."""
    channels = model.config.channels
    identity = PCA(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), np.ones(channels, np.float32))
    copy = DelfModel(dataclasses.replace(model.config, extraction=extraction), identity)
    copy.load_state_dict(model.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        return extractor_of(copy, Path(folder), dimensions=channels)


def _score_threshold(extractor: Delf, photos: Sequence[Path], percentile: float) -> float:
    every_cell = dataclasses.replace(extractor.options, max_features=1_000_000)
    scores = [features.scores for features in
              Delf(extractor.runtime, every_cell, threads=2).extract_many(_readable(photos))]
    if not any(map(len, scores)):
        return 0.0
    return float(np.percentile(np.concatenate(scores), percentile))


def _readable(photos: Sequence[Path], report: Callable[[str], None] = lambda _: None) -> Iterator[ImageArray]:
    for photo in photos:
        try:
            yield read_image(photo)
        except ImageError as error:
            report(str(error))


def _moments(extractor: Delf, images: Iterator[ImageArray], threshold: float,
             progress: Callable[[int], None]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and covariance of the selected features, summed photo by photo in double precision, and their number."""
    channels = extractor.options.dimensions
    total, products, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for done, features in enumerate(extractor.extract_many(images), start=1):
        vectors = features.descriptors[features.scores >= threshold].astype(np.float64)
        total += vectors.sum(axis=0)
        products += vectors.T @ vectors
        count += len(vectors)
        progress(done)
    mean = total / max(count, 1)
    return mean, products / max(count, 1) - np.outer(mean, mean), count
