"""The whitening of the global descriptor: learnt once the network is, from photos of the same classes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delf.errors import DelfError, ImageError, OptionError
from delf.images import read_image
from delf.models import Whitening
from delf.network.heads import GeM
from delf.network.model import DelfModel
from delf.settings import Options
from delf.training.extraction import extractor_of
from delf.training.finish import principal
from delf.training.photos import LabelledPhoto
from delf.types import FloatArray, ImageArray, IntArray


@dataclass(frozen=True)
class WhiteningOptions(Options):
    """How a whitening is learnt, as it was best on classes that no training saw (`benchmarks/global_choice.py`).

    photos: how many, drawn at random. partners: photos of its class that each is paired with, at most.
    shrinkage: what is added to how far photos of a class vary, in every direction, as a share of its mean over all.
    smallest_scale: of the levels of the pyramid that are pooled. power: p of GeM pooling, which is set before.
    """

    photos: int = 1200
    partners: int = 6
    shrinkage: float = 0.3
    smallest_scale: float = 0.5
    power: float = 4.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.photos < 2 or self.partners < 1:
            raise OptionError("a whitening needs 2 photos or more, and 1 partner or more for each")
        if not self.shrinkage >= 0 or not self.power > 0:
            raise OptionError("shrinkage is 0 or more, and power above 0")


def learn_whitening(model: DelfModel, photos: Sequence[LabelledPhoto], options: WhiteningOptions | None = None, *,
                    report: Callable[[str], None] = lambda _: None,
                    progress: Callable[[int, int], None] = lambda done, total: None) -> DelfModel:
    """A copy of a finished model with a whitening learnt from labelled photos, in the place of one that it may have.

    Args:
        photos: of the training split. report: is given a sentence for each photo that could not be read and is left
            out. progress: is given the number of photos done, and of all.

    Raises:
        DelfError: no two of the photos are of one class. ModelError: the model has no PCA yet.
    """
    options = options or WhiteningOptions()
    rng = np.random.default_rng(options.seed)
    chosen = [photos[i] for i in sorted(rng.permutation(len(photos))[: options.photos])]
    channels, smallest = model.config.global_channels, np.array([options.smallest_scale], np.float32)
    plain = _copy(model, Whitening(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), smallest))
    if isinstance(plain.pooling, GeM):
        plain.pooling.p.data.fill_(options.power)
    vectors, labels = _descriptors(plain, chosen, report, lambda done: progress(done, len(chosen)))
    pairs = same_class_pairs(labels, options.partners, rng)
    if not len(pairs):
        raise DelfError(f"no two of {len(chosen)} photos are of the same class, so that a whitening cannot be learnt; "
                        "give more photos")
    mean, projection = discriminative(vectors, pairs, options.shrinkage)
    return _copy(plain, Whitening(mean, projection, smallest))


def discriminative(vectors: FloatArray, pairs: IntArray, shrinkage: float) -> tuple[FloatArray, FloatArray]:
    """Mean (G,) and projection (G, G) that make pairs vary alike in all directions, and the whole most in the first.

    The discriminative whitening of Mikolajczyk and Matas (ICCV 2007), as Radenovic et al. (TPAMI 2019) learn it for
    global descriptors: first the inverse square root of the covariance of pairs that match, then a rotation to the
    principal components of all. Shrinkage keeps directions that few pairs vary in from being blown up.

    Args:
        vectors: (N, G) of unit length. pairs: (P, 2) rows of vectors that show the same thing.
    """
    exact = vectors.astype(np.float64)
    differences = exact[pairs[:, 0]] - exact[pairs[:, 1]]
    within = differences.T @ differences / len(pairs)
    # Where all pairs are copies there is nothing to go by, and all directions are left as they are.
    level = np.trace(within) / len(within)
    within += max(shrinkage * level, 1e-9) * np.eye(len(within))
    whitening = np.linalg.inv(np.linalg.cholesky(within))
    mean = exact.mean(axis=0)
    moved = (exact - mean) @ whitening.T
    axes, _ = principal(moved.T @ moved / len(moved), len(within))
    return mean.astype(np.float32), np.ascontiguousarray(axes @ whitening, np.float32)


def same_class_pairs(labels: Sequence[str], partners: int, rng: np.random.Generator) -> IntArray:
    """(P, 2) rows of photos that have the same label: each with so many others of its class, drawn at random."""
    _, numbers = np.unique(np.array(labels, dtype=str), return_inverse=True)
    pairs = []
    for row, number in enumerate(numbers):
        others = np.flatnonzero(numbers == number)
        drawn = rng.permutation(others[others != row])[:partners]
        pairs += [(row, other) for other in drawn.tolist()]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _copy(model: DelfModel, whitening: Whitening) -> DelfModel:
    copy = DelfModel(model.config, model.pca, whitening)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def _descriptors(model: DelfModel, photos: Sequence[LabelledPhoto], report: Callable[[str], None],
                 progress: Callable[[int], None]) -> tuple[NDArray[np.float32], list[str]]:
    """(N, G) global descriptors of the photos that can be read, and their labels."""
    labels: list[str] = []

    def images() -> Iterator[ImageArray]:
        for photo in photos:
            try:
                image = read_image(photo.path)
            except ImageError as error:
                report(str(error))
                continue
            labels.append(photo.label)
            yield image

    vectors = [np.zeros((0, model.config.global_channels))]
    with tempfile.TemporaryDirectory() as folder:
        extractor = extractor_of(model, Path(folder), max_features=1)
        for done, features in enumerate(extractor.extract_many(images()), start=1):
            vectors.append(np.asarray(features.global_descriptor, np.float64)[None])
            progress(done)
    return np.concatenate(vectors).astype(np.float32), labels
